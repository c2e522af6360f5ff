"""k-center: rows such that no row is far from all kept ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataworth.numerics.kcenter import farthest_first
from dataworth.picks.ledger import within
from dataworth.picks.reach import NO_VECTOR, reach, uniform_of, unscored_ballot, with_directions
from dataworth.records import Budget
from dataworth.results import Selection

TEXTS = {
    **NO_VECTOR,
    "kept-center": "kept: the farthest from all rows kept before it",
    "covered": "dropped: closer to a kept row than the next center would have been",
}


class KCenter:
    """Greedy k-center on unit vectors: the covering radius is at most twice the smallest possible.

    Source: Gonzalez 1985; Sener and Savarese 2018, arXiv 1708.00489. The first center is random by hash of id and seed.
    Only eligible rows are covered.
    """

    name = "k_center"
    needs = frozenset({"vectors"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0) -> Selection:
        """Pick; `boundary["radius"]` is the largest distance of an eligible row to its nearest kept one."""
        ballot = unscored_ballot(inputs)
        rows, unit_RD, missing = with_directions(inputs, ballot.ranking())
        most = reach(budget, rows, inputs)
        order, edge = rows[:0], {}
        if most:
            first = int(np.argmin(uniform_of(inputs, rows, seed, "pick:k_center")))
            centers, radius_K, _ = farthest_first(unit_RD, most, first)
            order = rows[centers]
        kept, next_in_line, notes = within(budget, order, inputs)
        if len(kept):
            edge = {"radius": float(radius_K[len(kept) - 1])}
        return ballot.select(
            kept,
            {"no-vector": missing, "over-budget": next_in_line},
            kept_code="kept-center",
            rest_code="covered",
            notes=notes,
            boundary=edge,
            texts=TEXTS,
        )
