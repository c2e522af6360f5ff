"""Greedy k-center: each new center is the row farthest from all centers so far (Gonzalez 1985).

A cosine of a row and a center is what BLAS says of the row's group of four rows times the center, rounded: it doesn't
depend on which other rows are looked at. Most of these products aren't taken, and none that could change a center:

- Ahead: the next centers are nearly always among the farthest rows of now. Among those alone they are chosen, as long
  as the farthest of them is no nearer than any other row was, and the rest is brought up to date for many at a time.
- Triangles: a center c isn't nearer to a row x than its own center o where d(c, o) >= 2 d(x, o). Centers are compared
  with centers, and only rows whose own center has a new one about are looked at.
- Blocks: those rows meet new centers in matrix products, which are many times faster than a product a center, but
  round otherwise. Where one center leads by more than that, it is the nearest for certain, and its cosine is left
  pending until somebody asks for it. Where none does, the cosines of those that are level are taken at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_GROUP = 4
_FEWEST, _MOST = 16, 256
"""Centers that rows are compared with at a time: where few rows are looked at, and where most are."""
_FIRST_AHEAD, _MOST_AHEAD = 64, 512
"""Rows among which the next centers are chosen."""
_ENOUGH = 8
"""More rows are chosen among when one in so many became a center, fewer when not one in four times as many did."""
_ROWS = 2048
_PAUSE = 8
"""Comparisons of centers that are left out after one that spared nothing worth it."""


def farthest_first(
    unit_ND: NDArray[np.float32], k: int, first: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Take k centers of unit rows, which lie in the order that breaks ties.

    The largest distance of a row to its center is at most twice that of the best k centers. At most O(N k D) time, far
    less where rows lie in clusters; O(N + k D) memory beside the rows. Cosines are rounded to 6 decimals, so that
    copies have no distance.

    Returns:
        `(center_K, radius_K, distance_N)`: the centers in the order chosen, the radius after each of them, and
        every row's Euclidean distance to its nearest center at the end.
    """
    cover = _Cover(np.ascontiguousarray(unit_ND), min(k, len(unit_ND)), first)
    centers, radii = [first], []
    while len(centers) < min(k, len(unit_ND)):
        chosen, radius_B = cover.advance(min(k, len(unit_ND)) - len(centers))
        centers += chosen
        radii += radius_B
    square_N = cover.squares()
    radii.append(float(np.sqrt(square_N.max())))
    return np.array(centers, dtype=np.int64), np.array(radii), np.sqrt(square_N)


def _square(cosine: NDArray[Any]) -> NDArray[Any]:
    """Squared distances of unit rows with these cosines."""
    return np.maximum(2.0 - 2.0 * cosine, 0.0)


