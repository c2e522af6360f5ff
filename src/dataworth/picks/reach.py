"""How far a pick that goes row by row has to go: the rows it may take, and how many of them a budget could pay for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.numerics.directions import directions, finite_rows
from dataworth.picks.ledger import Ballot, within
from dataworth.records import Budget, hash_unit

NO_VECTOR = {"no-vector": "dropped: it has no usable vector"}


def reach(budget: Budget, rows: NDArray[np.int64], inputs: Mapping[str, Any]) -> int:
    """The most of `rows` that the budget could pay for in any order (tokens: and one more, which didn't fit).

    Raises:
        RequestError: A budget of nothing, or tokens without `tokens_N`.
    """
    if budget.unit != "tokens":
        return len(within(budget, rows, inputs)[0])
    within(budget, rows[:0], inputs)
    cheapest = np.cumsum(np.sort(np.asarray(inputs["tokens_N"], dtype=np.float64)[rows]))
    return min(len(rows), int(np.searchsorted(cheapest, budget.amount, side="right")) + 1)


def unscored_ballot(inputs: Mapping[str, Any]) -> Ballot:
    """A ballot of a pick that ranks by no score: its ranking is the eligible rows in id order."""
    return Ballot.of(inputs, np.zeros(len(inputs["ids"])))


def with_directions(
    inputs: Mapping[str, Any], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Those of `rows` that have a direction, their unit vectors `[R, D]`, and the rows that have none."""
    unit_RD, usable_R = directions(inputs["vectors"], rows)
    return rows[usable_R], unit_RD if usable_R.all() else unit_RD[usable_R], rows[~usable_R]


def with_vectors(
    inputs: Mapping[str, Any], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Those of `rows` whose vectors are finite, these `[R, D]` as they are, and the rows that have none."""
    vectors_RD, usable_R = finite_rows(inputs["vectors"], rows)
    return rows[usable_R], vectors_RD, rows[~usable_R]


def uniform_of(inputs: Mapping[str, Any], rows: NDArray[np.int64], seed: int, purpose: str) -> NDArray[np.float64]:
    """A random number of each of `rows`, from its id."""
    ids = inputs["ids"]
    return hash_unit([ids[i] for i in rows.tolist()], seed, purpose)


def among(index_Nk: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The lists of neighbours of `rows`, as places in `rows`; -1 for neighbours that aren't among them."""
    place_N = np.full(len(index_Nk) + 1, -1, dtype=np.int64)  # the last place is what -1 reads
    place_N[rows] = np.arange(len(rows))
    return place_N[index_Nk[rows]]
