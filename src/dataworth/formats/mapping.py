r"""`--map role=column`: which column plays which role.

A column expression is a column's name, a dotted path into objects (`reward_model.ground_truth`), or several
joined by `+`: `rationale+answer` is the rationale and the answer on the next line (joined by "\n"; empty
parts are left out). Joined parts must be strings or numbers. A single column is handed on as it is, so a
role may also be played by a list of turns. Several columns in the role `choices` aren't joined: each is a choice
labelled by its name, absent and null ones left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dataworth.errors import RequestError, nearest
from dataworth.formats.exact import BadRowError
from dataworth.formats.schemas import ROLES
from dataworth.formats.schemas.base import kind_in_words

JOINT = "\n"
Getter = Callable[[Mapping[str, Any]], Any]
_ABSENT = object()


def check_roles(mapping: Mapping[str, str]) -> None:
    """Refuse a role that no schema reads.

    Raises:
        RequestError: An unknown role, with the nearest known one.
    """
    for role in mapping:
        if role not in ROLES:
            raise RequestError(f"--map {role}={mapping[role]}: no such role; {nearest(role, ROLES)}")


def check_columns(mapping: Mapping[str, str], rows: Iterable[Mapping[str, Any]], path: object) -> None:
    """Refuse a mapping to a column that none of the first rows has.

    Raises:
        RequestError: An unknown column, with the nearest one of the file.
    """
    rows = list(rows)
    found = list(dict.fromkeys(name for row in rows for name in row))
    for role, expression in mapping.items():
        for column in _parts(expression, found):
            if all(_look_up(row, column) is _ABSENT for row in rows):
                raise RequestError(
                    f"--map {role}={expression}: {path} has no column {column!r}; {nearest(column, found)}"
                )


def mapped(mapping: Mapping[str, str], columns: Mapping[str, Any]) -> dict[str, Any]:
    """The row seen through the mapping: role -> value; a role whose column this row lacks stays absent.

    Raises:
        BadRowError: A joined part is neither text nor a number.
    """
    row: dict[str, Any] = {}
    for role, expression in mapping.items():
        parts = _parts(expression, columns)
        if len(parts) == 1:
            value = _look_up(columns, parts[0])
        elif role == "choices":
            value = _side_by_side(columns, parts)
        else:
            value = _join(columns, parts)
        if value is not _ABSENT:
            row[role] = value
    return row


def read_by(mapping: Mapping[str, str], columns: Iterable[str]) -> set[str]:
    """Those of the columns from which a mapping reads."""
    columns = list(columns)
    parts = [part for expression in mapping.values() for part in _parts(expression, columns)]
    return {part if part in columns else part.partition(".")[0] for part in parts}


def _parts(expression: str, columns: Iterable[str]) -> list[str]:
    """A column whose own name holds a plus sign wins over joining."""
    return [expression] if expression in columns else [p.strip() for p in expression.split("+")]


def _look_up(columns: Mapping[str, Any], name: str) -> Any:
    if name in columns:
        return columns[name]
    value: Any = columns
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _side_by_side(columns: Mapping[str, Any], parts: list[str]) -> Any:
    """Columns as labelled choices."""
    found = {part: _look_up(columns, part) for part in parts}
    held = {part: value for part, value in found.items() if value is not _ABSENT and value is not None}
    return {"text": list(held.values()), "label": list(held)} if held else _ABSENT


def _join(columns: Mapping[str, Any], parts: list[str]) -> Any:
    texts = []
    for part in parts:
        value = _look_up(columns, part)
        if value is _ABSENT:
            return _ABSENT
        if isinstance(value, bool) or not (value is None or isinstance(value, (str, int, float))):
            raise BadRowError(f"column {part!r} holds {kind_in_words(value)}, expected text or a number to join")
        texts.append("" if value is None else str(value))
    return JOINT.join(t for t in texts if t)
