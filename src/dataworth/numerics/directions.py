"""Rows of stored vectors as unit directions, read in blocks.

The functions of this package that break ties do so by the place of a row: callers hand rows in the order of their
ids, so that row order plays no part and copies are told apart in one way everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 16_384


def directions(vectors_ND: NDArray[Any], rows_R: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Unit rows `[R, D]` of `vectors_ND[rows_R]`, and which of them have a direction (finite and not zero).

    Rows without one are zero. Lengths are taken in float64; equal rows give equal directions.
    """
    unit_RD = np.zeros((len(rows_R), vectors_ND.shape[1]), dtype=np.float32)
    usable_R = np.zeros(len(rows_R), dtype=bool)
    for a in range(0, len(rows_R), _ROWS):
        block = np.asarray(vectors_ND[rows_R[a : a + _ROWS]], dtype=np.float64)
        length_B = np.sqrt(np.einsum("bd,bd->b", block, block))
        good_B = np.isfinite(length_B) & (length_B > 0)
        usable_R[a : a + _ROWS] = good_B
        unit_RD[a : a + _ROWS][good_B] = block[good_B] / length_B[good_B, None]
    return unit_RD, usable_R


def finite_rows(vectors_ND: NDArray[Any], rows_R: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The rows `vectors_ND[rows_R]` that are finite, as they are (float64), and which of `rows_R` they are."""
    taken_RD = np.asarray(vectors_ND[rows_R], dtype=np.float64)
    usable_R = np.asarray(np.isfinite(taken_RD).all(axis=1))
    return taken_RD[usable_R], usable_R
