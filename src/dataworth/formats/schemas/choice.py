"""Multiple choice: `query` (or `question`), `choices`, and the right one's index in `gold` (or `answer`)."""

from __future__ import annotations

from dataworth.formats.schemas.base import Columns, Schema, not_text, pair, wrong
from dataworth.records import Message


def _names(columns: Columns) -> tuple[str, str]:
    return ("query" if "query" in columns else "question", "gold" if "gold" in columns else "answer")


def _problem(columns: Columns) -> str | None:
    choices = columns.get("choices")
    if type(choices) is not list or not all(isinstance(c, str) for c in choices):
        return wrong(columns, "choices", "a list of strings")
    query, gold = _names(columns)
    problem = not_text(columns, query)
    if problem:
        return problem
    index = columns.get(gold)
    if type(index) is not int:
        return wrong(columns, gold, "the index of a choice")
    if not 0 <= index < len(choices):
        return f"column {gold!r} is {index}, expected the index of one of {len(choices)} choices"
    return None


def _turns(columns: Columns) -> tuple[Message, ...]:
    query, gold = _names(columns)
    return pair(columns[query], columns["choices"][columns[gold]], columns.get("system"))


SCHEMA = Schema(
    "choice",
    "sft",
    ("query", "choices", "gold"),
    ("query", "question", "choices", "gold", "answer", "system"),
    _problem,
    _turns,
)
