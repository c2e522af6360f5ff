"""Gumbel: rows drawn without replacement, in proportion to the exponential of their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dataworth.errors import RequestError
from dataworth.picks.ledger import Ballot, within
from dataworth.records import Budget, hash_unit
from dataworth.results import Selection

REASON = "kept: drawn at random, the likelier the higher it ranks"


class Gumbel:
    """The best sums of score / temperature and Gumbel noise.

    Source: the resampling of Xie et al. 2023, arXiv 2302.03169 (DSIR). The first row drawn is row i with probability
    proportional to exp(score_i / temperature), each later one so among those left. Meant for log weights (`dsir`); a
    score of another scale needs a `temperature` near its own spread. The noise comes from hash(id, seed).
    """

    name = "gumbel"
    needs = frozenset({"score"})

    def __call__(
        self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0, temperature: float = 1.0
    ) -> Selection:
        """Pick; another seed draws another subset.

        Raises:
            RequestError: A temperature that isn't a finite number above 0.
        """
        if not 0 < temperature < float("inf"):
            raise RequestError(f"temperature={temperature}: expected a number above 0; correct --option temperature")
        ballot = Ballot.of(inputs)
        u_N = np.clip(hash_unit(inputs["ids"], seed, "pick:gumbel"), 2.0**-64, 1.0 - 2.0**-53)
        drawn = replace(ballot, value_N=ballot.value_N / temperature - np.log(-np.log(u_N)))
        kept, next_in_line, notes = within(budget, drawn.ranking(), inputs)
        return drawn.select(
            kept,
            {"over-budget": next_in_line},
            kept_code="kept-drawn",
            rest_code="not-drawn",
            notes=notes,
            texts={"kept-drawn": REASON},
        )
