"""Bottom-k: the worst-scored rows, for scores whose other end is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dataworth.picks.ledger import Ballot, ties_at_the_cut, within
from dataworth.records import Budget
from dataworth.results import Selection

_TEXTS = {
    "kept-bottom": "kept: among the {worst} by {score} within the budget",
    "above-cut": "dropped: past the cut, towards the {best} by {score}",
}


class BottomK:
    """The rows with the worst scores that the budget pays for; equal scores by id.

    Scores of difficulty keep what is hard: this keeps what is easy.
    """

    name = "bottom_k"
    needs = frozenset({"score"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0) -> Selection:
        """Pick; `boundary` holds the scores of the last kept and the first dropped row."""
        ballot = Ballot.of(inputs)
        ranking = replace(ballot, value_N=-ballot.value_N).ranking()
        kept, next_in_line, notes = within(budget, ranking, inputs)
        sign = -1.0 if inputs.get("higher", "keep") == "drop" else 1.0
        ends = {"last_kept": ranking[: len(kept)][-1:], "first_dropped": ranking[len(kept) :][:1]}
        return ballot.select(
            kept,
            {"over-budget": next_in_line},
            kept_code="kept-bottom",
            rest_code="above-cut",
            notes=[*notes, *ties_at_the_cut(ballot.value_N, ranking, len(kept))],
            boundary={name: float(sign * ballot.value_N[i]) for name, rows in ends.items() for i in rows},
            texts=_TEXTS,
        )
