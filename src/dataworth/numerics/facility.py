"""Facility location: rows chosen so that every row has a chosen one near it.

F(S) = sum over rows i of max over j in S of s_ij, with similarities s >= 0 (negative cosines count as 0) and
F(empty) = 0; greedy reaches at least 1 - 1/e of the best F. Rows come in the order that breaks ties: of equal gains the
first row wins. The sparse form keeps only the pairs of a graph of nearest neighbours; `coverage` is the dense F.
"""

from __future__ import annotations

import heapq
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dataworth.errors import RequestError
from dataworth.numerics.compiled import Kernel, compiled
from dataworth.numerics.heap import sink

_ROWS = 4_096


def graph(index_Nk: NDArray[np.int64], cosine_Nk: NDArray[Any]) -> sparse.csr_array:
    """Similarities of rows and their neighbours, both ways, clipped at 0, with 1 for a row and itself.

    `index_Nk` holds -1 where there is no neighbour.
    """
    rows, k = index_Nk.shape
    there = index_Nk >= 0
    row = np.repeat(np.arange(rows, dtype=np.int32), k)[there.ravel()]
    value = np.maximum(cosine_Nk[there], 0).astype(np.float32)
    one_way = sparse.csr_array((value, (row, index_Nk[there].astype(np.int32))), shape=(rows, rows))
    both = one_way.maximum(one_way.T).maximum(sparse.eye_array(rows, dtype=np.float32, format="csr")).tocsr()
    both.sort_indices()
    return both


