"""RDS: likeness of the learner's hidden states to the goal's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics.similarity import unit_rows
from dataworth.results import Scored
from dataworth.scores.assemble import assemble

_ROWS = 65_536
_GOALS = 64


class RDS:
    """Cosine of position-weighted mean hidden states of pool and goal rows.

    Sources: the RDS baseline of Xia et al. 2024 (arXiv 2402.04333) for `reduce=mean_max`: mean within a subtask,
    max over subtasks; Ivison et al. 2025 (arXiv 2503.01807, RDS+) for `round_robin`: goal rows take turns, each
    offering its next nearest pool row.
    """

    name = "rds"
    kinds = frozenset({"sft", "text"})
    needs = frozenset({"vectors", "goal_vectors"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any], *, reduce: Literal["mean_max", "round_robin"] = "mean_max") -> Scored:
        """Score every row from `vectors` [N, D] (read in blocks) and `goal_vectors` (subtask -> [Q, D]).

        Raises:
            NonsenseRefused: A goal vector is zero or not finite.
            RequestError: An unknown reduction.
        """
        goals = {name: _checked(name, np.asarray(rows)) for name, rows in inputs["goal_vectors"].items()}
        if reduce == "mean_max":
            values = _dot(inputs["vectors"], np.stack([rows.mean(axis=0) for rows in goals.values()])).max(axis=1)
        elif reduce == "round_robin":
            values = _round_robin(inputs["vectors"], np.concatenate(list(goals.values())))
        else:
            raise RequestError(f"reduce={reduce!r}: expected mean_max or round_robin; correct --option reduce")
        return assemble(values, inputs, "it has no usable vector")


def _checked(name: str, rows_QD: NDArray[Any]) -> NDArray[np.float64]:
    length_Q = np.linalg.norm(rows_QD, axis=1) if len(rows_QD) else np.zeros(1)
    if not (np.isfinite(length_Q) & (length_Q > 0)).all():
        raise NonsenseRefused(
            f"goal subtask {name!r} has zero or non-finite vectors: expected directions; recompute them"
        )
    return unit_rows(rows_QD)


def _dot(vectors_ND: NDArray[Any], goals_GD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit pool rows times goals; NaN where a pool row has no direction.

    Rounded to 12 decimals: a row's last bits depend on its place in a matrix product, and copies must tie.
    """
    blocks = [np.round(_unit_or_nan(block) @ goals_GD.T, 12) for block in _blocks(vectors_ND)]
    return np.concatenate(blocks) if blocks else np.empty((0, len(goals_GD)))


def _blocks(vectors_ND: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for a in range(0, len(vectors_ND), _ROWS):
        yield vectors_ND[a : a + _ROWS]


def _unit_or_nan(block: NDArray[Any]) -> NDArray[np.float64]:
    unit = unit_rows(block)
    unit[~np.isfinite(unit).all(axis=1) | ~unit.any(axis=1)] = np.nan
    return unit


def _round_robin(vectors_ND: NDArray[Any], goals_QD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minus the best rank of a row over all goal rows, plus its best cosine in (0, 1) to order rows of one round.

    Rank counts the strictly nearer rows, so equal rows share it and row order plays no part.
    """
    best_N = np.full(len(vectors_ND), np.inf)
    nearest_N = np.full(len(vectors_ND), -np.inf)
    for a in range(0, len(goals_QD), _GOALS):
        cosine_NQ = _dot(vectors_ND, goals_QD[a : a + _GOALS])
        usable = np.flatnonzero(np.isfinite(cosine_NQ).all(axis=1))
        for column in cosine_NQ.T:
            ordered = np.sort(column[usable])
            nearer = len(ordered) - np.searchsorted(ordered, column[usable], side="right")
            best_N[usable] = np.minimum(best_N[usable], nearer)
        nearest_N[usable] = np.maximum(nearest_N[usable], cosine_NQ[usable].max(axis=1))
    return -best_N + (nearest_N + 1) / 4
