"""DW101: the loss still falls at the largest size, so a law beyond it rests on its shape alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.checks.given import given
from dataworth.errors import NotApplicable
from dataworth.results import Finding

SHARE = 0.02
"""A loss that twice the rows would lower by more than this share is still falling: a share of the loss, or of what
training gained where that is less, as of a tuned language model."""


class StillSteep:
    """What twice the rows would still gain, by the fitted law."""

    code = "DW101"
    title = "still steep at the largest size"
    severity: Literal["issue", "tip"] = "tip"
    cost: Literal["free", "text", "model"] = "free"
    needs = frozenset({"curve", "scale"})

    def __call__(self, inputs: Mapping[str, Any]) -> Finding | None:
        """Reads `curve`, a `laws.curve.Curve`, and `scale`, what counts as much (the loss itself if None).

        Raises:
            NotApplicable: There is none, or no fall.
        """
        curve = given(inputs, "curve", "no law could be fitted")
        largest = float(curve.sizes_K[-1])
        if not curve.inspection.falls:
            raise NotApplicable("the loss isn't shown to fall")
        scale = inputs.get("scale")
        unit = curve.law.at(largest) / (curve.law.at(largest) if scale is None else scale)
        share = curve.law.gain_from_doubling(largest) / curve.law.at(largest) * unit
        if share <= SHARE:
            return None
        found = curve.share_gained(2 * largest)
        low, high = found.low * unit, found.high * unit
        helps = "More rows help" if low > 0 else "More rows may help"
        return Finding(
            self.code,
            self.title,
            self.severity,
            f"At {largest:,.0f} rows twice as many would still take away {share:.1%} [{low:.1%} .. {high:.1%}] of the "
            "loss (or of what training gained, if that is less) by the fitted law.",
            f"{helps}; what many more reach rests on the law's shape, so measure larger sizes first.",
            {"share": share, "low": low, "high": high},
        )
