"""DW105: the pool holds more bits than the trained parameters can (Morris et al. 2025, arXiv 2505.24832)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.checks.given import given
from dataworth.results import Finding


class CapacityExceeded:
    """Whether the whole band of bits over capacity lies above what can be held."""

    code = "DW105"
    title = "more bits than the trained parameters hold"
    severity: Literal["issue", "tip"] = "tip"
    cost: Literal["free", "text", "model"] = "model"
    needs = frozenset({"fill"})

    def __call__(self, inputs: Mapping[str, Any]) -> Finding | None:
        """Reads `fill`, a `laws.capacity.Fill`.

        Raises:
            NotApplicable: Bits weren't counted.
        """
        fill = given(inputs, "fill", "bits weren't counted (--capacity)")
        if tuple(fill.zones) != ("cannot hold all",):
            return None
        return Finding(
            self.code,
            self.title,
            self.severity,
            f"{fill}.",
            "Rows can't all be learnt by heart; where that is wanted, train a larger rank or model.",
            {"ratio": fill.ratio.value},
        )
