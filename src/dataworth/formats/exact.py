"""One JSON row, read without changing a value, and its canonical form.

orjson reads and writes the ordinary row. It would turn integers beyond 64 bits into floats, keep the last
of two equal keys in silence, and refuse lone surrogates; rows that may hold one of these take the slow path
through the standard library. Both paths give the same canonical bytes for the same value (tested), so ids
don't depend on the path taken.
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NoReturn

import numpy as np
import orjson

DuplicateKeys = Literal["reject", "last"]

_SORTED = orjson.OPT_SORT_KEYS
_DIGITS_AS_ZERO = bytes(ord("0") if chr(b).isdigit() and b < 128 else b for b in range(256))
_LONG_RUN = b"0" * 19
_LONGEST_INTEGER = 4000  # digits; Python itself refuses to convert more than 4,300


class BadRowError(Exception):
    """The row can't be read; the message says why in plain words."""


def parse_row(raw: bytes, duplicate_keys: DuplicateKeys = "reject") -> tuple[dict[str, Any], bytes]:
    """Read one JSON object exactly.

    Args:
        raw: The object's bytes, white space around it allowed.
        duplicate_keys: What to do with an object that names a key twice, at any depth.

    Returns:
        The columns and their canonical JSON (keys sorted, no white space).

    Raises:
        BadRowError: Not one JSON object, or a value no reader could give back exactly.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _parse_slowly(raw, duplicate_keys)
    if type(value) is not dict:
        raise BadRowError(f"expected a JSON object, found {_kind_of(value)}")
    if _LONG_RUN in raw.translate(_DIGITS_AS_ZERO):
        return _parse_slowly(raw, duplicate_keys)
    canonical = orjson.dumps(value, option=_SORTED)
    # A dropped duplicate takes its colon along, and nothing but an escaped colon can make up for it.
    if raw.count(b":") != canonical.count(b":") or b"\\u003a" in raw or b"\\u003A" in raw:
        return _parse_slowly(raw, duplicate_keys)
    return value, canonical


def read_again(raw: bytes) -> dict[str, Any]:
    """The columns of a row that `parse_row` accepted before, without making its canonical form.

    Raises:
        BadRowError: These are other bytes than before.
    """
    if _LONG_RUN not in raw.translate(_DIGITS_AS_ZERO):
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError:
            value = None
        if type(value) is dict:
            return value
    return _parse_slowly(raw, "last")[0]


def _parse_slowly(raw: bytes, duplicate_keys: DuplicateKeys) -> tuple[dict[str, Any], bytes]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRowError(f"not UTF-8: byte 0x{raw[error.start]:02x} at byte {error.start} of the row") from None
    hook = _reject_duplicates if duplicate_keys == "reject" else None
    try:
        value = json.loads(
            text, object_pairs_hook=hook, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
        if type(value) is not dict:
            raise BadRowError(f"expected a JSON object, found {_kind_of(value)}")
        return value, canonical_json(value)
    except json.JSONDecodeError as error:
        raise BadRowError(f"not JSON: {error.msg} at character {error.pos} of the row") from None
    except RecursionError:
        raise BadRowError("nested too deeply to be read") from None


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BadRowError(f"the key {key!r} stands twice in one object (duplicate_keys='last' keeps the last)")
            seen.add(key)
    return found


def _no_constant(name: str) -> NoReturn:
    raise BadRowError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise BadRowError(f"the number {text[:40]} is too large for a float")
    return value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise BadRowError(f"an integer of {len(text)} digits is too long (at most {_LONGEST_INTEGER})")
    return int(text)


def _kind_of(value: Any) -> str:
    names = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "true or false"}
    return names.get(type(value), "null")


def table_canonical(columns: dict[str, Any]) -> bytes:
    """Canonical JSON of a table's row: equal to that of a JSON row with equal values.

    Bytes become hex, arrays lists, decimals their digits, durations seconds, dates and times RFC 3339; NaN stays
    distinct from null.
    """
    try:
        canonical = orjson.dumps(columns, default=_plain, option=_SORTED)
    except (TypeError, orjson.JSONEncodeError):
        return canonical_json(columns)
    # orjson writes NaN as null; only a row that shows a null can hide one.
    return canonical_json(columns) if b"null" in canonical else canonical


def canonical_json(value: Any) -> bytes:
    """The canonical form, written without orjson's limits: integers of any size, lone surrogates, NaN.

    Raises:
        RecursionError: Nested too deeply.
    """
    if isinstance(value, dict):
        parts = (canonical_json(k) + b":" + canonical_json(value[k]) for k in sorted(value))
        return b"{" + b",".join(parts) + b"}"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return b"[" + b",".join(canonical_json(v) for v in value) + b"]"
    if isinstance(value, str):
        return _canonical_text(value)
    if isinstance(value, bool) or value is None:
        return {True: b"true", False: b"false", None: b"null"}[value]
    if isinstance(value, int):
        return str(value).encode()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value).encode()
    return orjson.dumps(value, default=_plain)


def _canonical_text(text: str) -> bytes:
    try:
        return orjson.dumps(text)
    except (TypeError, orjson.JSONEncodeError):
        # A lone surrogate has no UTF-8; its \u escape can't be mistaken for text, where a backslash is doubled.
        parts = (orjson.dumps(c)[1:-1] if not "\ud800" <= c <= "\udfff" else b"\\u%04x" % ord(c) for c in text)
        return b'"' + b"".join(parts) + b'"'


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):  # pandas' Timestamp, which Arrow hands out for nanoseconds where pandas is there
        return value.isoformat()
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")
