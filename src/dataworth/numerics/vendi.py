"""Vendi score: the effective number of different rows among vectors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError

_NIL = 1e-12


def vendi_score(vectors_ND: NDArray[np.floating], order: float = 1.0) -> float:
    """Exponential of the entropy of the eigenvalues of K / n, K the rows' cosines: 1 for copies, n for orthogonal rows.

    From the smaller of the Gram matrices, so O(n d min(n, d)). Only scores of equally many rows compare.

    Args:
        vectors_ND: Rows, none zero; their length doesn't matter.
        order: Of the entropy (Rényi's): 1 is Shannon's, infinity counts the largest eigenvalue alone.

    Source: Friedman and Dieng 2022, arXiv 2210.02410; orders as in Pasarkar and Dieng 2023, arXiv 2310.12952.

    Raises:
        RequestError: No rows, a row without direction, or an order that isn't positive.
    """
    x_ND = np.asarray(vectors_ND, dtype=np.float64)
    norm_N = np.linalg.norm(x_ND, axis=1)
    if not len(x_ND) or not (np.isfinite(norm_N) & (norm_N > 0)).all() or not order > 0:
        raise RequestError(
            f"a Vendi score of order {order} over {len(x_ND)} rows: expected rows with a direction and an order above "
            "0; leave others out"
        )
    x_ND = x_ND / norm_N[:, None]
    n, d = x_ND.shape
    gram = x_ND.T @ x_ND if d < n else x_ND @ x_ND.T
    share = np.clip(np.linalg.eigvalsh(gram / n), 0.0, None)
    share = share[share > _NIL] / share.sum()
    if order == 1.0:
        return float(np.exp(-(share * np.log(share)).sum()))
    if math.isinf(order):
        return float(1.0 / share.max())
    return float(np.exp(np.log((share**order).sum()) / (1.0 - order)))
