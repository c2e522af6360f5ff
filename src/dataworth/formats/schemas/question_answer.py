"""`question` and `answer` strings: fine-tuning rows unless the task is rl (GSM8K serves as both)."""

from __future__ import annotations

from dataworth.formats.schemas.base import Columns, Schema, not_text, pair
from dataworth.records import Message


def _problem(columns: Columns) -> str | None:
    return not_text(columns, "question", "answer")


def _turns(columns: Columns) -> tuple[Message, ...]:
    return pair(columns["question"], columns["answer"], columns.get("system"))


SCHEMA = Schema(
    "question_answer",
    "sft",
    ("question", "answer"),
    ("question", "answer", "system"),
    _problem,
    _turns,
)
