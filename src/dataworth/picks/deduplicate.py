"""Deduplicate: the best row of every group of near-duplicates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataworth.errors import RequestError
from dataworth.picks.ledger import Ballot, within
from dataworth.records import Budget
from dataworth.results import Selection

TEXTS = {"near-copy": "dropped: a row that scored better says nearly the same"}


class Deduplicate:
    """Top-k among rows of which each is the best-scored of its group of near-duplicates; equal scores by id.

    Groups come from MinHash (Broder 1997) and an exact check, see `numerics.near_duplicates`. Near-copies don't come
    back when the budget would pay for more: fewer rows are kept, with a note.
    """

    name = "deduplicate"
    needs = frozenset({"score", "near_duplicates"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0) -> Selection:
        """Pick; `boundary` holds the scores of the last kept row and of the first below it that is no near-copy.

        Raises:
            RequestError: Not one group for each row.
        """
        group_N = np.asarray(inputs["near_duplicates"])
        if group_N.shape != (len(inputs["ids"]),):
            raise RequestError(
                f"near_duplicates {group_N.shape} for {len(inputs['ids'])} rows: expected one group each; remake them"
            )
        ballot = Ballot.of(inputs)
        ranking = ballot.ranking()
        first = np.sort(np.unique(group_N[ranking], return_index=True)[1])
        best, copies = ranking[first], np.delete(ranking, first)
        kept, next_in_line, notes = within(budget, best, inputs)
        sign = -1.0 if inputs.get("higher", "keep") == "drop" else 1.0
        edge = {}
        if len(kept):
            edge["last_kept"] = float(sign * ballot.value_N[kept[-1]])
        if len(kept) < len(best):
            edge["first_dropped"] = float(sign * ballot.value_N[best[len(kept)]])
        if notes and len(copies):
            notes = [*notes, f"{len(copies):,} near-copies were left out of them"]
        return ballot.select(
            kept,
            {"near-copy": copies, "over-budget": next_in_line},
            kept_code="kept-top",
            rest_code="below-cut",
            notes=notes,
            boundary=edge,
            texts=TEXTS,
        )
