"""DW104: single chains of nested subsets foretell different losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.checks.given import given
from dataworth.errors import NotApplicable
from dataworth.results import Finding

APART = 0.5
"""The interval's half-width at twice the largest size may be this share of what the curve has gained by then."""


class ChainsDisagree:
    """The interval of the loss at twice the largest size, against what the curve has gained."""

    code = "DW104"
    title = "chains disagree"
    severity: Literal["issue", "tip"] = "issue"
    cost: Literal["free", "text", "model"] = "free"
    needs = frozenset({"curve"})

    def __call__(self, inputs: Mapping[str, Any]) -> Finding | None:
        """Reads `curve`, a `laws.curve.Curve`.

        Raises:
            NotApplicable: There is none, or it shows no fall to compare with.
        """
        curve = given(inputs, "curve", "no law could be fitted")
        twice = 2.0 * float(curve.sizes_K[-1])
        band = curve.band(twice)
        half, gained = (band.high - band.low) / 2, curve.law.at(float(curve.sizes_K[0])) - band.value
        if not curve.inspection.falls or gained <= 0:
            raise NotApplicable("the loss isn't shown to fall")
        if half <= APART * gained:
            return None
        return Finding(
            self.code,
            self.title,
            self.severity,
            f"Chains put the loss at {twice:,.0f} rows within +-{half:.3g}, where the curve has gained {gained:.3g}.",
            "Run more chains (--chains), or judge by more rows.",
            {"half_width": half, "gained": gained},
        )
