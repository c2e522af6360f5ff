"""Alpaca rows: `instruction`, `output`, optionally `input`, and LLaMA-Factory's `system` and `history`.

The prompt is the instruction and, if there is one, the input on the next line, as LLaMA-Factory joins them.
"""

from __future__ import annotations

from typing import Any

from dataworth.formats.schemas.base import Columns, Schema, not_text, pair, wrong
from dataworth.records import Message


def _problem(columns: Columns) -> str | None:
    problem = not_text(columns, "instruction", "output")
    if problem:
        return problem
    if columns.get("input") is not None and not isinstance(columns["input"], str):
        return wrong(columns, "input", "a string")
    if not _is_history(columns.get("history")):
        return wrong(columns, "history", "a list of [question, answer] pairs")
    return None


def _is_history(history: Any) -> bool:
    if history is None:
        return True
    return isinstance(history, list) and all(
        isinstance(h, list) and len(h) == 2 and all(isinstance(t, str) for t in h) for h in history
    )


def _turns(columns: Columns) -> tuple[Message, ...]:
    prompt = columns["instruction"]
    if columns.get("input"):
        prompt = f"{prompt}\n{columns['input']}"
    earlier = [m for asked, answered in columns.get("history") or () for m in pair(asked, answered)]
    turns = pair(prompt, columns["output"], columns.get("system"))
    return (*turns[:-2], *earlier, *turns[-2:])


SCHEMA = Schema(
    "alpaca",
    "sft",
    ("instruction", "output"),
    ("instruction", "input", "output", "system", "history"),
    _problem,
    _turns,
)
