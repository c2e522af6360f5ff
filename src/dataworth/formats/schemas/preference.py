"""Preference pairs: `chosen` and `rejected` (strings or lists of turns), the `prompt` explicit or in both.

The turns are those of the chosen side; the rejected side stays in the row.
"""

from __future__ import annotations

from dataworth.formats.schemas.base import Columns, Schema
from dataworth.formats.schemas.prompt_completion import side_problem, side_turns
from dataworth.records import Message


def _problem(columns: Columns) -> str | None:
    problem = side_problem(columns, "chosen") or side_problem(columns, "rejected")
    if problem or columns.get("prompt") is None:
        return problem
    return side_problem(columns, "prompt")


def _turns(columns: Columns) -> tuple[Message, ...]:
    prompt = columns.get("prompt")
    turns = side_turns(columns["chosen"], "assistant")
    if prompt is None:
        return turns
    before = side_turns(prompt, "user")
    # Some sets repeat the prompt inside the chosen conversation.
    return turns if turns[: len(before)] == before else before + turns


SCHEMA = Schema(
    "preference",
    "preference",
    ("chosen", "rejected"),
    ("prompt", "chosen", "rejected"),
    _problem,
    _turns,
)
