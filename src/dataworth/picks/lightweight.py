"""Lightweight coreset: a weighted sample, rows far from the mean more often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.numerics.sampling import drawn, lightweight
from dataworth.picks.ledger import Ballot, within
from dataworth.picks.reach import NO_VECTOR, reach, uniform_of, unscored_ballot, with_vectors
from dataworth.records import Budget
from dataworth.results import Selection

TEXTS = {
    **NO_VECTOR,
    "kept-drawn": "kept: drawn at random, and weighted for how likely that was",
}


class Lightweight:
    """k rows with q = 1/2n + d(x, mean)^2 / (2 sum of d^2), weighted by 1 / (k q): sums keep their expectation.

    Source: Bachem et al. 2018, arXiv 1702.08248. Rows are drawn without replacement (systematic sampling in random
    order), rows with k q above 1 surely and with weight 1. Weights sum to the eligible rows in expectation. Only
    eligible rows are sampled and stood for.
    """

    name = "lightweight"
    needs = frozenset({"vectors"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0) -> Selection:
        """Pick.

        Raises:
            RequestError: A token budget that not even one drawn row fits.
        """
        ballot = unscored_ballot(inputs)
        rows, vectors_RD, missing = with_vectors(inputs, ballot.ranking())
        q_R = lightweight(vectors_RD) if len(rows) else np.empty(0)
        return sampled(ballot, rows, missing, q_R, inputs, budget, seed=seed, purpose="pick:lightweight")


def sampled(
    ballot: Ballot,
    rows: NDArray[np.int64],
    missing: NDArray[np.int64],
    q_R: NDArray[np.float64],
    inputs: Mapping[str, Any],
    budget: Budget,
    *,
    seed: int,
    purpose: str,
) -> Selection:
    """The selection of as many rows as the budget pays for, drawn with probabilities `q_R` of `rows`."""
    uniform_R = uniform_of(inputs, rows, seed, purpose)
    most = reach(budget, rows, inputs)
    if budget.unit == "tokens" and most:
        cost_R = np.asarray(inputs["tokens_N"], dtype=np.float64)[rows]
        most = _that_fit(lambda m: float(cost_R[drawn(q_R, m, uniform_R)[0]].sum()), most, budget.amount)
        if not most:
            raise RequestError(f"keep {budget} is less than a drawn row's tokens: expected more; correct --keep")
    picked, weight_K = drawn(q_R, most, uniform_R)
    kept, _, notes = within(budget, rows[picked], inputs)
    return ballot.select(
        kept,
        {"no-vector": missing},
        kept_code="kept-drawn",
        rest_code="not-drawn",
        notes=notes if len(kept) == len(rows) else [],
        texts=TEXTS,
        weights=weight_K,
    )


def _that_fit(cost: Callable[[int], float], most: int, budget: float) -> int:
    """A number of rows whose sample fits and that of one more doesn't, by bisection; 0 if not even one does."""
    fits, over = 0, most + 1
    while over - fits > 1:
        middle = (fits + over) // 2
        if cost(middle) <= budget:
            fits = middle
        else:
            over = middle
    return fits
