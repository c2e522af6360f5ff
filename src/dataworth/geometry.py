"""Neighbours and clusters of a pool: made once, read by scores, picks and checks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Neighbours:
    """The k nearest other rows of each row by cosine, nearest first; equal ones in the order of their ids.

    `index_Nk` int64 positions (-1 where a row has fewer than k, or no vector), `cosine_Nk` float32 (NaN there).
    """

    index_Nk: NDArray[np.int64]
    cosine_Nk: NDArray[np.float32]


@dataclass(frozen=True)
class Clusters:
    """A partition of a pool by its vectors.

    `label_N` int64 (-1 for rows without a vector), `centroid_KD` the unit centroids, `cosine_N` of each row with its
    own centroid (NaN without a vector).
    """

    label_N: NDArray[np.int64]
    centroid_KD: NDArray[np.float32]
    cosine_N: NDArray[np.float32]
