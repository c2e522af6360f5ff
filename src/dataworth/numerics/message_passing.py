"""D2 pruning's two passes over a graph of neighbours (Maharana et al. 2024, arXiv 2310.07931)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dataworth.numerics.compiled import Kernel, compiled
from dataworth.numerics.heap import sink


def distances(index_Nk: NDArray[np.int64], cosine_Nk: NDArray[Any]) -> sparse.csr_array:
    """exp(-distance) between rows and their neighbours, both ways; distances are Euclidean of unit vectors."""
    rows, k = index_Nk.shape
    there = index_Nk >= 0
    row = np.repeat(np.arange(rows), k)[there.ravel()]
    far = np.sqrt(np.maximum(2.0 - 2.0 * cosine_Nk[there].astype(np.float64), 0.0))
    one_way = sparse.csr_array((np.exp(-far), (row, index_Nk[there])), shape=(rows, rows))
    both = one_way.maximum(one_way.T).tocsr()
    both.sort_indices()
    return both


def forward(kernel: sparse.csr_array, value_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """A row's own value plus its neighbours', each times exp(-distance)."""
    return value_N + kernel @ np.maximum(value_N, 1e-7)


def reverse(kernel: sparse.csr_array, score_N: NDArray[np.float64], k: int, gamma: float) -> NDArray[np.int64]:
    """The k rows taken in turn, largest score first; each lowers its neighbours by exp(-gamma distance) times its own.

    A row whose score has fallen below 0 lowers nobody's. Ties go to the first row. A heap of bounds makes it
    O(N log N + k degree log N).
    """
    down = kernel.copy()
    down.data = down.data**gamma
    order = np.lexsort((np.arange(len(score_N)), -score_N))
    picked = np.empty(min(k, len(score_N)), np.int64)
    indptr, indices = down.indptr.astype(np.int64), down.indices.astype(np.int64)
    score_N = np.array(score_N, dtype=np.float64)
    compiled(_taken)(indptr, indices, down.data, score_N, order, score_N[order], picked, compiled(sink))
    return picked


def _taken(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int64],
    data: NDArray[np.float64],
    score: NDArray[np.float64],
    item: NDArray[np.int64],
    bound: NDArray[np.float64],
    picked: NDArray[np.int64],
    sink: Kernel,
) -> None:
    """A kernel: `item` and `bound` are a heap of bounds on scores; fills `picked`."""
    size, found = len(item), 0
    while found < len(picked):
        j = item[0]
        if bound[0] == score[j]:
            picked[found] = j
            found += 1
            for e in range(indptr[j], indptr[j + 1]):
                score[indices[e]] -= data[e] * max(score[j], 0.0)
            size -= 1
            item[0], bound[0] = item[size], bound[size]
        else:
            bound[0] = score[j]
        sink(item, bound, size)
