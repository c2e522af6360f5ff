"""CRAIG: facility location on distances within each class, with weights that make the chosen rows stand for all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from dataworth.numerics.facility import greedy_dense

_PART = 6_000
"""Rows whose distances are held at once (288 MB); a larger class is cut into random parts."""
_PAIRS = 16_000_000


def strata(label_N: NDArray[np.integer[Any]], uniform_N: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Rows of each class in the order of labels; classes above `_PART` rows in parts of equal size, at random."""
    out: list[NDArray[np.int64]] = []
    for label in np.unique(label_N):
        rows = np.flatnonzero(label_N == label)
        parts = -(-len(rows) // _PART)
        shuffled = rows[np.argsort(uniform_N[rows], kind="stable")] if parts > 1 else rows
        out += [np.sort(part) for part in np.array_split(shuffled, parts)]
    return out


def chosen(vectors_ND: NDArray[np.float64], groups: list[NDArray[np.int64]], k: int) -> NDArray[np.int64]:
    """Choose k rows in an order whose every prefix shares itself out over the groups by their sizes.

    The r-th row of a group of n has key (r - 1) / n: smallest keys first, larger groups first among equals, so that
    every group has a row as soon as there is one for each (Adams' apportionment). Within a group rows
    come by greedy on s = max(distance) - distance.
    """
    key = np.concatenate([np.arange(len(g)) / len(g) for g in groups])
    group = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    size = np.array([len(g) for g in groups])
    seats = np.lexsort((group, -size[group], key))[:k]
    taken = np.bincount(group[seats], minlength=len(groups))
    orders = [_greedy(vectors_ND[g], int(n)) for g, n in zip(groups, taken, strict=True)]
    starts = np.concatenate([[0], np.cumsum(size)])
    return np.array([groups[c][orders[c][s - starts[c]]] for s, c in zip(seats, group[seats], strict=True)], np.int64)


def weights(
    vectors_ND: NDArray[np.float64], label_N: NDArray[np.integer[Any]], kept_K: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How many rows of its class each kept row is the nearest for, itself always among them; the first of equally near.

    They are 1 at least, so that of copies that are all kept none is left without weight, and sum to the number of rows
    of all classes that have a kept row.
    """
    weight_K = np.zeros(len(kept_K))
    for label in np.unique(label_N[kept_K]):
        # Kept rows in the order of rows; the first of equal distances wins.
        mine = np.flatnonzero(label_N[kept_K] == label)
        mine = mine[np.argsort(kept_K[mine])]
        rows, kept = np.flatnonzero(label_N == label), kept_K[mine]
        nearest = np.empty(len(rows), dtype=np.int64)
        step = max(1, _PAIRS // len(mine))
        for a in range(0, len(rows), step):
            nearest[a : a + step] = cdist(vectors_ND[rows[a : a + step]], vectors_ND[kept]).argmin(axis=1)
        nearest[np.searchsorted(rows, kept)] = np.arange(len(kept))
        weight_K[mine] += np.bincount(nearest, minlength=len(mine))
    return weight_K


def _greedy(vectors_MD: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    if not k:
        return np.empty(0, np.int64)
    distance_MM = cdist(vectors_MD, vectors_MD)
    np.subtract(distance_MM.max(), distance_MM, out=distance_MM)
    return greedy_dense(distance_MM, k)[0]
