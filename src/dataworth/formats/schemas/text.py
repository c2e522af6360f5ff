"""Plain text under `text`, `content` or `raw_content`: every token is trained on."""

from __future__ import annotations

from dataworth.formats.schemas.base import Columns, Schema, wrong
from dataworth.records import Message

NAMES = ("text", "content", "raw_content")


def _problem(columns: Columns) -> str | None:
    name = next((n for n in NAMES if n in columns), "text")
    return None if type(columns.get(name)) is str else wrong(columns, name, "a string")


def _turns(columns: Columns) -> tuple[Message, ...]:
    return ()


def _text(columns: Columns) -> str:
    return str(columns[next(n for n in NAMES if n in columns)])


SCHEMA = Schema("text", "text", ("text",), NAMES, _problem, _turns, _text)
