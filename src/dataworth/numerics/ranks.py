"""Rank correlation and mean intervals for reports and reproductions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dataworth.errors import NonsenseRefused, RequestError


@dataclass(frozen=True)
class Estimate:
    """A number with its interval at `level`, and how many observations it rests on."""

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f} .. {self.high:.3f}]"

    def to_dict(self) -> dict[str, float]:
        """Plain JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, "level": self.level}


def spearman(
    x: Sequence[float] | NDArray[np.float64],
    y: Sequence[float] | NDArray[np.float64],
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Spearman's rank correlation (ties get mean ranks) with a percentile bootstrap interval over pairs.

    Resamples in which a side is constant have no correlation and are drawn anew by being left out.

    Raises:
        RequestError: Unequal lengths or fewer than 3 pairs.
        NonsenseRefused: A side is constant or not finite.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape or len(a) < 3:
        raise RequestError(f"rank correlation of {len(a)} and {len(b)} values: expected equal lengths of at least 3")
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or np.ptp(a) == 0 or np.ptp(b) == 0:
        raise NonsenseRefused(
            "rank correlation of a constant or non-finite side: expected varying numbers; check the inputs"
        )
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(a), size=(draws, len(a)))
    rank_a, rank_b = stats.rankdata(a[picks], axis=1), stats.rankdata(b[picks], axis=1)
    rank_a -= rank_a.mean(axis=1, keepdims=True)
    rank_b -= rank_b.mean(axis=1, keepdims=True)
    spread = np.sqrt((rank_a**2).sum(axis=1) * (rank_b**2).sum(axis=1))
    found = (rank_a * rank_b).sum(axis=1)[spread > 0] / spread[spread > 0]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(stats.spearmanr(a, b).statistic), float(low), float(high), len(a), level)


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
