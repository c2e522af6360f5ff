"""D2: difficulty and diversity by messages between neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.numerics.message_passing import distances, forward, reverse
from dataworth.picks.ledger import Ballot, within
from dataworth.picks.reach import among, reach
from dataworth.records import Budget
from dataworth.results import Selection

TEXTS = {
    "kept-d2": "kept: the highest score once kept neighbours had lowered it",
    "outvoted": "dropped: its score was too low, or kept neighbours lowered it",
}


class D2:
    """A row's score plus its neighbours' by nearness; the best is kept and lowers its neighbours', again and again.

    Source: Maharana et al. 2024, arXiv 2310.07931, and its code: exp(-distance) forward, exp(-gamma distance) back,
    on the graph of `k` neighbours made symmetric. Scores are brought to 0 .. 1 first, larger = better. Only eligible
    rows send and get messages.
    """

    name = "d2"
    needs = frozenset({"score", "neighbours"})

    def __call__(
        self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0, k: int = 5, gamma: float = 1.0
    ) -> Selection:
        """Pick; a row without neighbours keeps its own score.

        Raises:
            RequestError: More neighbours than there are in the artefact, or a gamma that isn't positive.
        """
        found = inputs["neighbours"]
        if not 1 <= k <= found.index_Nk.shape[1]:
            raise RequestError(f"k={k}: expected 1 to {found.index_Nk.shape[1]} neighbours; correct --option k")
        if not 0 < gamma < np.inf:
            raise RequestError(f"gamma={gamma!r}: expected more than 0; correct --option gamma")
        ballot = Ballot.of(inputs)
        ranking = ballot.ranking()
        rows = ranking[np.argsort(ballot.rank_N[ranking])]  # in id order: ties go to the first
        most = reach(budget, rows, inputs)
        kernel = distances(among(found.index_Nk, rows)[:, :k], found.cosine_Nk[rows, :k])
        order = reverse(kernel, forward(kernel, _scaled(ballot.value_N[rows])), most, gamma)
        kept, next_in_line, notes = within(budget, rows[order], inputs)
        return ballot.select(
            kept,
            {"over-budget": next_in_line},
            kept_code="kept-d2",
            rest_code="outvoted",
            notes=notes,
            texts=TEXTS,
        )


def _scaled(value_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 for the worst and 1 for the best, so that messages are positive whatever the score's unit; all alike: 1."""
    if not len(value_R) or np.ptp(value_R) == 0:
        return np.ones(len(value_R))
    return (value_R - value_R.min()) / np.ptp(value_R)
