"""Coresets by sampling: which rows are drawn with which probability, and weights that keep sums unbiased."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def lightweight(vectors_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Q = 1 / 2N + d(x, mean)^2 / (2 sum of d^2): Bachem et al. 2018, arXiv 1702.08248."""
    rows = len(vectors_ND)
    away_ND = vectors_ND - vectors_ND.mean(axis=0)
    square_N = np.einsum("nd,nd->n", away_ND, away_ND)
    total = float(square_N.sum())
    # Rows that are all alike differ from their mean by rounding only.
    spread = total > 1e-24 * max(1.0, float(np.einsum("nd,nd->", vectors_ND, vectors_ND)))
    return 0.5 / rows + 0.5 * square_N / total if spread else np.full(rows, 1.0 / rows)


def sensitivity(cost_N: NDArray[np.float64], label_N: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Q in proportion to a bound on how much of any k-means cost a row can be, from a rough solution.

    s = a c/C + 2 a C_b / (n_b C) + 4 N / n_b with the row's cost c (squared distance to its center), the mean cost C of
    all rows, the cost sum C_b and size n_b of its cluster, and a = 16 (log2 K + 2): Bachem et al. 2017, arXiv
    1703.06476, algorithm 2.
    """
    rows = len(cost_N)
    _, cluster_N, size_K = np.unique(label_N, return_inverse=True, return_counts=True)
    a = 16.0 * (np.log2(len(size_K)) + 2.0)
    mean = float(cost_N.mean())
    bound_N = 4.0 * rows / size_K[cluster_N]
    if mean > 0:
        own_K = np.bincount(cluster_N, weights=cost_N) / size_K
        bound_N = bound_N + a * cost_N / mean + 2.0 * a * own_K[cluster_N] / mean
    return bound_N / bound_N.sum()


def inclusion(q_N: NDArray[np.float64], m: int) -> NDArray[np.float64]:
    """Each row's probability to be among m distinct rows: m q, or 1 where that is more, the rest scaled to sum to m."""
    certain_N = np.zeros(len(q_N), dtype=bool)
    while True:
        left = m - int(certain_N.sum())
        rest = float(q_N[~certain_N].sum())
        pi_N = np.where(certain_N, 1.0, left * q_N / rest if rest > 0 and left > 0 else 0.0)
        over_N = (pi_N >= 1.0) & ~certain_N
        if not over_N.any():
            return pi_N
        certain_N |= over_N


def drawn(
    q_N: NDArray[np.float64], m: int, uniform_N: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw m distinct rows by systematic sampling in random order, and their weights 1 / (m q) (1 for certain rows).

    Sums over the drawn rows times their weights have the sums over all rows as expectation. `uniform_N` are random
    numbers of the rows: their order is that of the walk, and the smallest says where it starts.
    """
    if m >= len(q_N):
        return np.arange(len(q_N)), np.ones(len(q_N))
    pi_N = inclusion(q_N, m)
    certain = np.flatnonzero(pi_N >= 1.0)
    walk = np.argsort(uniform_N, kind="stable")
    # The smallest of N uniform numbers, made uniform itself; the order of the numbers doesn't depend on it.
    start = 1.0 - (1.0 - float(uniform_N[walk[0]])) ** len(walk)
    walk = walk[pi_N[walk] < 1.0]
    ends = np.cumsum(pi_N[walk])
    ends[-1] = m - len(certain)
    met = np.floor(np.concatenate([[0.0], ends]) + start)
    picked = np.sort(np.concatenate([certain, walk[np.diff(met) > 0]]))
    return picked, 1.0 / pi_N[picked]
