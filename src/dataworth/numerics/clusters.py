"""k-means of a pool's unit vectors, by scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import MissingExtra, RequestError
from dataworth.geometry import Clusters
from dataworth.numerics.directions import directions

_ROWS = 16_384
_ROWS_PER_CLUSTER = 256
"""Centroids are fitted to this many random rows a cluster; more change them little."""


def kmeans(
    vectors_ND: NDArray[Any], order_N: NDArray[np.int64], k: int, *, seed: int = 0, iterations: int = 25
) -> Clusters:
    """Clusters of the rows that have a direction; every row belongs to the unit centroid with the largest cosine.

    Lloyd's algorithm on unit rows from k-means++ seeds (Arthur and Vassilvitskii 2007). Rows are taken in `order_N`
    (`records.id_order`), so that row order plays no part. Fewer rows than k: one cluster each.

    Raises:
        RequestError: k below 1, or no row has a direction.
        MissingExtra: scikit-learn isn't installed.
    """
    if k < 1 or iterations < 1:
        raise RequestError(f"{k} clusters in {iterations} iterations: expected at least 1 of each; correct the number")
    try:
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
    except ImportError as error:
        raise MissingExtra("clustering", "scikit-learn", "methods") from error
    unit_RD, usable_R = directions(vectors_ND, order_N)
    unit_RD, rows_R = unit_RD[usable_R], order_N[usable_R]
    if not len(rows_R):
        raise RequestError("no row has a usable vector: expected at least one to cluster; recompute the vectors")
    k = min(k, len(rows_R))
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.permutation(len(rows_R))[: _ROWS_PER_CLUSTER * k])
    fitted = KMeans(k, init="k-means++", n_init=1, max_iter=iterations, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        fitted.fit(unit_RD[sample])
    length_K = np.linalg.norm(fitted.cluster_centers_, axis=1, keepdims=True)
    centroid_KD = (fitted.cluster_centers_ / np.where(length_K > 0, length_K, 1)).astype(np.float32)
    label_N = np.full(len(order_N), -1, dtype=np.int64)
    cosine_N = np.full(len(order_N), np.nan, dtype=np.float32)
    for a in range(0, len(rows_R), _ROWS):
        # Rounded, since the place of a row decides its last bits and copies must agree.
        cosine_BK = np.round(unit_RD[a : a + _ROWS] @ centroid_KD.T, 6)
        label_N[rows_R[a : a + _ROWS]] = cosine_BK.argmax(axis=1)
        cosine_N[rows_R[a : a + _ROWS]] = cosine_BK.max(axis=1)
    return Clusters(label_N, centroid_KD, cosine_N)
