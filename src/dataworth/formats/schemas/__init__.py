"""The schema families, in the order in which they are tried on a file's first rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from dataworth.errors import FormatError
from dataworth.formats.schemas import (
    alpaca,
    choice,
    labelled,
    messages,
    preference,
    prompt_completion,
    question_answer,
    rl,
    sharegpt,
    text,
)
from dataworth.formats.schemas.base import Columns, Schema

Task = Literal["sft", "rl", "classify"]

ORDER: tuple[Schema, ...] = (
    preference.SCHEMA,
    rl.SCHEMA,
    choice.SCHEMA,
    question_answer.SCHEMA,
    messages.SCHEMA,
    sharegpt.SCHEMA,
    prompt_completion.SCHEMA,
    alpaca.SCHEMA,
    text.SCHEMA,
    labelled.IMAGE,
    labelled.VECTOR,
)
LABELLED = (labelled.IMAGE, labelled.VECTOR, labelled.TEXT)
ROLES = tuple(dict.fromkeys([*(role for schema in (*ORDER, *LABELLED) for role in schema.roles), "source"]))


def order_for(task: Task | None) -> tuple[Schema, ...]:
    """The order of detection; a task settles rows that could serve as either, `classify` texts with a label."""
    if task == "classify":
        return LABELLED
    asked = tuple(s for s in ORDER if task is None or s not in LABELLED)
    if task == "rl":
        return (preference.SCHEMA, rl.ASKED_FOR, *asked[2:])
    return tuple(s for s in asked if s is not rl.SCHEMA) if task == "sft" else asked


def implied(row: Columns) -> str | None:
    """The schema that a row's columns tell by themselves: the first of the order it belongs to, if any."""
    return next((s.name for s in ORDER if s.problem(row) is None), None)


_CALLED = {
    "prompt": ("prompt", "instruction", "question", "query", "input", "problem", "inputs"),
    "completion": ("completion", "response", "output", "answer", "solution", "target", "reply", "targets"),
}
"""What other people's files call a prompt and its answer: only ever proposed, never taken without `--map`."""


def choose(rows: Sequence[Columns], order: Sequence[Schema], path: Any) -> Schema:
    """The first schema in the order that at least half of the rows belong to.

    Raises:
        FormatError: None does; the message names the columns found, the nearest schema's objection if any schema
            shares a column, and a mapping to try.
    """
    for schema in order:
        if 2 * sum(schema.problem(row) is None for row in rows) >= len(rows):
            return schema
    if labelled.IMAGE in order and labelled.holds_arrays(rows[0]):
        raise FormatError(f"{path}: {labelled.unclear(rows)}")
    found = list(dict.fromkeys(name for row in rows for name in row))
    # As many columns in common is as near: then supervised pairs, which most files hold, and the plainest of those.
    nearest = max(order, key=lambda s: (sum(name in found for name in s.required), s.kind == "sft", -len(s.required)))
    near = ""
    if any(name in found for name in nearest.required):
        near = f" (nearest: {nearest.name}, but {next(p for p in map(nearest.problem, rows) if p)})"
    roles = {role: next((name for name in names if name in found), "COLUMN") for role, names in _CALLED.items()}
    if "label" in nearest.required:
        roles = {role: role if role in found else "COLUMN" for role in nearest.required}
    raise FormatError(
        f"{path}: no known schema in columns {', '.join(found[:20]) or '(none)'}{near}; expected one of "
        f"{', '.join(s.name for s in order)}; say which column is what, every role at once, e.g. --map "
        f"{' '.join(f'{role}={column}' for role, column in roles.items())} (--goal-map for a pool's goal)"
    )
