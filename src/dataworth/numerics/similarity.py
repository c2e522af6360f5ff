"""What stored feature rows are multiplied with: the directions of a goal.

Means over goal rows are taken before the product: the mean over a subtask of per-row cosines is the dot product with
the mean of the normalised goal rows, whatever the subtask's size, so a goal of thousands of rows costs no more than
its subtasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import NonsenseRefused


def unit_rows(x_NP: NDArray[Any]) -> NDArray[np.float64]:
    """Rows divided by their length; a zero row stays zero (callers refuse or list it)."""
    x_NP = np.asarray(x_NP, dtype=np.float64)
    length_N = np.linalg.norm(x_NP, axis=1, keepdims=True)
    return np.divide(x_NP, length_N, out=np.zeros_like(x_NP), where=length_N > 0)


def goal_directions(
    unit_QP: NDArray[Any], norm_Q: NDArray[Any], subtask_Q: NDArray[np.integer[Any]], subtasks: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What to multiply a unit pool row with: per subtask the mean direction, and the direction of the mean gradient.

    Args:
        unit_QP: Unit goal rows.
        norm_Q: Their lengths before normalising.
        subtask_Q: Index into `subtasks` of each goal row; subtasks may differ in size.
        subtasks: Names, for the error.

    Returns:
        `(mean_GP, centroid_GP)`: `pool @ mean_GP.T` is the mean of cosines (the LESS repository),
        `pool @ centroid_GP.T` the cosine with the mean gradient (the paper's Eq. 2).

    Raises:
        NonsenseRefused: A subtask has no rows, or rows that are zero, not finite or cancel out.
    """
    subtask_Q = np.asarray(subtask_Q)
    unit_QP, norm_Q = np.asarray(unit_QP, dtype=np.float64), np.asarray(norm_Q, dtype=np.float64)
    width = unit_QP.shape[1]
    mean_GP, raw_GP = np.zeros((len(subtasks), width)), np.zeros((len(subtasks), width))
    for g, name in enumerate(subtasks):
        rows = np.flatnonzero(subtask_Q == g)
        if not len(rows):
            raise NonsenseRefused(
                f"goal subtask {name!r} has no usable row: expected at least one; add or repair its rows"
            )
        mean_GP[g] = unit_QP[rows].mean(axis=0)
        # Relative to the largest, so that tiny gradients don't vanish and huge ones don't overflow.
        raw_GP[g] = (unit_QP[rows] * (norm_Q[rows] / norm_Q[rows].max())[:, None]).mean(axis=0)
    for table_GP in (mean_GP, raw_GP):
        size_G = np.linalg.norm(table_GP, axis=1)
        for g in np.flatnonzero(~(np.isfinite(size_G) & (size_G > 1e-12))).tolist():
            raise NonsenseRefused(
                f"goal subtask {subtasks[g]!r} has features of length {size_G[g]:g}: expected a direction; "
                "check its rows' supervised tokens"
            )
    return mean_GP, unit_rows(raw_GP)
