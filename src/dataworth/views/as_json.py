"""Results as one JSON object."""

from __future__ import annotations

from typing import Any, Protocol

import orjson


class Describes(Protocol):
    """Any result: it can be turned into plain JSON values."""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        ...


def dump(result: Describes) -> str:
    """One line of JSON."""
    return orjson.dumps(result.to_dict(), option=orjson.OPT_SERIALIZE_NUMPY, default=str).decode()
