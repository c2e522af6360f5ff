"""Chat templates rendered with a pinned date, in the sandbox and with the globals transformers gives them.

Rendering is ours because transformers hands templates today's date (Llama 3.x prints it), which would change every
token id, mask and fingerprint from one day to the next.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from dataworth.errors import RequestError
from dataworth.records import Message

PINNED_DATE = datetime(2024, 7, 26)
"""The date every template is shown: Llama 3.2's own default."""

FALLBACK_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
"""For tokenizers without a template: the markup LESS and open-instruct train base models with."""


class TemplateRefused(Exception):
    """The template raised on this row; the message is the template's own."""


class _Generation(Extension):
    """Renders the body of `{% generation %}` as if the tag weren't there: masks come from prefixes, not from tags."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _SafeNamespace(Namespace):
    """A namespace that won't hold underscore names, the way out of the sandbox."""

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise SecurityError(f"templates may not store the attribute {name!r}")
        super().__setitem__(name, value)


class ChatTemplate:
    """One compiled template: messages -> text.

    Args:
        source: Jinja source.
        variables: Special tokens by name (`bos_token`, `eos_token`, ...).

    Raises:
        RequestError: The source is not valid Jinja.
    """

    def __init__(self, source: str, variables: dict[str, str]) -> None:
        self.source = source
        self.variables = variables
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals.update(
            raise_exception=_raise, strftime_now=PINNED_DATE.strftime, namespace=_SafeNamespace, dict=dict
        )
        try:
            self._compiled = environment.from_string(source)
        except TemplateError as error:
            raise RequestError(
                f"the chat template is not valid Jinja ({error}); correct the tokenizer's template"
            ) from error

    def render(self, messages: Sequence[Message], generation_prompt: bool = False) -> str:
        """The text of `messages`, with the header of an assistant turn appended if asked.

        Raises:
            TemplateRefused: The template raised, as some do on system turns or on roles that don't alternate.
        """
        turns = [{"role": m.role, "content": m.content} for m in messages]
        try:
            return self._compiled.render(
                messages=turns,
                tools=None,
                documents=None,
                add_generation_prompt=generation_prompt,
                date_string=PINNED_DATE.strftime("%d %b %Y"),
                **self.variables,
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise TemplateRefused(str(error)) from error


def _raise(message: str) -> str:
    raise TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """JSON without the HTML escapes of Jinja's own filter, as templates written for transformers expect."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)
