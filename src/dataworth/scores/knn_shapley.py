"""kNN-Shapley: what each row contributes to classifying the goal's rows by their nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics.directions import directions
from dataworth.numerics.knn_shapley import knn_shapley
from dataworth.results import Scored
from dataworth.scores.assemble import Reduce, assemble, over_subtasks


class KnnShapley:
    """Exact Shapley values of rows when the goal's labels are guessed by the k nearest rows; low (negative) is harmful.

    Source: Jia et al. 2019, arXiv 1908.08619, theorem 1, on unit vectors. Mean over a subtask's goal rows, then over
    subtasks. Equally near rows share their values (their order is averaged over).
    """

    name = "knn_shapley"
    kinds = frozenset({"classify"})
    needs = frozenset({"vectors", "labels", "goal_vectors", "goal_labels"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any], *, nearest: int = 5, reduce: Reduce = "mean") -> Scored:
        """Score every row from `vectors` [N, D], `labels` [N], `goal_vectors` and `goal_labels` (by subtask).

        Raises:
            RequestError: `nearest` below 1, an unknown reduction, or subtasks whose vectors and labels don't pair up.
            NonsenseRefused: A goal vector is zero or not finite, or a subtask has no row.
        """
        if nearest < 1:
            raise RequestError(f"nearest={nearest}: expected at least 1 neighbour; correct --option nearest")
        unit_ND, usable_N = directions(inputs["vectors"], np.arange(len(inputs["ids"])))
        label_N = np.asarray(inputs["labels"])[usable_N]
        goals = inputs["goal_vectors"]
        values_NG = np.full((len(usable_N), len(goals)), np.nan)
        for g, (name, rows_QD) in enumerate(goals.items()):
            goal_QD, label_Q = _paired(name, rows_QD, inputs["goal_labels"].get(name))
            values_NG[usable_N, g] = knn_shapley(unit_ND[usable_N], label_N, goal_QD, label_Q, nearest)
        return assemble(over_subtasks(values_NG, reduce), inputs, "it has no usable vector")


def _paired(name: str, rows_QD: NDArray[Any], label_Q: Any) -> tuple[NDArray[np.float32], NDArray[Any]]:
    found = np.empty(0) if label_Q is None else np.asarray(label_Q)
    if len(found) != len(rows_QD):
        raise RequestError(
            f"goal subtask {name!r} has {len(rows_QD)} vectors and {len(found)} labels: expected one each; "
            "give labelled goal rows"
        )
    unit_QD, usable_Q = directions(rows_QD, np.arange(len(rows_QD)))
    if not len(found) or not usable_Q.all():
        raise NonsenseRefused(
            f"goal subtask {name!r} has no rows, or zero or non-finite vectors: expected directions; recompute them"
        )
    return unit_QD, found
