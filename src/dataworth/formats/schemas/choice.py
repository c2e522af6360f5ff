"""Multiple choice: `query` (or `question`), `choices`, and which of them is right in `gold` (or `answer`).

Choices may be a list of strings, `{"text": [...], "label": [...]}` (ARC), a list of `{"text", "label"}`, an object of
letter -> text, or several columns side by side by a mapping (`choices=A+B+C+D`). Gold is an index counted from 0 (a
number, or digits), a label, a letter, or the right choice's own text; where two readings of it name different choices
the row is refused.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from dataworth.formats.schemas.base import Columns, Schema, not_text, pair, wrong
from dataworth.records import Message

Listed = tuple[tuple[str, ...], tuple[str, ...]]


def _names(columns: Columns) -> tuple[str, str]:
    return ("query" if "query" in columns else "question", "gold" if "gold" in columns else "answer")


def _listed(value: Any) -> Listed | None:
    """(texts, labels) of any of the shapes; labels are empty where the shape has none. None for another shape."""
    labels: list[Any] = []
    if type(value) is list and value and all(isinstance(c, dict) and "text" in c for c in value):
        value = {key: [c[key] for c in value if key in c] for key in ("text", "label")}
    if type(value) is list:
        texts = value
    elif type(value) is dict and type(value.get("text")) is list:
        texts, labels = value["text"], value.get("label") or []
    elif type(value) is dict:
        texts, labels = list(value.values()), list(value)
    else:
        return None
    strings = all(isinstance(c, str) for c in [*texts, *labels]) if type(labels) is list else False
    return (tuple(texts), tuple(labels)) if strings and len(labels) in (0, len(texts)) else None


def _meant(gold: str, texts: tuple[str, ...], labels: tuple[str, ...]) -> set[int]:
    """Every choice that the word could mean; a label settles it, without what all labels begin with (`option1`)."""
    word = gold.strip().casefold()
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*labels, strict=False))
    common = len(list(alike)) if len(labels) > 1 else 0
    by_label = {i for i, n in enumerate(labels) if word in (n.casefold(), n[common:].casefold())}
    if by_label:
        return by_label
    found = {i for i, t in enumerate(texts) if t.strip() == gold.strip()}
    if word.isdecimal():
        found |= {int(word)} & set(range(len(texts)))
    elif len(word) == 1 and not labels:
        found |= {ord(word) - ord("a")} & set(range(len(texts)))
    return found


def _right(columns: Columns, name: str, texts: tuple[str, ...], labels: tuple[str, ...]) -> int | str:
    """The right choice's index, or why it isn't known."""
    gold = columns.get(name)
    if type(gold) is int:
        if 0 <= gold < len(texts):
            return gold
        return f"column {name!r} is {gold}, expected the index of one of {len(texts)} choices, counted from 0"
    if type(gold) is not str:
        return wrong(columns, name, "the index, letter or text of a choice")
    found = _meant(gold, texts, labels)
    if len(found) == 1:
        return found.pop()
    if found:
        both = " and ".join(str(i) for i in sorted(found))
        return f"column {name!r} is {gold[:40]!r}, which could mean choices {both}, expected an index"
    return f"column {name!r} is {gold[:40]!r}, expected the index, letter or text of one of {len(texts)} choices"


def _read(columns: Columns) -> tuple[tuple[str, ...], int] | str:
    """(choices, index of the right one), or why the row isn't multiple choice."""
    listed = _listed(columns.get("choices"))
    if listed is None:
        return wrong(columns, "choices", "a list of strings, or texts with labels")
    query, gold = _names(columns)
    problem = not_text(columns, query)
    if problem:
        return problem
    index = _right(columns, gold, *listed)
    return index if isinstance(index, str) else (listed[0], index)


def _problem(columns: Columns) -> str | None:
    found = _read(columns)
    return found if isinstance(found, str) else None


def _choices(columns: Columns) -> tuple[tuple[str, ...], int]:
    found = _read(columns)
    assert not isinstance(found, str)
    return found


def _turns(columns: Columns) -> tuple[Message, ...]:
    choices, gold = _choices(columns)
    return pair(columns[_names(columns)[0]], choices[gold], columns.get("system"))


SCHEMA = Schema(
    "choice",
    "sft",
    ("query", "choices", "gold"),
    ("query", "question", "choices", "gold", "answer", "system"),
    _problem,
    _turns,
    choices=_choices,
)
