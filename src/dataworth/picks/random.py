"""Random: the arm every other pick is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataworth.picks.ledger import Ballot, within
from dataworth.records import Budget, hash_unit
from dataworth.results import Selection


class RandomPick:
    """Rows by hash(id, seed): uniform without replacement, independent of row order; scores are not looked at."""

    name = "random"
    needs: frozenset[str] = frozenset()

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0) -> Selection:
        """Pick; another seed draws another subset."""
        ballot = Ballot.of(inputs, hash_unit(inputs["ids"], seed, "pick:random"))
        kept, next_in_line, notes = within(budget, ballot.ranking(), inputs)
        return ballot.select(
            kept, {"over-budget": next_in_line}, kept_code="kept-random", rest_code="not-drawn", notes=notes
        )
