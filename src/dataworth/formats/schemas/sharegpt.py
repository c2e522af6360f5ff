"""ShareGPT conversations: a list of {from, value}, with an optional `system` column."""

from __future__ import annotations

from dataworth.formats.schemas.base import Columns, Schema, read_turns, turns_problem
from dataworth.records import Message

NAMES = ("conversations", "conversation", "messages", "dialog")


def _column(columns: Columns) -> str | None:
    return next((n for n in NAMES if n in columns), None)


def _problem(columns: Columns) -> str | None:
    name = _column(columns)
    if name is None:
        return "column 'conversations' is missing"
    return turns_problem(columns[name], name, "from", "value")


def _turns(columns: Columns) -> tuple[Message, ...]:
    turns = read_turns(columns[_column(columns) or "conversations"], "from", "value")
    system = columns.get("system")
    return (Message("system", system), *turns) if isinstance(system, str) and system else turns


SCHEMA = Schema("sharegpt", "sft", ("conversations",), (*NAMES, "system"), _problem, _turns)
