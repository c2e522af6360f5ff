"""Chat templates: what transformers gives them they get, what the sandbox forbids they don't."""

import pytest

pytest.importorskip("transformers")

from tests.learners.tinymodel import tiny_tokenizer

from dataworth.errors import RequestError
from dataworth.learners.template import ChatTemplate, TemplateRefused
from dataworth.records import Message

pytestmark = pytest.mark.lm
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
TURNS = (Message("user", "Ünï <b>&\n'x' \"y\""), Message("assistant", "ok"), Message("user", "bye"))


def render(source, turns=TURNS, **options):
    return ChatTemplate(source, VARIABLES).render(turns, **options)


SAME_AS_TRANSFORMERS = {
    "json": "{{ messages[0] | tojson }}|{{ messages[0]['content'] | tojson(indent=2) }}",
    "trimmed blocks": "{% for m in messages %}\n  {% if m.role %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}",
    "loop controls": "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{{ m.role }}{% endfor %}",
    "break": "{% for m in messages %}{{ m.role }}{% break %}{% endfor %}",
    "namespaces": "{% set n = namespace(x=0) %}{% for m in messages %}{% set n.x = n.x + 1 %}{% endfor %}{{ n.x }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "undefined": "{{ nothing }}{% if tools is defined and tools %}tools{% endif %}{{ documents is none }}",
    "slices and filters": "{{ messages[1:] | length }}{{ messages[0].content | upper }}{{ messages[::-1][0].role }}",
    "prompt": "{{ messages | length }}{% if add_generation_prompt %}go{% endif %}",
    "string methods": "{{ messages[0].content.split('<b>')[-1].lstrip('\n') }}",
}


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("name", SAME_AS_TRANSFORMERS)
def test_templates_see_what_transformers_shows_them(name, prompt):
    source = SAME_AS_TRANSFORMERS[name]
    turns = [{"role": m.role, "content": m.content} for m in TURNS]
    theirs = tiny_tokenizer(source).apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    assert render(source, generation_prompt=prompt) == theirs


ESCAPES = {
    "classes": "{{ messages.__class__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['os'] }}",
    "namespaces": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "lists": "{{ messages.append(1) }}",
    "dicts": "{{ messages[0].update({'role': 'assistant'}) }}",
    "format": "{{ '{0.__class__}'.format(messages) }}x{{ nothing.y }}",
}


@pytest.mark.parametrize("name", ESCAPES)
def test_the_sandbox_holds(name):
    with pytest.raises(TemplateRefused):
        render(ESCAPES[name])


FAULTS = {
    "its own words": ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    "a missing turn": ("{{ messages[9].content }}", "no element 9"),
    "arithmetic": ("{{ 1 % 0 }}", "zero"),
    "endless ranges": ("{% for i in range(10**9) %}{% endfor %}", "[Rr]ange"),
    "types": ("{{ messages[0].content + 1 }}", "str"),
    "an unknown filter's value": ("{{ 'x' | int(base=99) }}{{ messages | dictsort }}", "items"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_a_template_raises_is_a_refusal_of_the_row(name):
    source, words = FAULTS[name]
    with pytest.raises(TemplateRefused, match=words):
        render(source)


@pytest.mark.parametrize("source", ["{% if %}", "{{ unclosed", "{{ x | nosuchfilter }}", "{% generation %}open"])
def test_templates_that_do_not_compile_are_wrong_requests(source):
    with pytest.raises(RequestError, match="not valid Jinja"):
        ChatTemplate(source, VARIABLES)


def test_special_tokens_date_and_turns_reach_the_template_and_turns_stay_as_they_were():
    text = render("{{ bos_token }}{{ strftime_now('%Y') }}{{ date_string }}{{ messages[0].role }}{{ eos_token }}")
    assert text == "<s>202426 Jul 2024user</s>"
    assert TURNS[0].role == "user" and render("{{ bos_token }}", ()) == "<s>"
