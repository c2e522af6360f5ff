"""Column: numbers that the rows bring along, as a score."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from dataworth.errors import RequestError, nearest
from dataworth.results import Scored
from dataworth.scores.assemble import assemble

_SHOWN = 40


class Column:
    """The number in a column of the user's, by the name `column:NAME`.

    It reads the artefact `column:NAME`: a `Scored` as `read_column` makes it, so that reasons name the column they are
    about. `direction=low` keeps low numbers.
    """

    kinds = frozenset({"sft", "text", "preference", "rl", "classify"})
    higher: Literal["keep", "drop"] = "keep"

    def __init__(self, column: str = "") -> None:
        """A score of the column.

        Raises:
            RequestError: No column is named.
        """
        if not column:
            raise RequestError("'column' names no column: expected column:NAME, such as column:quality; add the name")
        self.name = f"column:{column}"
        self.needs = frozenset({self.name})

    def __call__(self, inputs: Mapping[str, Any], *, direction: Literal["high", "low"] = "high") -> Scored:
        """Score every row; rows whose column holds no number are unscored with what it holds.

        Raises:
            RequestError: Another direction.
        """
        found: Scored = inputs[self.name]
        known = {"ids": inputs["ids"], "unscored": {**inputs.get("unscored", {}), **found.unscored}}
        return assemble(found.values_N, known, "its column holds no number", direction)


def read_column(column: str, ids: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Scored:
    """The numbers of a column, `rows` (columns by name) being those of `ids`, read once.

    Numbers, true and false (1 and 0) and text that is a number count; everything else is listed with a reason.

    Raises:
        RequestError: No row has the column (with the nearest name), or none holds a number there.
    """
    values_N, unscored = np.full(len(ids), np.nan), {}
    there, names = False, dict[str, None]()
    for i, row in enumerate(rows):
        there |= column in row
        names.update(dict.fromkeys(row) if not there else {})
        held = number(row.get(column))
        if isinstance(held, str):
            unscored[ids[i]] = f"its {column!r} {held}"
        else:
            values_N[i] = held
    if len(ids) and not there:
        raise RequestError(f"no row has a column {column!r}; {nearest(column, sorted(names), 'the columns are')}")
    if len(ids) and len(unscored) == len(ids):
        raise RequestError(f"column {column!r} holds no number in any row ({unscored[ids[0]]}): expected numbers")
    return Scored(values_N, unscored)


def number(value: Any) -> float | str:
    """A finite number, or what the value is instead, in words."""
    if value is None or value == "":
        return "is empty"
    shown = repr(value) if len(repr(value)) <= _SHOWN else f"{repr(value)[:_SHOWN]}..."
    if not isinstance(value, (numbers.Real, Decimal, str)) or (isinstance(value, str) and "_" in value):
        return f"is {shown}, which is no number"
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return f"is {shown}, which is no number"
    return found if math.isfinite(found) else f"is {shown}, which is not finite"
