"""DW102: the measured sizes cross the interpolation threshold, where test loss may rise with data (double descent).

Source: Nakkiran et al. 2019, arXiv 1912.02292: the peak lies where the model just ceases to fit every row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.checks.given import given
from dataworth.results import Finding


class InterpolationPeak:
    """A loss that rises with rows, or a train loss that leaves its floor within the measured sizes."""

    code = "DW102"
    title = "near the interpolation peak"
    severity: Literal["issue", "tip"] = "issue"
    cost: Literal["free", "text", "model"] = "free"
    needs = frozenset({"curve", "pilots"})

    def __call__(self, inputs: Mapping[str, Any]) -> Finding | None:
        """Reads `pilots`, a `laws.regime.Pilots` of pool rows, and the goal's `curve`; one of them will do.

        Raises:
            NotApplicable: There is neither.
        """
        curve, pilots = inputs.get("curve"), inputs.get("pilots")
        measured = [one for one in (curve, pilots) if one is not None] or [
            given(inputs, "pilots", "neither a law nor losses of pool rows")
        ]
        rise = next((found for found in (one.rise() for one in measured) if found), None)
        crossing = pilots.crossing() if pilots is not None else None
        if rise is not None:
            told = f"The loss rises between {rise[0]:,.0f} and {rise[1]:,.0f} rows."
        elif crossing is not None:
            shares = f"from {crossing[0]:.0%} to {crossing[1]:.0%}"
            told = f"Train loss goes {shares} of test loss within the measured sizes."
        else:
            return None
        return Finding(
            self.code,
            self.title,
            self.severity,
            told,
            "Expect a bump in the curve: regularise, stop earlier, or measure sizes well below or above it; sizes that "
            "were trained for much fewer epochs than others look alike.",
            {"rise": rise, "train_share": crossing},
        )
