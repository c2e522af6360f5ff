"""Content fingerprints: the keys under which the cache finds what was computed before."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from dataworth.errors import RequestError


def canonical_json(obj: Any) -> bytes:
    """One spelling of a JSON value: sorted keys, no spaces, ASCII only; a tuple counts as a list.

    Args:
        obj: None, bool, int, finite float, str, and lists, tuples and string-keyed dicts of them.

    Raises:
        RequestError: Anything else, or a float that is not finite; the message names the place.
    """
    _check(obj, "spec")
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def fingerprint(spec: Any) -> str:
    """sha256 (64 hex digits) of the canonical JSON of `spec`.

    Raises:
        RequestError: `spec` is no plain JSON value.
    """
    return hashlib.sha256(canonical_json(spec)).hexdigest()


def _check(value: Any, where: str) -> None:
    # Exact types: a numpy scalar or an enum may print like a number today and otherwise tomorrow.
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return
    if kind is float:
        if not math.isfinite(value):
            raise RequestError(
                f"{where} = {value!r}: expected a finite number in a fingerprint; leave it out or fix it"
            )
    elif kind in (list, tuple):
        for i, item in enumerate(value):
            _check(item, f"{where}[{i}]")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise RequestError(f"{where} has the key {key!r}: expected text keys in a fingerprint; use str(key)")
            _check(item, f"{where}.{key}")
    else:
        raise RequestError(
            f"{where} is a {kind.__name__}: expected plain JSON values in a fingerprint; convert it first"
        )
