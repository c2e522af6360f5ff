"""Cosines of stored rows in plain NumPy: what the streamed products of `probes.similarity` are checked against."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.numerics.quantize import directions


def cosines(
    blocks: Iterable[tuple[NDArray[np.integer[Any]], NDArray[Any]]],
    scale_N: NDArray[np.float32],
    goals_GP: NDArray[Any],
) -> NDArray[np.float32]:
    """Dot products of stored unit rows with goal vectors, block by block.

    Args:
        blocks: `(positions, codes)` pairs in any order; rows that never come stay NaN.
        scale_N: Scales of all rows.
        goals_GP: Goal vectors (unit for cosines, mean directions for means of cosines).

    Returns:
        `[N, G]` float32.
    """
    out_NG = np.full((len(scale_N), len(goals_GP)), np.nan, dtype=np.float32)
    goals_PG = np.ascontiguousarray(np.asarray(goals_GP, dtype=np.float32).T)
    for positions, codes in blocks:
        out_NG[positions] = directions(codes, scale_N[positions], goals_PG.shape[0]) @ goals_PG
    return out_NG
