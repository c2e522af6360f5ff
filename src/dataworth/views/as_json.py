"""Results as one JSON object."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import orjson


class Describes(Protocol):
    """Any result: it can be turned into plain JSON values."""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        ...


def dump(result: Describes) -> str:
    """One line of JSON; what UTF-8 or 64 bits can't hold (lone surrogates, huge integers) as standard JSON has it."""
    values = result.to_dict()
    try:
        return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY, default=str).decode()
    except TypeError:
        return json.dumps(_plain(values), default=str, allow_nan=False)


def _plain(value: Any) -> Any:
    """What the standard library writes as `orjson` does: numbers that aren't finite as null, NumPy's as Python's."""
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
