"""Preference rows: `chosen` and `rejected`, or `prompt`, `completion` and a true or false `label`.

Sides are strings or lists of turns; the `prompt` of a pair is explicit or stands in both sides. The turns are
those of the chosen side, or of the one completion; the rejected side and the label stay in the row.
"""

from __future__ import annotations

from dataworth.formats.schemas.base import Columns, Schema
from dataworth.formats.schemas.prompt_completion import side_problem, side_turns
from dataworth.records import Message


def _unpaired(columns: Columns) -> bool:
    return "chosen" not in columns and "completion" in columns and type(columns.get("label")) is bool


def _problem(columns: Columns) -> str | None:
    if _unpaired(columns):
        return side_problem(columns, "prompt") or side_problem(columns, "completion")
    problem = side_problem(columns, "chosen") or side_problem(columns, "rejected")
    if problem or columns.get("prompt") is None:
        return problem
    return side_problem(columns, "prompt")


def _turns(columns: Columns) -> tuple[Message, ...]:
    prompt = columns.get("prompt")
    turns = side_turns(columns["completion" if _unpaired(columns) else "chosen"], "assistant")
    if prompt is None:
        return turns
    before = side_turns(prompt, "user")
    # Some sets repeat the prompt inside the chosen conversation.
    return turns if turns[: len(before)] == before else before + turns


SCHEMA = Schema(
    "preference",
    "preference",
    ("chosen", "rejected"),
    ("prompt", "chosen", "rejected", "completion", "label"),
    _problem,
    _turns,
)
