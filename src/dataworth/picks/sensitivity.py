"""Sensitivity sampling: a weighted sample, rows that some clustering could hinge on more often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataworth.numerics.sampling import sensitivity
from dataworth.picks.lightweight import sampled
from dataworth.picks.reach import unscored_ballot
from dataworth.records import Budget
from dataworth.results import Selection


class Sensitivity:
    """k rows with q in proportion to a bound on their share of any k-means cost, weighted by 1 / (k q).

    Source: Bachem et al. 2017, arXiv 1703.06476, algorithm 2, with `clusters` as its rough solution and squared
    distances of unit rows to their unit centroids. Drawn and weighted as in `lightweight`.
    """

    name = "sensitivity"
    needs = frozenset({"clusters"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0) -> Selection:
        """Pick.

        Raises:
            RequestError: A token budget that not even one drawn row fits.
        """
        ballot = unscored_ballot(inputs)
        eligible, found = ballot.ranking(), inputs["clusters"]
        known_R = found.label_N[eligible] >= 0
        rows = eligible[known_R]
        cost_R = np.maximum(2.0 - 2.0 * found.cosine_N[rows].astype(np.float64), 0.0)
        q_R = sensitivity(cost_R, found.label_N[rows]) if len(rows) else np.empty(0)
        return sampled(ballot, rows, eligible[~known_R], q_R, inputs, budget, seed=seed, purpose="pick:sensitivity")
