"""Diverse: by score, but no row that is nearly like a kept one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.picks.ledger import Ballot, within
from dataworth.picks.reach import NO_VECTOR, reach, with_directions
from dataworth.records import Budget
from dataworth.results import Selection

_ROWS = 1_024
TEXTS = {
    **NO_VECTOR,
    "kept-diverse": "kept: ranks high, and not too near any kept row that ranks higher",
    "too-near": "dropped: too near a kept row that ranks higher",
}


class Diverse:
    """Rows in the order of scores, each kept if its largest cosine with the rows kept before is at most tau.

    Source: the Repr Filter of DEITA, Liu et al. 2024, arXiv 2312.15685, with its code's reading: the paper's "distance
    below tau" is a similarity. The best row is always kept.
    """

    name = "diverse"
    needs = frozenset({"score", "vectors"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0, tau: float = 0.9) -> Selection:
        """Pick; a note says when fewer rows than asked for are far enough from one another.

        Raises:
            RequestError: tau outside (-1, 1].
        """
        if not -1 < tau <= 1:
            raise RequestError(f"tau={tau!r}: expected a cosine above -1 and at most 1; correct --option tau")
        ballot = Ballot.of(inputs)
        rows, unit_RD, missing = with_directions(inputs, ballot.ranking())
        chosen, seen = _far_enough(unit_RD, tau, reach(budget, rows, inputs))
        kept, next_in_line, notes = within(budget, rows[chosen], inputs)
        near = np.setdiff1d(rows[:seen], rows[chosen])
        if notes and len(near):
            notes = [
                f"only {len(kept):,} of {len(rows):,} eligible rows are within tau={tau:g} of no better one: all of "
                "them are kept; raise tau for more"
            ]
        return ballot.select(
            kept,
            {"no-vector": missing, "too-near": near, "over-budget": next_in_line},
            kept_code="kept-diverse",
            rest_code="below-cut",
            notes=notes,
            texts=TEXTS,
        )


def _far_enough(unit_RD: NDArray[np.float32], tau: float, most: int) -> tuple[NDArray[np.int64], int]:
    """The first `most` rows that the filter keeps, and how many rows it looked at.

    A block is compared with all kept rows at once, then within itself. Cosines are rounded to 6 decimals, so that equal
    rows have cosine 1 and tau = 1 keeps all.
    """
    kept_MD = np.empty((most, unit_RD.shape[1]), dtype=np.float32)
    chosen: list[int] = []
    for a in range(0, len(unit_RD), _ROWS):
        block = unit_RD[a : a + _ROWS]
        far_B = np.ones(len(block), dtype=bool)
        for b in range(0, len(chosen), _ROWS):
            far_B &= (np.round(block @ kept_MD[b : min(b + _ROWS, len(chosen))].T, 6) <= tau).all(axis=1)
        within_BB = np.round(block @ block.T, 6) <= tau
        for i in range(len(block)):
            if len(chosen) == most:
                return np.array(chosen, dtype=np.int64), a + i
            if far_B[i]:
                kept_MD[len(chosen)] = block[i]
                chosen.append(a + i)
                far_B[i + 1 :] &= within_BB[i, i + 1 :]
    return np.array(chosen, dtype=np.int64), len(unit_RD)
