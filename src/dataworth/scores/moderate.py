"""Moderate: how far a row lies from the middle of its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.results import Scored
from dataworth.scores.assemble import assemble

_NUMBERS = 2**24
"""Numbers of a class that are held at once while its medians are taken."""


class Moderate:
    """Euclidean distance of a row's vector to the coordinate-wise median of its class; high is atypical.

    Source: Xia et al. 2023, "Moderate Coreset", and its repository, where the *middle* of all distances is kept: that
    is `--pick band`. D2's code keeps the tails under this name.
    """

    name = "moderate"
    kinds = frozenset({"classify"})
    needs = frozenset({"vectors", "labels"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any]) -> Scored:
        """Score every row from `vectors` [N, D] and `labels` [N]; a negative label is none."""
        vectors_ND, labels_N = inputs["vectors"], np.asarray(inputs["labels"])
        values_N = np.full(len(labels_N), np.nan)
        known_N = (labels_N >= 0) & _finite(vectors_ND)
        for label in np.unique(labels_N[known_N]).tolist():
            rows = np.flatnonzero(known_N & (labels_N == label))
            values_N[rows] = _distances(vectors_ND, rows)
        return assemble(values_N, inputs, "it has no usable vector or no label")


def _finite(vectors_ND: NDArray[Any]) -> NDArray[np.bool_]:
    step = max(1, _NUMBERS // max(1, vectors_ND.shape[1]))
    parts = [np.isfinite(vectors_ND[a : a + step]).all(axis=1) for a in range(0, len(vectors_ND), step)]
    return np.concatenate(parts) if parts else np.empty(0, dtype=bool)


def _distances(vectors_ND: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distances of `rows` to their own median, a block of coordinates at a time."""
    step = max(1, _NUMBERS // len(rows))
    square_n = np.zeros(len(rows))
    for a in range(0, vectors_ND.shape[1], step):
        block = np.ascontiguousarray(vectors_ND[rows, a : a + step], dtype=np.float64)
        square_n += ((block - np.median(block, axis=0)) ** 2).sum(axis=1)
    return np.sqrt(square_n)
