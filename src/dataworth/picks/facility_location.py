"""Facility location: rows such that every row has a kept one near it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dataworth.errors import RequestError
from dataworth.numerics import facility
from dataworth.picks.ledger import within
from dataworth.picks.reach import NO_VECTOR, among, reach, uniform_of, unscored_ballot
from dataworth.records import Budget
from dataworth.results import Selection

TEXTS = {
    **NO_VECTOR,
    "kept-facility": "kept: it covers the most rows that no kept row was near to",
    "covered": "dropped: other rows cover more of the pool",
}


class FacilityLocation:
    """Greedy maximisation of the sum over rows of the similarity to the nearest kept row, on the graph of neighbours.

    Source: submodular data selection as in Wei et al. 2015; lazy greedy of Minoux 1978. Similarities are cosines
    clipped at 0 (1 for a row and itself, 0 for pairs that aren't neighbours either way), F(empty) = 0. Only
    eligible rows are covered.
    """

    name = "facility_location"
    needs = frozenset({"neighbours"})

    def __call__(
        self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0, epsilon: float = 0.0, partitions: int = 1
    ) -> Selection:
        """Pick; `boundary["objective"]` is the mean similarity of eligible rows to the kept ones, on the graph.

        Args:
            inputs: With `neighbours`.
            budget: Rows, a share or tokens.
            seed: For `epsilon` and `partitions`.
            epsilon: 0 evaluates all gains that matter; 0.01 to 0.1 tries random rows at each step.
            partitions: Parts of a first round, whose picks stand for election in a second.

        Raises:
            RequestError: Another epsilon, or both ways of going faster at once.
        """
        if epsilon and partitions != 1:
            raise RequestError(
                f"epsilon={epsilon} and partitions={partitions}: expected one of them; drop the other --option"
            )
        ballot = unscored_ballot(inputs)
        eligible, found = ballot.ranking(), inputs["neighbours"]
        known_R = (found.index_Nk[eligible] >= 0).any(axis=1) | (len(inputs["ids"]) == 1)
        rows, missing = eligible[known_R], eligible[~known_R]
        most = reach(budget, rows, inputs)
        similarity = facility.graph(among(found.index_Nk, rows), found.cosine_Nk[rows])
        uniform_R = uniform_of(inputs, rows, seed, "pick:facility_location")
        if epsilon:
            rng = np.random.default_rng(seed)
            uniform_M = rng.random(facility.draws(len(rows), most, epsilon))
            picked, gain = facility.stochastic(similarity, most, uniform_M, epsilon=epsilon)
        elif partitions == 1:
            picked, gain = facility.greedy(similarity, most)
        else:
            picked, gain = facility.partitioned(similarity, most, partitions, uniform_R)
        kept, next_in_line, notes = within(budget, rows[picked], inputs)
        edge = {"objective": float(gain[: len(kept)].sum() / len(rows))} if len(kept) else {}
        return ballot.select(
            kept,
            {"no-vector": missing, "over-budget": next_in_line},
            kept_code="kept-facility",
            rest_code="covered",
            notes=[*notes, *_out_of_sight(similarity, picked[: len(kept)])],
            boundary=edge,
            texts=TEXTS,
        )


def _out_of_sight(similarity: sparse.csr_array, kept: NDArray[np.int64]) -> list[str]:
    """A note where the graph is too thin for so few rows: most of the pool has no kept neighbour at all."""
    rows = similarity.shape[0]
    if not len(kept):
        return []
    near = np.unique(similarity[kept].indices).size
    if near >= 0.5 * rows:
        return []
    return [
        f"{rows - near:,} of {rows:,} rows are no neighbours of a kept row: the graph can't tell how well these are "
        "covered; keep more rows, or use more neighbours"
    ]
