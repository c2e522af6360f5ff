"""Band: the middle of the ranking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataworth.picks.ledger import Ballot, within
from dataworth.records import Budget
from dataworth.results import Selection

_TEXTS = {
    "kept-band": "kept: in the middle of the ranking",
    "above-band": "dropped: past the middle, towards the {best} by {score}",
    "below-band": "dropped: past the middle, towards the {worst} by {score}",
}


class Band:
    """The rows nearest to the middle of the ranking, all classes in one; equal scores by id.

    With the score `moderate` this is the moderate coreset (Xia et al. 2023), where D2's code keeps the tails instead.
    """

    name = "band"
    needs = frozenset({"score"})

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0) -> Selection:
        """Pick; `boundary` holds the best and the worst kept score."""
        ballot = Ballot.of(inputs)
        ranking = ballot.ranking()
        place = np.arange(len(ranking))
        off = np.abs(2 * place - (len(ranking) - 1))
        outwards = np.lexsort((place, off))
        kept, next_in_line, notes = within(budget, ranking[outwards], inputs)
        half = len(ranking) // 2
        sign = -1.0 if inputs.get("higher", "keep") == "drop" else 1.0
        values = ballot.value_N[kept]
        return ballot.select(
            kept,
            {"above-band": ranking[:half], "over-budget": next_in_line},
            kept_code="kept-band",
            rest_code="below-band",
            notes=notes,
            boundary={"best_kept": sign * float(values.max()), "worst_kept": sign * float(values.min())}
            if len(kept)
            else {},
            texts=_TEXTS,
        )
