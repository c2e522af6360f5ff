"""DW101: the loss still falls at the largest size, so a law beyond it rests on its shape alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.checks.given import given
from dataworth.errors import NotApplicable
from dataworth.results import Finding

SHARE = 0.02
"""A loss that twice the rows would lower by more than this share is still falling."""


class StillSteep:
    """What twice the rows would still gain, by the fitted law."""

    code = "DW101"
    title = "still steep at the largest size"
    severity: Literal["issue", "tip"] = "tip"
    cost: Literal["free", "text", "model"] = "free"
    needs = frozenset({"curve"})

    def __call__(self, inputs: Mapping[str, Any]) -> Finding | None:
        """Reads `curve`, a `laws.curve.Curve`.

        Raises:
            NotApplicable: There is none, or no fall.
        """
        curve = given(inputs, "curve", "no law could be fitted")
        largest = float(curve.sizes_K[-1])
        if not curve.inspection.falls:
            raise NotApplicable("the loss isn't shown to fall")
        share = curve.law.gain_from_doubling(largest) / curve.law.at(largest)
        if share <= SHARE:
            return None
        return Finding(
            self.code,
            self.title,
            self.severity,
            f"At {largest:,.0f} rows twice as many would still lower the loss by {share:.1%} by the fitted law.",
            "More rows help; what many more reach rests on the law's shape, so measure larger sizes first.",
            {"share": share},
        )
