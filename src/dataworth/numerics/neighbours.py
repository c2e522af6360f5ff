"""Exact nearest neighbours by cosine: every pair is looked at once, memory stays flat.

Blocks of a float32 product name the candidates; each pair of blocks serves the rows of both. Candidates are then
measured in float64, rounded to 12 decimals and ordered with ties in the order of rows. A row whose answer float32's
error could have changed is measured against all others in float64, so the size of blocks plays no part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.geometry import Neighbours
from dataworth.numerics.directions import directions

_SPARE = 8
"""Candidates kept beyond k, so that few rows are left in doubt."""
_MEASURED_AT_ONCE = 500_000
"""Float64 numbers held at once where candidates are measured: what a cache holds."""
_DECIDED_AT_ONCE = 8_000_000
"""Float64 cosines held at once where rows are measured against all others."""


def nearest(vectors_ND: NDArray[Any], order_N: NDArray[np.int64], k: int = 32, *, block: int = 2048) -> Neighbours:
    """The k nearest other rows of every row that has a direction.

    Args:
        vectors_ND: One vector per row (a memory map is read in blocks); rows that are zero or not finite have no
            neighbours and are nobody's.
        order_N: Positions in the order that breaks ties (`records.id_order`).
        k: Neighbours a row; places that can't be filled hold -1 and NaN.
        block: Rows a side of a product.

    Raises:
        RequestError: k or block below 1.
    """
    if k < 1 or block < 1:
        raise RequestError(f"{k} neighbours in blocks of {block}: expected at least 1 of each; correct the number")
    unit_RD, usable_R = directions(vectors_ND, order_N)
    if not usable_R.all():
        unit_RD = unit_RD[usable_R]
    rows_R = order_N[usable_R]
    index_Nk = np.full((len(order_N), k), -1, dtype=np.int64)
    cosine_Nk = np.full((len(order_N), k), np.nan, dtype=np.float32)
    width = min(k, len(rows_R) - 1)
    if width > 0:
        near_Rk, cosine_Rk = _decided(unit_RD, _candidates(unit_RD, min(k + _SPARE, len(rows_R) - 1), block), width)
        index_Nk[rows_R, :width] = rows_R[near_Rk]
        cosine_Nk[rows_R, :width] = cosine_Rk
    return Neighbours(index_Nk, cosine_Nk)


class _Best:
    """The largest `keep` float32 cosines met by each row, with room to collect as many again before sorting out."""

    def __init__(self, rows: int, keep: int) -> None:
        self.keep = keep
        self.value_RW = np.full((rows, 2 * keep), -np.inf, dtype=np.float32)
        self.index_RW = np.full((rows, 2 * keep), -1, dtype=np.int32)
        self.fill_R = np.full(rows, keep, dtype=np.int64)
        self.floor_R = np.full(rows, -np.inf, dtype=np.float32)

    def offer(self, a: int, b: int, cosine_AB: NDArray[np.float32]) -> None:
        """Show the rows from `a` their cosines with the rows from `b`."""
        rows = slice(a, a + len(cosine_AB))
        if not np.isfinite(self.floor_R[rows]).all():  # rows that have met fewer than `keep` others
            if cosine_AB.shape[1] > self.keep:
                edge_A = np.partition(cosine_AB, cosine_AB.shape[1] - self.keep, axis=1)[:, -self.keep]
                self.floor_R[rows] = np.maximum(self.floor_R[rows], np.nextafter(edge_A, np.float32(-np.inf)))
            if not np.isfinite(self.floor_R[rows]).all():
                return self._take(np.arange(rows.start, rows.stop), b, cosine_AB)
        if cosine_AB.flags.c_contiguous:
            at, col = np.divmod(np.flatnonzero(cosine_AB > self.floor_R[rows, None]), cosine_AB.shape[1])
        else:  # a transposed block: read as it lies in memory
            col, at = np.divmod(np.flatnonzero(cosine_AB.T > self.floor_R[rows]), len(cosine_AB))
            by_row = np.argsort(at, kind="stable")
            at, col = at[by_row], col[by_row]
        count_A = np.bincount(at, minlength=len(cosine_AB))
        full = self.fill_R[rows] + count_A > 2 * self.keep
        if full.any():
            self.sort_out(np.flatnonzero(full) + a)
            full = self.fill_R[rows] + count_A > 2 * self.keep
            self._take(np.flatnonzero(full) + a, b, cosine_AB[full])
            at, col, count_A = at[~full[at]], col[~full[at]], np.where(full, 0, count_A)
        first_A = np.cumsum(count_A) - count_A
        slot = self.fill_R[a + at] + np.arange(len(at)) - first_A[at]
        self.value_RW[a + at, slot] = cosine_AB[at, col]
        self.index_RW[a + at, slot] = col + b
        self.fill_R[rows] += count_A
        return None

    def sort_out(self, rows: NDArray[np.int64]) -> None:
        """Leave each of `rows` its largest `keep`."""
        self._settle(rows, self.value_RW[rows], self.index_RW[rows])

    def _take(self, rows: NDArray[np.int64], b: int, cosine_AB: NDArray[np.float32]) -> None:
        if len(rows):
            index_AB = np.broadcast_to(np.arange(b, b + cosine_AB.shape[1], dtype=np.int32), cosine_AB.shape)
            value = np.concatenate([self.value_RW[rows], cosine_AB], axis=1)
            self._settle(rows, value, np.concatenate([self.index_RW[rows], index_AB], axis=1))

    def _settle(self, rows: NDArray[np.int64], value: NDArray[np.float32], index: NDArray[np.int32]) -> None:
        top = np.argpartition(value, value.shape[1] - self.keep, axis=1)[:, value.shape[1] - self.keep :]
        self.value_RW[rows], self.index_RW[rows] = -np.inf, -1
        best = np.take_along_axis(value, top, axis=1)
        self.value_RW[rows, : self.keep] = best
        self.index_RW[rows, : self.keep] = np.take_along_axis(index, top, axis=1)
        self.fill_R[rows], self.floor_R[rows] = self.keep, best.min(axis=1)


def _candidates(unit_RD: NDArray[np.float32], keep: int, block: int) -> _Best:
    best = _Best(len(unit_RD), keep)
    for a in range(0, len(unit_RD), block):
        for b in range(a, len(unit_RD), block):
            cosine_AB = unit_RD[a : a + block] @ unit_RD[b : b + block].T
            if a == b:
                np.fill_diagonal(cosine_AB, -np.inf)
            best.offer(a, b, cosine_AB)
            if a != b:
                best.offer(b, a, cosine_AB.T)
    for a in range(0, len(unit_RD), block):
        best.sort_out(np.arange(a, min(a + block, len(unit_RD))))
    return best


def _decided(unit_RD: NDArray[np.float32], best: _Best, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k nearest among the candidates, and of rows that float32 leaves in doubt among all rows."""
    rows, width = unit_RD.shape
    length_R = np.sqrt(np.einsum("rd,rd->r", unit_RD, unit_RD, dtype=np.float64))
    near_Rk, cosine_Rk = np.empty((rows, k), np.int64), np.empty((rows, k))
    error = (width + 16) * 2.0**-24  # of a float32 dot product of unit rows, in any order of summing
    doubtful: list[NDArray[np.int64]] = []
    step = max(1, _MEASURED_AT_ONCE // (best.keep * width))
    for a in range(0, rows, step):
        index_Bm = best.index_RW[a : a + step, : best.keep].astype(np.int64)
        own = unit_RD[a : a + step].astype(np.float64)
        dot_Bm = np.matmul(unit_RD[index_Bm].astype(np.float64), own[:, :, None])[:, :, 0]
        cosine_Bm = np.round(dot_Bm / (length_R[index_Bm] * length_R[a : a + step, None]), 12)
        order = np.lexsort((index_Bm, -cosine_Bm), axis=1)[:, :k]
        near_Rk[a : a + step] = np.take_along_axis(index_Bm, order, axis=1)
        cosine_Rk[a : a + step] = np.take_along_axis(cosine_Bm, order, axis=1)
        if best.keep < rows - 1:
            doubt_B = best.floor_R[a : a + step] + error >= cosine_Rk[a : a + step, -1]
            doubtful.append(np.flatnonzero(doubt_B) + a)
    for some in _parts(np.concatenate(doubtful) if doubtful else np.empty(0, np.int64), rows):
        near_Rk[some], cosine_Rk[some] = _among_all(unit_RD, length_R, some, k)
    return near_Rk, cosine_Rk


def _parts(rows: NDArray[np.int64], wide: int) -> list[NDArray[np.int64]]:
    step = max(1, _DECIDED_AT_ONCE // wide)
    return [rows[a : a + step] for a in range(0, len(rows), step)]


def _among_all(
    unit_RD: NDArray[np.float32], length_R: NDArray[np.float64], some: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    own = unit_RD[some].astype(np.float64)
    cosine_BR = np.empty((len(some), len(unit_RD)))
    for a in range(0, len(unit_RD), 16_384):
        cosine_BR[:, a : a + 16_384] = own @ unit_RD[a : a + 16_384].astype(np.float64).T
    cosine_BR = np.round(cosine_BR / (length_R[some, None] * length_R), 12)
    cosine_BR[np.arange(len(some)), some] = -np.inf
    near_Bk = np.empty((len(some), k), np.int64)
    for i, cosine_R in enumerate(cosine_BR):
        edge = np.partition(cosine_R, len(cosine_R) - k)[len(cosine_R) - k]
        above = np.flatnonzero(cosine_R > edge)
        found = np.concatenate([above, np.flatnonzero(cosine_R == edge)[: k - len(above)]])
        near_Bk[i] = found[np.lexsort((found, -cosine_R[found]))]
    return near_Bk, np.take_along_axis(cosine_BR, near_Bk, axis=1)
