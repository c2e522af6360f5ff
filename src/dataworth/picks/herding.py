"""Herding: rows whose mean is the pool's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataworth.numerics.herding import herd
from dataworth.picks.ledger import within
from dataworth.picks.reach import NO_VECTOR, reach, unscored_ballot, with_vectors
from dataworth.records import Budget
from dataworth.results import Selection

TEXTS = {
    **NO_VECTOR,
    "kept-herding": "kept: it brings the kept rows' mean nearest to the pool's",
    "not-needed": "dropped: other rows bring the kept rows' mean nearer to the pool's",
}


class Herding:
    """Each row in turn is the one that leaves the kept rows' mean vector nearest to that of all eligible rows.

    Source: kernel herding, Welling 2009 and Chen et al. 2010, with the linear kernel; the argmin of the distance
    (DeepCore takes the argmax, which is far worse than random).
    """

    name = "herding"
    needs = frozenset({"vectors"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0) -> Selection:
        """Pick."""
        ballot = unscored_ballot(inputs)
        rows, vectors_RD, missing = with_vectors(inputs, ballot.ranking())
        most = reach(budget, rows, inputs)
        kept, next_in_line, notes = within(budget, rows[herd(vectors_RD, most)] if most else rows, inputs)
        return ballot.select(
            kept,
            {"no-vector": missing, "over-budget": next_in_line},
            kept_code="kept-herding",
            rest_code="not-needed",
            notes=notes,
            texts=TEXTS,
        )
