"""Reading the project's own JSON files: a damaged one is one line that says which file and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataworth.errors import FormatError


def read_json(path: Path, todo: str, keys: Mapping[str, type] | None = None) -> dict[str, Any]:
    """The JSON object in a file that this project wrote.

    Args:
        path: The file.
        todo: What the user should do if it is damaged, for the message.
        keys: Names the object must have, with the type of each value.

    Raises:
        FormatError: The file isn't there, isn't JSON, isn't an object, or lacks a key.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise damaged(path, "not there", "a JSON object", todo) from None
    except ValueError:
        raise damaged(path, "no JSON", "a JSON object", todo) from None
    if not isinstance(found, dict):
        raise damaged(path, f"a {type(found).__name__}", "a JSON object", todo)
    for key, kind in (keys or {}).items():
        if not isinstance(found.get(key), kind):
            raise damaged(path, f"{key!r} is missing or of another type", f"a {kind.__name__}", todo)
    return found


def damaged(path: Path, found: str, expected: str, todo: str) -> FormatError:
    """The error for a file of ours that isn't what was written."""
    return FormatError(f"{path} is damaged: {found}, expected {expected}; {todo}")
