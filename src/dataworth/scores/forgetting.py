"""Forgetting: how often a row that was right came out wrong in the next epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.dynamics import Dynamics, mean_of
from dataworth.errors import RequestError
from dataworth.results import Scored
from dataworth.scores.nets import scored_by_nets
from dataworth.scores.over_epochs import forgotten, one_of


class Forgetting:
    """Transitions from right to wrong between successive epochs, mean over nets; high is hard, or mislabelled.

    Source: Toneva et al. 2019, arXiv 1812.05159. A row that no net ever gets right has no transition, yet isn't easy:
    it is kept apart.
    """

    name = "forgetting"
    kinds = frozenset({"classify"})
    needs = frozenset({"dynamics"})
    higher: Literal["keep", "drop"] = "keep"
    ends = ("easiest", "hardest")

    def __call__(self, inputs: Mapping[str, Any], *, never: Literal["hardest", "unscored"] = "hardest") -> Scored:
        """Score every row from `dynamics`.

        `never=hardest` puts rows that no net ever got right above all others, by their mean error among themselves;
        `unscored` leaves them out. A net that never got a row right which others did counts with the number of
        epochs, or isn't counted.

        Raises:
            RequestError: Fewer than two epochs, or another word for `never`.
        """
        found: Dynamics = inputs["dynamics"]
        one_of("never", never, ("hardest", "unscored"))
        if found.epochs < 2:
            raise RequestError(f"{found.epochs} epoch recorded: expected two or more to forget between; train longer")
        per_net, never_N = counts(found.correct_SEN, found.error_SEN, hardest=never == "hardest")
        ids, known = inputs["ids"], inputs.get("unscored", {})
        unlearned = {ids[i]: "no net ever got it right" for i in np.flatnonzero(never_N).tolist()}
        return scored_by_nets(self.name, per_net, {"ids": ids, "unscored": {**unlearned, **known}}, "no net saw it")


def counts(
    correct_SEN: NDArray[np.floating], error_SEN: NDArray[np.floating], *, hardest: bool
) -> tuple[list[NDArray[np.float64]], NDArray[np.bool_]]:
    """Transitions of each net `[N]`, and which rows were seen but never right in any net.

    If `hardest`, those have the number of epochs plus half the net's mean error, which is above what any other row can
    have.
    """
    found, epochs = [forgotten(correct_EN) for correct_EN in correct_SEN], correct_SEN.shape[1]
    learned_N = np.any([right_N for _, right_N in found], axis=0)
    never_N = ~learned_N & ~np.isnan(mean_of(count_N for count_N, _ in found))
    per_net = []
    for (count_N, right_N), error_EN in zip(found, error_SEN, strict=True):
        more_N = np.where(never_N, np.nan_to_num(mean_of(error_EN)) / 2, 0.0)
        unlearned_N = epochs + more_N if hardest else np.nan
        per_net.append(np.where(right_N | np.isnan(count_N), count_N, unlearned_N))
    return per_net, never_N
