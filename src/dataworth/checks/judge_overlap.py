"""DW106: rows nearly equal to judging rows were trained on, so that losses and floor come out too low."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.checks.given import given
from dataworth.results import Finding


class JudgeOverlap:
    """Whether near rows were kept."""

    code = "DW106"
    title = "train and judging rows overlap"
    severity: Literal["issue", "tip"] = "issue"
    cost: Literal["free", "text", "model"] = "text"
    needs = frozenset({"near_trained"})

    def __call__(self, inputs: Mapping[str, Any]) -> Finding | None:
        """Reads `near_trained`: how many rows nearly equal to judging rows could be trained on.

        Raises:
            NotApplicable: Nobody looked.
        """
        near = int(given(inputs, "near_trained", "nobody could look for near rows"))
        if not near:
            return None
        return Finding(
            self.code,
            self.title,
            self.severity,
            f"{near:,} rows nearly equal to judging rows could be trained on: losses and floor come out too low.",
            "Leave --keep-near-goal out.",
            {"rows": near},
        )
