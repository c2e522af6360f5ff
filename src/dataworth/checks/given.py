"""What a check is handed: an input that nobody measured makes it not applicable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataworth.errors import NotApplicable


def given(inputs: Mapping[str, Any], name: str, missing: str) -> Any:
    """An input; `missing` says in words why there is none.

    Raises:
        NotApplicable: Nobody measured it.
    """
    found = inputs.get(name)
    if found is None:
        raise NotApplicable(missing)
    return found
