"""Top-k: the best-scored rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataworth.picks.ledger import Ballot, ties_at_the_cut, within
from dataworth.records import Budget
from dataworth.results import Selection


class TopK:
    """The rows with the best scores that the budget pays for; equal scores by id."""

    name = "top_k"
    needs = frozenset({"score"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0) -> Selection:
        """Pick; `boundary` holds the scores of the last kept and the first dropped row."""
        ballot = Ballot.of(inputs)
        ranking = ballot.ranking()
        kept, next_in_line, notes = within(budget, ranking, inputs)
        sign = -1.0 if inputs.get("higher", "keep") == "drop" else 1.0
        edge = {}
        if len(kept):
            edge["last_kept"] = float(sign * ballot.value_N[kept[-1]])
        if len(kept) < len(ranking):
            edge["first_dropped"] = float(sign * ballot.value_N[ranking[len(kept)]])
        return ballot.select(
            kept,
            {"over-budget": next_in_line},
            kept_code="kept-top",
            rest_code="below-cut",
            notes=[*notes, *ties_at_the_cut(ballot.value_N, ranking, len(kept))],
            boundary=edge,
        )
