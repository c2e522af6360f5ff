"""Rank correlation and mean intervals for reports and reproductions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dataworth.errors import NonsenseRefused, RequestError

# Numbers the bootstrap resamples at once, so that its memory stays flat.
_RESAMPLED = 1_000_000


@dataclass(frozen=True)
class Estimate:
    """A number with its interval at `level`, and how many observations it rests on."""

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95

    def __str__(self) -> str:
        """Three decimals, or as many as the interval's half width needs for a digit that isn't zero.

        Up to two more where an end would read as zero and isn't: a claim is that it leaves zero out.
        """
        half = (self.high - self.low) / 2
        places = min(9, max(3, math.ceil(-math.log10(half)))) if 0 < half < 1 else 3
        near = min((abs(end) for end in (self.low, self.high) if end), default=math.inf)
        if self.low * self.high > 0 and near < 0.5 * 10.0**-places:
            places = min(places + 2, math.ceil(-math.log10(near)))
        return f"{self.value:.{places}f} [{self.low:.{places}f} .. {self.high:.{places}f}]"

    def to_dict(self) -> dict[str, float]:
        """Plain JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, "level": self.level}


def rank_correlation(x: Sequence[float] | NDArray[np.float64], y: Sequence[float] | NDArray[np.float64]) -> float:
    """Spearman's rank correlation, ties with mean ranks: O(N log N), no interval.

    Raises:
        RequestError: Unequal lengths or fewer than 2 pairs.
        NonsenseRefused: A side is constant or not finite.
    """
    return float(stats.spearmanr(*_pairs(x, y, 2)).statistic)


def spearman(
    x: Sequence[float] | NDArray[np.float64],
    y: Sequence[float] | NDArray[np.float64],
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Spearman's rank correlation with a percentile bootstrap interval over pairs.

    Costs `draws` times `rank_correlation`. Resamples in which a side is constant have no correlation and are left out.

    Raises:
        RequestError: Unequal lengths or fewer than 3 pairs.
        NonsenseRefused: A side is constant or not finite.
    """
    a, b = _pairs(x, y, 3)
    rng = np.random.default_rng(seed)
    found: list[float] = []
    at_once = max(1, _RESAMPLED // len(a))
    for first in range(0, draws, at_once):
        found += _resampled(a, b, rng.integers(0, len(a), size=(min(at_once, draws - first), len(a))))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(rank_correlation(a, b), float(low), float(high), len(a), level)


def _pairs(x: Any, y: Any, least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape or len(a) < least:
        raise RequestError(
            f"rank correlation of {len(a)} and {len(b)} values: expected equal lengths of at least {least}; give more"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or np.ptp(a) == 0 or np.ptp(b) == 0:
        raise NonsenseRefused("rank correlation of a constant or non-finite side: expected varying numbers; check them")
    return a, b


def _resampled(a: NDArray[np.float64], b: NDArray[np.float64], picks: NDArray[np.int64]) -> list[float]:
    rank_a, rank_b = stats.rankdata(a[picks], axis=1), stats.rankdata(b[picks], axis=1)
    rank_a -= rank_a.mean(axis=1, keepdims=True)
    rank_b -= rank_b.mean(axis=1, keepdims=True)
    spread = np.sqrt((rank_a**2).sum(axis=1) * (rank_b**2).sum(axis=1))
    return ((rank_a * rank_b).sum(axis=1)[spread > 0] / spread[spread > 0]).tolist()


def mean_interval(x: Sequence[float] | NDArray[np.float64], *, level: float = 0.95) -> Estimate:
    """Mean of independent observations with Student's t interval.

    Raises:
        RequestError: Fewer than 2 observations, which give no interval.
    """
    a = np.asarray(x, dtype=np.float64)
    if len(a) < 2:
        raise RequestError(f"a mean of {len(a)} observation(s) has no interval: expected at least 2; run more seeds")
    half = float(stats.t.ppf((1 + level) / 2, len(a) - 1) * a.std(ddof=1) / np.sqrt(len(a)))
    return Estimate(float(a.mean()), float(a.mean()) - half, float(a.mean()) + half, len(a), level)


def difference_interval(
    x: Sequence[float] | NDArray[np.float64], y: Sequence[float] | NDArray[np.float64], *, level: float = 0.95
) -> Estimate:
    """Difference of two means, x minus y, with Welch's t interval (Satterthwaite degrees of freedom).

    Raises:
        RequestError: Fewer than 2 observations on a side.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if min(len(a), len(b)) < 2:
        raise RequestError(
            f"a difference of {len(a)} and {len(b)} observations has no interval: expected at least 2 each"
        )
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    gap = float(a.mean() - b.mean())
    if va + vb == 0:
        return Estimate(gap, gap, gap, len(a) + len(b), level)
    df = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = float(stats.t.ppf((1 + level) / 2, df) * np.sqrt(va + vb))
    return Estimate(gap, gap - half, gap + half, len(a) + len(b), level)
