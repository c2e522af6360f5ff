"""Exact Shapley values of training rows for k-nearest-neighbour classification (Jia et al. 2019, arXiv 1908.08619)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOALS = 32


def knn_shapley(
    unit_ND: NDArray[Any],
    label_N: NDArray[np.integer[Any]],
    goal_QD: NDArray[Any],
    goal_label_Q: NDArray[np.integer[Any]],
    k: int,
) -> NDArray[np.float64]:
    """Mean over goal rows of each row's Shapley value, where v(S) is the share of right labels among the k nearest.

    v(S) = (1/k) sum over the min(k, |S|) rows of S nearest to a goal row of [label is right], with cosines (unit rows;
    rounded to 12 decimals) and ties in random order: rows equally near with equal labels get equal values. The values
    of all rows sum to v of all rows, the mean share of right labels among a goal row's k nearest.
    """
    total_N = np.zeros(len(unit_ND))
    unit_ND = np.asarray(unit_ND, dtype=np.float64)
    for a in range(0, len(goal_QD), _GOALS):
        cosine_QN = np.round(np.asarray(goal_QD[a : a + _GOALS], dtype=np.float64) @ unit_ND.T, 12)
        for cosine_N, label in zip(cosine_QN, goal_label_Q[a : a + _GOALS], strict=True):
            total_N += _of_one(-cosine_N, label_N == label, k)
    return total_N / max(1, len(goal_QD))


def _of_one(far_N: NDArray[np.float64], right_N: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Values for one goal row.

    Jia's recursion from the farthest row i = N down: s_N = [right_N] min(k, N) / (k N),
    s_i = s_(i+1) + c_i ([right_i] - [right_(i+1)]) with c_i = min(k, i) / (k i). Here over groups of equally far
    rows, averaged over the orders within each.
    """
    rows = len(far_N)
    order = np.argsort(far_N, kind="stable")
    far, right = far_N[order], right_N[order].astype(np.float64)
    place = np.arange(1, rows + 1)
    c_N = np.minimum(k, place) / (k * place)
    starts = np.flatnonzero(np.concatenate([[True], far[1:] != far[:-1]]))
    if len(starts) == rows:
        after = np.concatenate([right[1:], [0.0]])
        value = np.cumsum((c_N * (right - after))[::-1])[::-1]
    else:
        value = _tied(right, c_N, starts)
    out_N = np.empty(rows)
    out_N[order] = value
    return out_N


def _tied(right: NDArray[np.float64], c_N: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same with groups of tied rows from `starts`: expectations over random orders within groups."""
    size_T = np.diff(np.concatenate([starts, [len(right)]]))
    share_T = np.add.reduceat(right, starts) / size_T
    mean_c_T = np.add.reduceat(c_N, starts) / size_T
    last_c_T = c_N[starts + size_T - 1]
    next_share_T = np.concatenate([share_T[1:], [0.0]])
    # Expected value of a group's first place, from the last group on.
    first_T = np.cumsum((last_c_T * (share_T - next_share_T))[::-1])[::-1]
    beyond_T = np.concatenate([first_T[1:], [0.0]])
    group = np.repeat(np.arange(len(starts)), size_T)
    others = np.where(size_T > 1, size_T - 1, 1)[group]
    # What the other rows of the group are worth on average, once this row's label is known.
    rest = np.where(size_T[group] > 1, (share_T[group] * size_T[group] - right) / others, right)
    return beyond_T[group] + last_c_T[group] * (rest - next_share_T[group]) + (right - rest) * mean_c_T[group]
