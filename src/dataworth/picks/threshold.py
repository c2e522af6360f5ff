"""Threshold: rows whose score is not beyond a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataworth.errors import RequestError
from dataworth.picks.ledger import Ballot, within
from dataworth.records import Budget
from dataworth.results import Selection

_TEXTS = {
    "kept-threshold": "kept: its score is within the thresholds, and among the {best} by {score} within the budget",
    "too-low": "dropped: its score is below the threshold",
    "too-high": "dropped: its score is above the threshold",
}


class Threshold:
    """The best rows with `above` <= score <= `below`, at most what the budget pays for; equal scores by id.

    Both are in the score's own unit, whichever end is kept: `aum` with above=0 leaves out rows whose label loses. The
    budget is a ceiling: with 100%, everything within the thresholds is kept.
    """

    name = "threshold"
    needs = frozenset({"score"})

    def __call__(
        self,
        inputs: Mapping[str, Any],
        budget: Budget,
        *,
        seed: int = 0,
        above: float = -np.inf,
        below: float = np.inf,
    ) -> Selection:
        """Pick; `boundary` holds the thresholds that were given.

        Raises:
            RequestError: Thresholds that no score can be within, or none is.
        """
        if not above <= below:
            raise RequestError(f"above={above}, below={below}: expected above to be the smaller; correct --option")
        ballot = Ballot.of(inputs)
        ranking = ballot.ranking()
        value_R = (-1.0 if inputs.get("higher", "keep") == "drop" else 1.0) * ballot.value_N[ranking]
        low, high = value_R < above, value_R > below
        if len(value_R) and (low | high).all():
            raise RequestError(
                f"above={above:g}, below={below:g}: expected thresholds that a row's score is within, but "
                f"{ballot.words['score']} goes from {value_R.min():.6g} to {value_R.max():.6g}; correct --option"
            )
        kept, next_in_line, notes = within(budget, ranking[~low & ~high], inputs)
        given = {"above": float(above), "below": float(below)}
        return ballot.select(
            kept,
            {"too-low": ranking[low], "too-high": ranking[high], "over-budget": next_in_line},
            kept_code="kept-threshold",
            rest_code="below-cut",
            notes=notes,
            boundary={name: value for name, value in given.items() if np.isfinite(value)},
            texts=_TEXTS,
        )