def greedy(
    similarity: sparse.csr_array, k: int, candidates: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Lazy greedy on a symmetric graph: the same rows as evaluating every gain at every step (Minoux 1978).

    Args:
        similarity: Symmetric, not negative, `[N, N]`.
        k: Rows to choose.
        candidates: Rows that may be chosen (all by default); all rows are to be covered.

    Returns:
        `(picked, gain)`: rows in the order chosen, and by how much each raised F.
    """
    _checked(similarity.data)
    item = np.arange(similarity.shape[0]) if candidates is None else np.sort(candidates)
    bound = similarity.sum(axis=1, dtype=np.float64)[item] * (1 + 1e-9)  # at least the gain, however it is summed
    order = np.lexsort((item, -bound))  # a sorted array is a heap
    picked, gain = np.empty(min(k, len(item)), np.int64), np.empty(min(k, len(item)))
    cover = np.zeros(similarity.shape[0])
    indptr, indices = similarity.indptr.astype(np.int64), similarity.indices.astype(np.int64)
    heap = item[order], bound[order]
    compiled(_lazily)(indptr, indices, similarity.data, cover, *heap, picked, gain, compiled(sink))
    return picked, gain


def stochastic(
    similarity: sparse.csr_array, k: int, uniform_M: NDArray[np.float64], *, epsilon: float = 0.01
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Stochastic greedy (Mirzasoleiman et al. 2014, arXiv 1409.7938): each step tries (N/k) ln(1/epsilon) random rows.

    In expectation at least 1 - 1/e - epsilon of the best F.

    Args:
        similarity: Symmetric, not negative, `[N, N]`.
        k: Rows to choose.
        uniform_M: `draws(N, k, epsilon)` random numbers in [0, 1).
        epsilon: 0.01 to 0.1.

    Raises:
        RequestError: Another epsilon (0.9, which two libraries default to, guarantees nothing).
    """
    _checked(similarity.data)
    rows = similarity.shape[0]
    tries = _tries(rows, k, epsilon)
    picked, gain = np.empty(min(k, rows), np.int64), np.empty(min(k, rows))
    indptr, indices = similarity.indptr.astype(np.int64), similarity.indices.astype(np.int64)
    left = np.arange(rows)
    compiled(_at_random)(
        indptr, indices, similarity.data, np.zeros(rows), left, np.asarray(uniform_M), tries, picked, gain
    )
    return picked, gain


def draws(rows: int, k: int, epsilon: float) -> int:
    """Random numbers that `stochastic` uses."""
    return min(k, rows) * _tries(rows, k, epsilon)


def partitioned(
    similarity: sparse.csr_array, k: int, parts: int, uniform_N: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Two rounds (GreeDi, Mirzasoleiman et al. 2013): k rows from each random part, then k from these.

    A part's own k are returned where they are better. Rows are shuffled by `uniform_N` before they are cut into parts:
    a given order could put all copies of what matters into one.
    """
    if not 1 <= parts <= max(1, similarity.shape[0]):
        raise RequestError(f"{parts} parts of {similarity.shape[0]} rows: expected 1 to as many as rows; correct it")
    shuffled = np.argsort(uniform_N, kind="stable")
    firsts = [greedy(similarity, k, part) for part in np.array_split(shuffled, parts)]
    last = greedy(similarity, k, np.concatenate([picked for picked, _ in firsts]))
    return max([last, *firsts], key=lambda found: float(found[1].sum()))


def greedy_dense(similarity_NN: NDArray[Any], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`greedy` where all pairs are known and fit into memory (symmetric `[N, N]`)."""
    _checked(similarity_NN)
    cover = np.zeros(len(similarity_NN))
    heap = [(-math.inf, j) for j in range(len(similarity_NN))]
    picked: list[int] = []
    gains: list[float] = []
    while heap and len(picked) < k:
        _, j = heapq.heappop(heap)
        gain = float(np.maximum(similarity_NN[j] - cover, 0).sum())
        if heap and (-gain, j) > heap[0]:
            heapq.heappush(heap, (-gain, j))
            continue
        picked.append(j)
        gains.append(gain)
        np.maximum(cover, similarity_NN[j], out=cover)
    return np.array(picked, dtype=np.int64), np.array(gains)


def coverage(unit_ND: NDArray[Any], picked: NDArray[np.int64]) -> float:
    """F of `picked` over all pairs of unit rows, in blocks: what every way to choose is compared by."""
    total, chosen = 0.0, np.asarray(unit_ND[picked], dtype=np.float32)
    if not len(chosen):
        return total
    for a in range(0, len(unit_ND), _ROWS):
        nearest = (np.asarray(unit_ND[a : a + _ROWS], dtype=np.float32) @ chosen.T).max(axis=1)
        total += float(np.maximum(nearest, 0).sum(dtype=np.float64))
    return total


def _checked(values: NDArray[Any]) -> None:
    if values.size and not (np.isfinite(values).all() and values.min() >= 0):
        raise RequestError("a similarity is negative or not finite: expected 0 and more; clip or shift them")


def _tries(rows: int, k: int, epsilon: float) -> int:
    if not 0.01 <= epsilon <= 0.1:
        raise RequestError(f"epsilon={epsilon!r}: expected 0.01 to 0.1, larger ones guarantee nothing; correct it")
    return max(1, min(rows, math.ceil(rows / max(1, k) * math.log(1 / epsilon))))


def _lazily(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int64],
    data: NDArray[np.float32],
    cover: NDArray[np.float64],
    item: NDArray[np.int64],
    bound: NDArray[np.float64],
    picked: NDArray[np.int64],
    gains: NDArray[np.float64],
    sink: Kernel,
) -> None:
    """A kernel: `item` and `bound` are a heap of bounds on gains; fills `picked` and `gains`."""
    size, found = len(item), 0
    measured = np.full(len(cover), -1)  # in which step a row's bound was last its gain
    while found < len(picked):
        j = item[0]
        if measured[j] == found:
            picked[found], gains[found] = j, bound[0]
            found += 1
            for e in range(indptr[j], indptr[j + 1]):
                cover[indices[e]] = max(cover[indices[e]], data[e])
            size -= 1
            item[0], bound[0] = item[size], bound[size]
        else:
            gain = 0.0
            for e in range(indptr[j], indptr[j + 1]):
                gain += max(data[e] - cover[indices[e]], 0.0)
            bound[0], measured[j] = gain, found
        sink(item, bound, size)


def _at_random(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int64],
    data: NDArray[np.float32],
    cover: NDArray[np.float64],
    left: NDArray[np.int64],
    uniform: NDArray[np.float64],
    tries: int,
    picked: NDArray[np.int64],
    gains: NDArray[np.float64],
) -> None:
    """A kernel: each step shuffles `tries` of the rows left to the front and takes the one with the largest gain."""
    size, used = len(left), 0
    for found in range(len(picked)):
        best, best_gain, best_at = -1, -1.0, 0
        for t in range(min(tries, size)):
            at = t + int(uniform[used] * (size - t))
            used += 1
            left[t], left[at] = left[at], left[t]
            j = left[t]
            gain = 0.0
            for e in range(indptr[j], indptr[j + 1]):
                gain += max(data[e] - cover[indices[e]], 0.0)
            if gain > best_gain or (gain == best_gain and j < best):
                best, best_gain, best_at = j, gain, t
        picked[found] = best
        gains[found] = best_gain
        for e in range(indptr[best], indptr[best + 1]):
            cover[indices[e]] = max(cover[indices[e]], data[e])
        size -= 1
        left[best_at] = left[size]
