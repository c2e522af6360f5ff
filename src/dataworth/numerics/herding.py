"""Kernel herding: rows whose running mean stays as close as it can to the mean of all rows (Welling 2009)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def herd(vectors_ND: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Choose k rows; the t-th is the argmin over the rows x left of ||t mu - (sum of chosen + x)||.

    Rows lie in the order that breaks ties. O(N k D) time.
    """
    mean_D = vectors_ND.mean(axis=0)
    square_N = np.einsum("nd,nd->n", vectors_ND, vectors_ND)
    free_N = np.zeros(len(vectors_ND))
    owed_D = np.zeros_like(mean_D)  # t mu minus the sum of chosen rows
    scale = max(float(square_N.max(initial=0.0)), 1e-300)
    picked: list[int] = []
    for _ in range(min(k, len(vectors_ND))):
        owed_D = owed_D + mean_D
        # ||owed - x||^2 without ||owed||^2; rounded, since the place of a row decides its last bits
        gap_N = np.round((square_N - 2.0 * (vectors_ND @ owed_D)) / scale, 12)
        picked.append(int(np.argmin(gap_N + free_N)))
        free_N[picked[-1]] = np.inf
        owed_D = owed_D - vectors_ND[picked[-1]]
    return np.array(picked, dtype=np.int64)
