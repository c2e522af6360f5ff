"""CRAIG: rows of every class that stand for the others, with weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.numerics import craig
from dataworth.picks.ledger import within
from dataworth.picks.reach import NO_VECTOR, reach, uniform_of, unscored_ballot, with_vectors
from dataworth.records import Budget
from dataworth.results import Selection

TEXTS = {
    **NO_VECTOR,
    "kept-craig": "kept: it stands for the nearest rows of its class, more of them the larger its weight",
    "stood-for": "dropped: a kept row of its class stands for it",
    "class-left-out": "dropped: the budget had no row for its class",
}


class Craig:
    """Facility location on distances within each class; a row's weight is the number of rows it stands for.

    Source: Mirzasoleiman et al. 2020, arXiv 1906.01827, on `vectors` (the paper takes last-layer gradients):
    greedy on s = max(distance) - distance. Weights sum to the eligible rows of the classes that have a kept one
    (their code; DeepCore adds k). Only eligible rows are stood for.
    """

    name = "craig"
    needs = frozenset({"vectors", "labels"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0) -> Selection:
        """Pick; classes get shares by their sizes, each at least one row where there is one for all."""
        ballot = unscored_ballot(inputs)
        rows, vectors_RD, missing = with_vectors(inputs, ballot.ranking())
        label_R = np.asarray(inputs["labels"])[rows]
        most = reach(budget, rows, inputs)
        order = np.empty(0, dtype=np.int64)
        if most:
            groups = craig.strata(label_R, uniform_of(inputs, rows, seed, "pick:craig"))
            order = craig.chosen(vectors_RD, groups, most)
        kept, next_in_line, notes = within(budget, rows[order], inputs)
        taken = order[: len(kept)]
        left_out = rows[~np.isin(label_R, label_R[taken])]
        return ballot.select(
            kept,
            {"no-vector": missing, "class-left-out": left_out, "over-budget": next_in_line},
            kept_code="kept-craig",
            rest_code="stood-for",
            notes=[*notes, *_without_a_row(label_R, label_R[taken])],
            texts=TEXTS,
            weights=craig.weights(vectors_RD, label_R, taken) if len(taken) else np.empty(0),
        )


def _without_a_row(label_R: NDArray[np.int64], kept_K: NDArray[np.int64]) -> list[str]:
    missing = np.setdiff1d(label_R, kept_K)
    if not len(missing) or not len(kept_K):
        return []
    shown = ", ".join(str(c) for c in missing[:5].tolist()) + (", ..." if len(missing) > 5 else "")
    return [f"{len(missing):,} classes have no kept row ({shown}): keep at least {len(np.unique(label_R)):,} rows"]