class _Cover:
    """How near each row is to the centers so far.

    `square_N` is the squared distance to the nearest center, or a bound above it where `pending_N`; `cosine_N` the
    cosine (of a pending row: as the matrix product has it), infinite where no center can come nearer; `own_N` the
    nearest center's place in `center_KD`. A new center can only be nearer than a row's own one if the cosine of the
    two centers is above `reach_N`.
    """

    def __init__(self, rows_ND: NDArray[Any], k: int, first: int) -> None:
        rows, width = rows_ND.shape
        self.rows_ND, self.rows = rows_ND, rows
        # The last group has the rows that are left over, too: BLAS rounds them otherwise.
        self.tail = max(0, _GROUP * (rows // _GROUP - 1))
        self.group_Q4D = rows_ND[: self.tail].reshape(self.tail // _GROUP, _GROUP, width)
        self.center_KD, self.centers = np.empty((k if k > 0 else 1, width), dtype=rows_ND.dtype), 1
        self.center_KD[0] = rows_ND[first]
        self.chosen_N = np.zeros(rows, dtype=bool)
        self.chosen_N[first] = True
        self.pending_N = np.zeros(rows, dtype=bool)
        self.square_N, self.reach_N = np.empty(rows), np.empty(rows)
        self.cosine_N, self.own_N = np.empty(rows, dtype=rows_ND.dtype), np.zeros(rows, dtype=np.int64)
        # Two products of the same vectors differ by less than `apart`, however they are summed (Higham 2002, ch. 3);
        # `rounded` is more than what rounding to 6 decimals and a subtraction move.
        off = float(np.abs(np.einsum("nd,nd->n", rows_ND, rows_ND) - 1).max())
        apart = 1.1 * (width + 2) * float(np.finfo(rows_ND.dtype).eps) * (1 + off)
        rounded = 4e-6 * (1 + off)
        self.spare = 2 * apart + rounded
        # d(c, o) >= 2 d(x, o) in squares, each of which is off by as much as lengths, products and rounding are.
        self.margin = 2.5 * (2 * (off + apart) + apart + rounded)
        self.ahead, self.together, self.pause = _FIRST_AHEAD, _FEWEST, 0
        self._know(np.arange(rows), self._cosines(np.arange(rows), rows_ND[first]), self.own_N)

    def advance(self, most: int) -> tuple[list[int], list[float]]:
        """Choose up to `most` further centers, at least one.

        Returns:
            `(rows, radii)`: the new centers, and the radius before each of them.
        """
        some, bound, stop = self._farthest()
        chosen, radii = self._choose(some, bound, stop, most)
        if _ENOUGH * len(chosen) >= len(some):
            self.ahead = min(2 * len(some), _MOST_AHEAD)
        elif 4 * _ENOUGH * len(chosen) < len(some):
            self.ahead = max(len(some) // 2, 4)
        self._meet(chosen, some)
        return chosen, radii

    def squares(self) -> NDArray[np.float64]:
        """Every row's squared distance to its nearest center."""
        self._settle(np.arange(self.rows))
        return self.square_N

    def _know(self, rows: NDArray[np.int64], cosine: NDArray[Any], own: NDArray[np.int64]) -> None:
        """Set rows to cosines that are certain."""
        square = _square(cosine).astype(np.float64)
        self.square_N[rows], self.own_N[rows], self.pending_N[rows] = square, own, False
        self.cosine_N[rows] = np.where(square > 0, cosine, np.inf)
        self.reach_N[rows] = np.where(square > 0, 1.0 - 2.0 * square - self.margin, np.inf)

    def _suppose(self, rows: NDArray[np.int64], product: NDArray[Any], own: NDArray[np.int64]) -> None:
        """Set rows to a center that is certain, with a cosine that is pending."""
        square = np.maximum(2.0 - 2.0 * (product.astype(np.float64) - self.spare), 0.0)
        self.square_N[rows], self.own_N[rows], self.pending_N[rows] = square, own, True
        self.cosine_N[rows], self.reach_N[rows] = product, 1.0 - 2.0 * square - self.margin

    def _settle(self, rows: NDArray[np.int64]) -> None:
        """Find the cosines of those rows that are pending."""
        rows = rows[self.pending_N[rows]]
        for a in range(0, len(rows), 256):
            some = rows[a : a + 256]
            own_MD = self.center_KD[self.own_N[some]]
            cosine_M4 = np.matmul(self.group_Q4D[some // _GROUP], own_MD[:, :, None])[:, :, 0]
            self._know(some, np.round(cosine_M4[np.arange(len(some)), some % _GROUP], 6), self.own_N[some])

    def _cosines(self, rows: NDArray[np.int64], center_D: NDArray[Any]) -> NDArray[Any]:
        """Cosines of rows, in ascending order, with one center."""
        head = int(np.searchsorted(rows, self.tail))
        mine = rows[:head]
        if 8 * head > self.tail:  # groups are read where they lie
            found = (self.group_Q4D @ center_D).reshape(-1)[mine]
        else:
            found = (self.group_Q4D[mine // _GROUP] @ center_D)[np.arange(head), mine % _GROUP]
        if head < len(rows):
            found = np.concatenate([found, (self.rows_ND[self.tail :] @ center_D)[rows[head:] - self.tail]])
        return np.round(found, 6)

    def _farthest(self) -> tuple[NDArray[np.int64], float, int]:
        """The rows among which the next center is, in ascending order and settled.

        Returns:
            `(rows, bound, stop)`: no other row that may be chosen is farther than `bound`, and none before row `stop`
            is as far.
        """
        self._settle(np.flatnonzero(self.chosen_N & self.pending_N))
        while True:
            free_N = np.where(self.chosen_N, -1.0, self.square_N)
            most = min(self.ahead, self.rows)
            bound = float(np.partition(free_N, self.rows - most)[self.rows - most])
            above, level = np.flatnonzero(free_N > bound), np.flatnonzero(free_N == bound)
            some = np.sort(np.concatenate([above, level[: most - len(above)]]))
            left = level[most - len(above) :]
            stop = int(left[0]) if len(left) else self.rows
            self._settle(some)
            free_M = np.where(self.chosen_N[some], -1.0, self.square_N[some])
            best = int(free_M.argmax())
            if free_M[best] > bound or (free_M[best] == bound and some[best] < stop):
                return some, bound, stop
            self.ahead = 2 * self.ahead  # all were pending and nearer than supposed

    def _choose(self, some: NDArray[np.int64], bound: float, stop: int, most: int) -> tuple[list[int], list[float]]:
        """Choose centers among some rows while no other row can be farther; these rows are brought up to date."""
        rows_MD, cosine_M, own_M = self.rows_ND[some], self.cosine_N[some], self.own_N[some]
        product_MM = rows_MD @ rows_MD.T
        head = int(np.searchsorted(some, self.tail))
        group_M4D, slot_M = self.group_Q4D[some[:head] // _GROUP], some % _GROUP
        square_M, closed_M = self.square_N[some], self.chosen_N[some]
        free_M = np.where(closed_M, -1.0, square_M)
        top = float(self.square_N[self.chosen_N].max())  # a rounded cosine with itself can be below 1
        chosen: list[int] = []
        radii: list[float] = []
        while len(chosen) < most:
            at = int(free_M.argmax())
            far, row = float(free_M[at]), int(some[at])
            if chosen and (far < max(top, 0.0) or far < bound or (far == bound and row >= stop)):
                break
            radii.append(float(np.sqrt(max(far, top))))
            hit = (product_MM[at] >= cosine_M - self.spare).nonzero()[0]
            if len(hit) and hit[-1] >= head:
                found = self._cosines(some[hit], rows_MD[at])
            elif 4 * len(hit) > head:
                found = np.round((group_M4D @ rows_MD[at])[hit, slot_M[hit]], 6)
            else:
                found = np.round((group_M4D[hit] @ rows_MD[at])[np.arange(len(hit)), slot_M[hit]], 6)
            nearer = found > cosine_M[hit]
            hit, found = hit[nearer], found[nearer]
            square = _square(found)
            square_M[hit], own_M[hit] = square, self.centers + len(chosen)
            cosine_M[hit] = np.where(square > 0, found, np.inf)
            closed_M[at] = True
            free_M[hit] = np.where(closed_M[hit], -1.0, square)
            free_M[at] = -1.0
            top = max(top, float(square_M[at]))
            chosen.append(row)
        self.square_N[some], self.cosine_N[some], self.own_N[some] = square_M, cosine_M, own_M
        self.reach_N[some] = np.where(square_M > 0, 1.0 - 2.0 * square_M - self.margin, np.inf)
        return chosen, radii

    def _meet(self, chosen: list[int], known: NDArray[np.int64]) -> None:
        """Bring all rows up to date with new centers, but for the `known` ones, which are."""
        a, self.centers = self.centers, self.centers + len(chosen)
        self.center_KD[a : self.centers] = self.rows_ND[chosen]
        self.chosen_N[chosen] = True
        open_N = np.ones(self.tail, dtype=bool)
        open_N[known[known < self.tail]] = False
        last = np.arange(self.tail, self.rows)
        product_BT = np.matmul(self.rows_ND[self.tail :], self.center_KD[a : self.centers, :, None])[:, :, 0]
        self._take(last, np.round(product_BT.max(axis=0), 6), a + product_BT.argmax(axis=0))
        while a < self.centers:
            b = min(self.centers, a + self.together)
            rows = self._within_reach(a, b, open_N)
            if 2 * len(rows) > self.tail:  # most of them: all, as they lie, are quicker than a copy
                rows, self.together = np.arange(self.tail), min(2 * self.together, _MOST)
            else:
                self.together = max(self.together // 2, _FEWEST)
            self._compare(a, b, rows, open_N)
            a = b

    def _take(self, rows: NDArray[np.int64], cosine: NDArray[Any], own: NDArray[np.int64]) -> None:
        """Give rows to centers with these cosines where they are nearer."""
        nearer = cosine > self.cosine_N[rows]
        self._know(rows[nearer], cosine[nearer], own[nearer])

    def _within_reach(self, a: int, b: int, open_N: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Open rows to which one of the centers from `a` to `b` may be nearer than their own one."""
        if self.pause:
            self.pause -= 1
            return np.flatnonzero(open_N)
        near_K = (self.center_KD[: self.centers] @ self.center_KD[a:b].T).max(axis=1)
        rows = np.flatnonzero(open_N & (near_K[self.own_N[: self.tail]] > self.reach_N[: self.tail]))
        if int(open_N.sum()) - len(rows) < self.centers:
            self.pause = _PAUSE
        return rows

    def _compare(self, a: int, b: int, among: NDArray[np.int64], open_N: NDArray[np.bool_]) -> None:
        """Compare those `among` rows (ascending) that are open with the centers from `a` to `b`."""
        center_BD = self.center_KD[a:b]
        unclear: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []
        for s in range(0, len(among), _ROWS):
            rows = among[s : s + _ROWS]
            gap = len(rows) <= rows[-1] - rows[0]
            product_RB = (self.rows_ND[rows] if gap else self.rows_ND[rows[0] : rows[-1] + 1]) @ center_BD.T
            best_R = product_RB.max(axis=1)
            hit = ((best_R >= self.cosine_N[rows] - self.spare) & open_N[rows]).nonzero()[0]
            rows, product_RB, best_R = rows[hit], product_RB[hit], best_R[hit]
            cosine_R = self.cosine_N[rows]
            level_RB = product_RB >= (best_R - self.spare)[:, None]
            clear = (level_RB.sum(axis=1) == 1) & (best_R > cosine_R + self.spare)
            self._suppose(rows[clear], best_R[clear], a + product_RB[clear].argmax(axis=1))
            level_RB &= product_RB >= (cosine_R - self.spare)[:, None]
            if not clear.all():
                unclear.append((rows[~clear], level_RB[~clear]))
        if not unclear:
            return
        rows, level_BR = np.concatenate([r for r, _ in unclear]), np.concatenate([level for _, level in unclear]).T
        self._settle(rows)
        for n in np.flatnonzero(level_BR.any(axis=1)).tolist():
            mine = rows[level_BR[n]]
            self._take(mine, self._cosines(mine, center_BD[n]), np.full(len(mine), a + n))
