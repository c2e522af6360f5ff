"""OpenAI-style conversations: a list of {role, content} under `messages` or one of its common other names."""

from __future__ import annotations

from dataworth.formats.schemas.base import Columns, Schema, read_turns, turns_problem
from dataworth.records import Message

NAMES = ("messages", "conversations", "conversation", "dialog")


def _column(columns: Columns) -> str | None:
    return next((n for n in NAMES if n in columns), None)


def _problem(columns: Columns) -> str | None:
    name = _column(columns)
    if name is None:
        return "column 'messages' is missing"
    return turns_problem(columns[name], name, "role", "content")


def _turns(columns: Columns) -> tuple[Message, ...]:
    return read_turns(columns[_column(columns) or "messages"], "role", "content")


SCHEMA = Schema("messages", "sft", ("messages",), NAMES, _problem, _turns)
