"""Window: the best-scored rows after the very best, which in difficulty are often mislabelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataworth.picks.ledger import Ballot, within
from dataworth.picks.shares import passed_over
from dataworth.records import Budget
from dataworth.results import Selection

_TEXTS = {
    "kept-window": "kept: in the window of the ranking",
    "above-window": "dropped: among the very {best} by {score}, which the window's offset passes over",
}


class Window:
    """The rows of the ranking from `offset` on, as many as the budget pays for; equal scores by id.

    Source: Paul et al. 2021, arXiv 2107.07075, and its repository (`argsort()[offset : offset + size]`). A budget of
    rows that the rest of the ranking can't fill moves the window towards the top, so that sizes match between methods.
    """

    name = "window"
    needs = frozenset({"score"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0, offset: float = 0.05) -> Selection:
        """Pick; `offset` is a share of the eligible rows below 1, else a number of rows.

        Raises:
            RequestError: A negative offset, or one that leaves no row of a token budget.
        """
        ballot = Ballot.of(inputs)
        ranking = ballot.ranking()
        passed = passed_over("offset", offset, ranking, budget, inputs)
        kept, next_in_line, notes = within(budget, ranking[passed:], inputs)
        return ballot.select(
            kept,
            {"above-window": ranking[:passed], "over-budget": next_in_line},
            kept_code="kept-window",
            rest_code="below-cut",
            notes=notes,
            texts=_TEXTS,
        )
