"""Random numbers: the baseline that every other score has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.records import hash_unit
from dataworth.results import Scored


class Random:
    """A uniform number from hash(id, seed): doesn't depend on row order or on the rest of the pool."""

    name = "random"
    kinds = frozenset({"sft", "text", "preference", "rl", "classify"})
    needs: frozenset[str] = frozenset()
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any], *, seed: int = 0) -> Scored:
        """Score every row."""
        return Scored(hash_unit(inputs["ids"], seed, "score:random"))
