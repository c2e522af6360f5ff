"""DUAL: rows whose probability moves while it is still low, early in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.dynamics import Dynamics, mean_of
from dataworth.errors import RequestError
from dataworth.results import Scored
from dataworth.scores.nets import scored_by_nets
from dataworth.scores.over_epochs import first_epochs, mean_and_spread

_EPOCHS = 30


class DUAL:
    """Mean over windows of epochs of std(p_y) * (1 - mean(p_y)), mean over nets; high is uncertain and hard.

    Source: Cho et al. 2025, "Lightweight Dataset Pruning without Full Training via Example Difficulty and Prediction
    Uncertainty", and its repository, without the repository's factor of 10. The pick `dual_beta` belongs to it.
    """

    name = "dual"
    kinds = frozenset({"classify"})
    needs = frozenset({"dynamics"})
    higher: Literal["keep", "drop"] = "keep"
    ends = ("easiest", "hardest")

    def __call__(self, inputs: Mapping[str, Any], *, window: int = 10, epochs: int = 0) -> Scored:
        """Score every row from the first `epochs` of `dynamics` (0: 30, or all where there are fewer).

        Windows in which a row wasn't seen in every epoch are left out for it.

        Raises:
            RequestError: Fewer epochs than a window has, a window of one epoch, or epochs that weren't recorded.
        """
        found: Dynamics = inputs["dynamics"]
        read = first_epochs(found.epochs, epochs, _EPOCHS)
        if not 2 <= window <= read:
            raise RequestError(
                f"window={window} in {read} epoch{'s' if read > 1 else ''}: expected at least 2 and no more than were "
                "trained; correct --option window, or epochs in --recipe"
            )

        def of_net(p_EN: NDArray[np.floating]) -> NDArray[np.float64]:
            return mean_of(_value(p_EN[a : a + window]) for a in range(read - window + 1))

        return scored_by_nets(
            self.name, [of_net(p_EN) for p_EN in found.p_SEN], inputs, "no window of epochs saw it throughout"
        )


def _value(p_JN: NDArray[np.floating]) -> NDArray[np.float64]:
    mean_N, spread_N = mean_and_spread(p_JN, sample=True)
    whole_N = ~np.isnan(p_JN).any(axis=0)
    return np.where(whole_N, spread_N * (1 - mean_N), np.nan)
