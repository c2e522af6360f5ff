"""Intrinsic dimension of vectors by two neighbours (TwoNN): a rough prior, never a diagnosis.

For points of a density that is even over two neighbours, mu = r2 / r1 is Pareto distributed with the dimension as its
exponent (Facco et al. 2017, arXiv 1803.06992). It comes out low above about 6 dimensions at thousands of points, and
near-duplicates drive it to zero: they are left out, and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dataworth.errors import RequestError

MOVES = 0.2
"""Estimates at different sample sizes that move by more than this share are told as a range."""
_SAME = 1e-6
"""Of the median distance to a nearest neighbour: nearer points are copies."""
_LEAST = 100
_DISCARDED = 0.1


@dataclass(frozen=True)
class IntrinsicDimension:
    """Estimates `at` all points, a half and a quarter of them; the share of points left out as copies."""

    at: tuple[tuple[int, float], ...]
    copies: float

    @property
    def moves(self) -> bool:
        """Whether the estimate depends on how many points there are, so that only a range may be told."""
        found = [d for _, d in self.at]
        return max(found) - min(found) > MOVES * found[0]

    def __str__(self) -> str:
        found = [d for _, d in self.at]
        told = f"{min(found):.1f} to {max(found):.1f}" if self.moves else f"{found[0]:.1f}"
        lost = f"; {self.copies:.1%} of the points were near-copies and left out" if self.copies else ""
        return f"about {told} dimensions (TwoNN over {self.at[0][0]:,} points, low above 6{lost})"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"at": [list(pair) for pair in self.at], "copies": self.copies, "moves": self.moves}


def intrinsic_dimension(
    vectors_ND: NDArray[np.floating], order: Sequence[int] | NDArray[np.int64]
) -> IntrinsicDimension:
    """TwoNN at all points, a half and a quarter.

    Args:
        vectors_ND: Points without NaN.
        order: A random order of the points that their own order doesn't decide (by hash of id).

    Raises:
        RequestError: Fewer than 100 points once near-copies are left out.
    """
    shuffled_ND = np.asarray(vectors_ND, dtype=np.float64)[np.asarray(order)]
    points_ND = _without_copies(shuffled_ND)
    if len(points_ND) < _LEAST:
        raise RequestError(
            f"{len(points_ND)} different points of {len(shuffled_ND)}: expected at least {_LEAST} to tell a dimension; "
            "give more rows"
        )
    sizes = [n for n in (len(points_ND), len(points_ND) // 2, len(points_ND) // 4) if n >= _LEAST // 2]
    return IntrinsicDimension(
        tuple((n, _two_neighbours(points_ND[:n])) for n in sizes), 1.0 - len(points_ND) / len(shuffled_ND)
    )


def _neighbours(points_ND: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances to the two nearest other points, `[N, 2]`, and which the nearest is, `[N]`."""
    distance_N3, index_N3 = cKDTree(points_ND).query(points_ND, k=3)
    # Among copies a point may come second to another at distance 0.
    own_N = np.arange(len(points_ND))
    other_N = np.where(index_N3[:, 0] == own_N, index_N3[:, 1], index_N3[:, 0])
    return distance_N3[:, 1:], other_N


def _without_copies(points_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points without those that another, earlier one is a copy of, to rounding."""
    while len(points_ND) > 2:
        distance_N2, other_N = _neighbours(points_ND)
        near_N = distance_N2[:, 0] <= _SAME * np.median(distance_N2[:, 0])
        if not near_N.any():
            break
        later_N = near_N & (other_N < np.arange(len(points_ND)))
        if not later_N.any():
            break
        points_ND = points_ND[~later_N]
    return points_ND


def _two_neighbours(points_ND: NDArray[np.float64]) -> float:
    """Maximum likelihood over the smallest nine tenths of mu, the rest censored."""
    distance_N2, _ = _neighbours(points_ND)
    log_mu_N = np.sort(np.log(distance_N2[:, 1] / distance_N2[:, 0]))
    kept = int(len(log_mu_N) * (1.0 - _DISCARDED))
    return float((kept - 1) / (log_mu_N[:kept].sum() + (len(log_mu_N) - kept) * log_mu_N[kept - 1]))
