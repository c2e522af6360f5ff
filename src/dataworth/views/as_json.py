"""Results as one JSON object."""

from __future__ import annotations

import json
from typing import Any, Protocol

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
        return json.dumps(values, default=str)
