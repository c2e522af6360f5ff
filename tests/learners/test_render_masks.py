"""The text that carries loss, by hand, for every mask policy under the three common shapes of chat template."""

from functools import cache

import pytest

pytest.importorskip("transformers")

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.learners.tinymodel import CHATML, tiny_tokenizer

from dataworth.learners.render import Renderer
from dataworth.records import Example, Message

pytestmark = pytest.mark.lm

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MARKUP = {
    "chatml": (CHATML, []),
    "llama3": (LLAMA3, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    "gemma": (GEMMA, ["<start_of_turn>", "<end_of_turn>"]),
    "fallback": (None, []),
}
BOS = "<|endoftext|>"
CONVERSATIONS = ("messages", "sharegpt")
PAIRS = ("alpaca", "prompt_completion", "question_answer", "choice")
MASKS = ("assistant", "axolotl", "llamafactory", "verl", "trl")


@cache
def renderer(name, mask="assistant"):
    template, specials = MARKUP[name]
    tokenizer = tiny_tokenizer(template)
    tokenizer.add_special_tokens({"additional_special_tokens": specials})
    return Renderer(tokenizer, mask)


def row(*turns, schema="messages"):
    return Example("r", "sft", schema, tuple(Message(r, c) for r, c in turns))


def learned(of, example):
    return [text for text, loss in of.describe(example) if loss]


TALK = (("user", "Hi"), ("assistant", "Hello."), ("user", "2+2?"), ("assistant", "4"))
BY_TURN = {
    ("chatml", "assistant"): ["Hello.<|im_end|>", "4<|im_end|>"],
    ("chatml", "llamafactory"): ["Hello.<|im_end|>\n", "4<|im_end|>\n"],
    ("llama3", "assistant"): ["Hello.<|eot_id|>", "4<|eot_id|>"],
    ("llama3", "llamafactory"): ["Hello.<|eot_id|>", "4<|eot_id|>"],
    ("gemma", "assistant"): ["Hello.<end_of_turn>", "4<end_of_turn>"],
    ("gemma", "llamafactory"): ["Hello.<end_of_turn>\n", "4<end_of_turn>\n"],
    ("fallback", "assistant"): ["Hello.<|im_end|>", "4<|im_end|>"],
    ("fallback", "llamafactory"): ["Hello.<|im_end|>\n", "4<|im_end|>\n"],
}
ALL_BUT_FIRST = {
    "chatml": "user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
    "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n",
    "llama3": "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n4<|eot_id|>",
    "gemma": "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
    "<start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n4<end_of_turn>\n",
    "fallback": "|user|>\nHi\n<|assistant|>\nHello.<|im_end|>\n<|user|>\n2+2?\n<|assistant|>\n4<|im_end|>\n",
}
COMPLETION = {
    "chatml": "Hello.<|im_end|>\n",
    "llama3": "Hello.<|eot_id|>",
    "gemma": "Hello.<end_of_turn>\n",
    "fallback": "Hello.<|im_end|>\n",
}
SAME_AS = {"axolotl": "assistant", "verl": "llamafactory"}


@pytest.mark.parametrize("schema", CONVERSATIONS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", MARKUP)
def test_conversations_by_hand(name, mask, schema):
    expected = [ALL_BUT_FIRST[name]] if mask == "trl" else BY_TURN[name, SAME_AS.get(mask, mask)]
    assert learned(renderer(name, mask), row(*TALK, schema=schema)) == expected


@pytest.mark.parametrize("schema", PAIRS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", MARKUP)
def test_pairs_by_hand(name, mask, schema):
    expected = COMPLETION[name] if mask == "trl" else BY_TURN[name, SAME_AS.get(mask, mask)][0]
    assert learned(renderer(name, mask), row(*TALK[:2], schema=schema)) == [expected]


@pytest.mark.parametrize("mask", MASKS)
def test_trl_of_a_pair_with_earlier_turns_starts_at_the_first_answer(mask):
    got = learned(renderer("chatml", mask), row(*TALK, schema="alpaca"))
    if mask == "trl":
        tail = "\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
        assert got == ["Hello.<|im_end|>" + tail]
    else:
        assert got == BY_TURN["chatml", SAME_AS.get(mask, mask)]


SYSTEM_AND_TOOL = (
    ("system", "Use tools."),
    ("user", "Weather?"),
    ("assistant", '{"name": "weather"}'),
    ("tool", "rain"),
    ("assistant", "It rains."),
)


@pytest.mark.parametrize("mask", [m for m in MASKS if m != "trl"])
@pytest.mark.parametrize(
    ("name", "end"), [("chatml", "<|im_end|>"), ("llama3", "<|eot_id|>"), ("fallback", "<|im_end|>")]
)
def test_system_and_tool_turns_are_context(name, end, mask):
    line = "\n" if mask in ("llamafactory", "verl") and name != "llama3" else ""
    got = learned(renderer(name, mask), row(*SYSTEM_AND_TOOL))
    assert got == [f'{{"name": "weather"}}{end}{line}', f"It rains.{end}{line}"]


def test_a_strict_template_refuses_system_tool_and_repeated_turns_with_its_own_words():
    strict = renderer("gemma")
    assert strict.encode(row(*SYSTEM_AND_TOOL)).reason == "the chat template refuses the row: System role not supported"
    twice = row(("user", "a"), ("user", "b"), ("assistant", "c"))
    assert "must alternate" in strict.encode(twice).reason and not strict.encode(twice).supervised.any()
    opening = strict.encode(row(("assistant", "c"), ("user", "a")))
    assert "must alternate" in opening.reason
    assert strict.encode(row()).reason == "the row has no turns"


def test_consecutive_answers_are_each_learned():
    got = learned(renderer("chatml"), row(("user", "a"), ("assistant", "b"), ("assistant", "c")))
    assert got == ["b<|im_end|>", "c<|im_end|>"]


@pytest.mark.parametrize("mask", [m for m in MASKS if m != "trl"])
def test_an_empty_answer_among_others_teaches_its_end_only(mask):
    got = learned(renderer("chatml", mask), row(("user", "a"), ("assistant", ""), ("user", "b"), ("assistant", "c")))
    line = "\n" if mask in ("llamafactory", "verl") else ""
    assert got == [f"<|im_end|>{line}", f"c<|im_end|>{line}"]


def test_an_answer_that_repeats_its_prompt_or_an_earlier_answer_is_found_in_its_own_place():
    turns = (("user", "yes"), ("assistant", "yes"), ("user", "assistant"), ("assistant", "yes"))
    pieces = renderer("chatml").describe(row(*turns))
    assert [t for t, loss in pieces if loss] == ["yes<|im_end|>", "yes<|im_end|>"]
    assert pieces[0] == ("<|im_start|>user\nyes<|im_end|>\n<|im_start|>assistant\n", False)


@pytest.mark.parametrize("name", MARKUP)
def test_the_beginning_token_stands_there_once_and_is_never_a_target(name):
    of = renderer(name)
    encoded = of.encode(row(*TALK))
    bos = of._backend.token_to_id(BOS)
    assert encoded.input_ids.tolist().count(bos) == (1 if name in ("llama3", "gemma") else 0)
    assert not encoded.supervised[0] and encoded.targets == len(of._backend.encode("Hello.").ids) + 1 + 1 + 1


def adding_bos():
    """A tokenizer whose own post-processor adds the beginning token, as Llama's does."""
    from tokenizers.processors import TemplateProcessing

    def build(template):
        tokenizer = tiny_tokenizer(template)
        bos = (BOS, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[bos]
        )
        return tokenizer

    return build


@pytest.mark.parametrize("template", ["{{ bos_token }}" + CHATML, None])
def test_a_tokenizer_that_adds_bos_does_not_double_the_templates(template):
    tokenizer = adding_bos()(template)
    encoded = Renderer(tokenizer).encode(row(*TALK))
    assert encoded.input_ids.tolist().count(tokenizer.bos_token_id) == 1
    assert encoded.input_ids[0] == tokenizer.bos_token_id and not encoded.supervised[0]


def test_plain_text_gets_bos_only_where_the_tokenizer_adds_it_and_one_end():
    plain, adding = tiny_tokenizer(), adding_bos()(CHATML)
    text = Example("t", "text", "text", text="abc")
    without, with_bos = Renderer(plain).encode(text), Renderer(adding).encode(text)
    assert with_bos.input_ids.tolist() == [adding.bos_token_id, *without.input_ids.tolist()]
    assert with_bos.supervised.tolist() == [False, True, True, True, True]
    assert without.input_ids.tolist().count(plain.eos_token_id) == 1


@pytest.mark.parametrize("mask", MASKS)
def test_plain_text_is_the_same_under_every_mask(mask):
    assert learned(Renderer(tiny_tokenizer(), mask), Example("t", "text", "text", text="abc")) == ["bc<|im_end|>"]


@pytest.mark.parametrize("kind", ["preference", "rl"])
def test_rows_without_an_answer_of_their_own_are_refused(kind):
    encoded = Renderer(tiny_tokenizer()).encode(Example("p", kind, kind, (Message("user", "x"),)))
    assert encoded.reason == f"a {kind} row has no answer to learn from" and len(encoded) == 0


WORDS = st.text(st.sampled_from("ab \n.é🙂\u200b\u0301<|>"), min_size=1, max_size=12)


@settings(max_examples=250, derandomize=True)
@given(st.data())
def test_pieces_join_to_the_rendered_text_and_targets_decode_to_the_answers(data):
    name = data.draw(st.sampled_from(["chatml", "llama3", "gemma"]))
    mask = data.draw(st.sampled_from(["assistant", "verl"]))
    count = data.draw(st.integers(1, 3))
    turns = [(role, data.draw(WORDS)) for _ in range(count) for role in ("user", "assistant")]
    of, example = renderer(name, mask), row(*turns)
    encoded, pieces = of.encode(example), of.describe(example)
    assert "".join(text for text, _ in pieces) == of.template.render(example.messages)
    if not any(c.strip() for r, c in turns if r == "assistant"):
        assert encoded.reason == "every assistant turn is empty"
        return
    assert encoded.reason == ""
    end = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}[name]
    trim = name != "chatml"
    answers = [(c.strip() if trim else c) + end for r, c in turns if r == "assistant"]
    line = "\n" if mask == "verl" and name != "llama3" else ""
    decoded = of._backend.decode(encoded.input_ids[encoded.supervised].tolist(), skip_special_tokens=False)
    wanted = "".join(a + line for a in answers)
    # A line break that merges with the header's own ("\n\n" is one token) is learned with the answer.
    assert decoded == wanted or decoded.split() == wanted.split()


def test_a_trimmed_answer_is_found_in_its_own_place_and_not_where_its_untrimmed_text_comes_later():
    turns = (("user", "2+2?"), ("assistant", "4\n"), ("user", "Show:\n2+2=\n4\nRight?"), ("assistant", "Yes."))
    assert learned(renderer("gemma"), row(*turns)) == ["4<end_of_turn>", "Yes.<end_of_turn>"]
    blank = (("user", "a"), ("assistant", "\n"), ("user", "b"), ("assistant", "c"))
    assert learned(renderer("gemma"), row(*blank)) == ["<end_of_turn>", "c<end_of_turn>"]
