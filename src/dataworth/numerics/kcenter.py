"""Greedy k-center: each new center is the row farthest from all centers so far (Gonzalez 1985)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def farthest_first(
    unit_ND: NDArray[np.float32], k: int, first: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Take k centers of unit rows, which lie in the order that breaks ties.

    The largest distance of a row to its center is at most twice that of the best k centers. One vector of
    distances is kept: O(N k D) time, O(N) memory. Cosines are rounded to 6 decimals, so that copies have no distance.

    Returns:
        `(center_K, radius_K, distance_N)`: the centers in the order chosen, the radius after each of them, and
        every row's Euclidean distance to its nearest center at the end.
    """
    centers, radii = [first], []
    square_N = np.full(len(unit_ND), np.inf)
    chosen_N = np.zeros(len(unit_ND), dtype=bool)
    while True:
        cosine_N = np.round(unit_ND @ unit_ND[centers[-1]], 6)
        np.minimum(square_N, np.maximum(2.0 - 2.0 * cosine_N, 0.0), out=square_N)
        chosen_N[centers[-1]] = True
        radii.append(float(np.sqrt(square_N.max())))
        if len(centers) >= min(k, len(unit_ND)):
            return np.array(centers, dtype=np.int64), np.array(radii), np.sqrt(square_N)
        centers.append(int(np.argmax(np.where(chosen_N, -1.0, square_N))))
