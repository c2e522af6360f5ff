"""`prompt` and `completion`, each a string or a list of {role, content}, with an optional `system` string."""

from __future__ import annotations

from typing import Any

from dataworth.formats.schemas.base import Columns, Schema, read_turns, turns_problem, wrong
from dataworth.records import Message


def side_problem(columns: Columns, name: str) -> str | None:
    """Why one side is neither a string nor a list of turns."""
    side = columns.get(name)
    if type(side) is str:
        return None
    if isinstance(side, list):
        return turns_problem(side, name, "role", "content")
    return wrong(columns, name, "a string or a list of turns")


def side_turns(side: Any, role: str) -> tuple[Message, ...]:
    """One side as messages; a string is one turn of `role`."""
    return (Message(role, side),) if isinstance(side, str) else read_turns(side, "role", "content")


def _problem(columns: Columns) -> str | None:
    return side_problem(columns, "prompt") or side_problem(columns, "completion")


def _turns(columns: Columns) -> tuple[Message, ...]:
    turns = side_turns(columns["prompt"], "user") + side_turns(columns["completion"], "assistant")
    system = columns.get("system")
    return (Message("system", system), *turns) if isinstance(system, str) and system else turns


SCHEMA = Schema(
    "prompt_completion",
    "sft",
    ("prompt", "completion"),
    ("prompt", "completion", "system"),
    _problem,
    _turns,
)
