"""SemDeDup: semantic duplicates within clusters go, the best-scored of each stays; then the best scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.picks.ledger import Ballot, within
from dataworth.picks.reach import NO_VECTOR, with_directions
from dataworth.records import Budget
from dataworth.results import Selection

_ROWS = 2_048
TEXTS = {
    **NO_VECTOR,
    "duplicate": "dropped: a semantic duplicate of a row of its cluster that ranks higher",
}


class SemDeDup:
    """A row goes if a better-scored row of its cluster has a cosine above `threshold` with it; the rest by score.

    Source: Abbas et al. 2023, arXiv 2303.09540. Their code keeps the first of duplicates in whatever order it is given;
    here that order is the score's.
    """

    name = "semdedup"
    needs = frozenset({"score", "vectors", "clusters"})

    def __call__(
        self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0, threshold: float = 0.95
    ) -> Selection:
        """Pick; `boundary` holds the scores of the last kept and the first dropped row that is no duplicate.

        Raises:
            RequestError: A threshold outside (-1, 1].
        """
        if not -1 < threshold <= 1:
            raise RequestError(
                f"threshold={threshold!r}: expected a cosine above -1 and at most 1; correct --option threshold"
            )
        ballot = Ballot.of(inputs)
        rows, unit_RD, missing = with_directions(inputs, ballot.ranking())
        label_R = inputs["clusters"].label_N[rows]
        twin_R = np.zeros(len(rows), dtype=bool)
        by_cluster = np.argsort(label_R, kind="stable")  # best scores first in each
        for members in np.split(by_cluster, np.flatnonzero(np.diff(label_R[by_cluster])) + 1):
            twin_R[members] = _like_a_better_one(unit_RD[members], threshold)
        ranking = rows[~twin_R]
        kept, next_in_line, notes = within(budget, ranking, inputs)
        if notes and twin_R.any():
            notes = [
                f"only {len(kept):,} of {len(rows):,} eligible rows are no duplicates at threshold={threshold:g}: all "
                "of them are kept; raise the threshold for more"
            ]
        sign = -1.0 if inputs.get("higher", "keep") == "drop" else 1.0
        edge = {"last_kept": float(sign * ballot.value_N[kept[-1]])} if len(kept) else {}
        if len(kept) < len(ranking):
            edge["first_dropped"] = float(sign * ballot.value_N[ranking[len(kept)]])
        return ballot.select(
            kept,
            {"no-vector": missing, "duplicate": rows[twin_R], "over-budget": next_in_line},
            kept_code="kept-top",
            rest_code="below-cut",
            notes=notes,
            boundary=edge,
            texts=TEXTS,
        )


def _like_a_better_one(unit_MD: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Which rows of a cluster, best first, have an earlier row above the threshold (kept or not), in blocks."""
    like_M = np.zeros(len(unit_MD), dtype=bool)
    for a in range(0, len(unit_MD), _ROWS):
        block = unit_MD[a : a + _ROWS]
        for b in range(0, a + 1, _ROWS):
            near = np.round(block @ unit_MD[b : b + _ROWS].T, 6) > threshold
            like_M[a : a + _ROWS] |= (np.tril(near, -1) if a == b else near).any(axis=1)
    return like_M
