"""Balanced: the best scores, but no class is emptied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.picks.ledger import Ballot, within
from dataworth.picks.shares import kept_share
from dataworth.records import Budget
from dataworth.results import Selection

_TEXTS = {"kept-balanced": "kept: among the {best} by {score}, of its class as far as its floor goes and of all beyond"}


class Balanced:
    """Every class keeps `floor(share * r * n_c)` of its `n_c` eligible rows, its best; the rest goes by score.

    r is the share of the eligible rows (or tokens) that the budget keeps. Source: the class balance of Sorscher et al.
    2022, arXiv 2206.14486. Each class counts by its own size, where the code of CCS and DUAL takes the last one's for
    all.
    """

    name = "balanced"
    needs = frozenset({"score", "labels"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0, share: float = 0.5) -> Selection:
        """Pick from `labels` [N]; rows with a negative label have no floor.

        In a token budget rows under a floor come first.

        Raises:
            RequestError: A share outside 0 to 1.
        """
        if not 0 <= share <= 1:
            raise RequestError(f"share={share}: expected 0 to 1; correct --option share")
        ballot = Ballot.of(inputs)
        ranking = ballot.ranking()
        label_R = np.asarray(inputs["labels"])[ranking]
        under_R = _under_floor(label_R, share * kept_share(budget, ranking, inputs))
        order = np.concatenate([ranking[under_R], ranking[~under_R]])
        kept, next_in_line, notes = within(budget, order, inputs)
        return ballot.select(
            kept,
            {"over-budget": next_in_line},
            kept_code="kept-balanced",
            rest_code="below-cut",
            notes=notes,
            texts=_TEXTS,
        )


def _under_floor(label_R: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Which places of the ranking are among the first `floor(share * n_c)` of their class."""
    under_R = np.zeros(len(label_R), dtype=bool)
    for label in np.unique(label_R[label_R >= 0]).tolist():
        places = np.flatnonzero(label_R == label)
        under_R[places[: int(share * len(places) + 1e-9)]] = True
    return under_R
