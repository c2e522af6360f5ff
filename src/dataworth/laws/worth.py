"""Worth: how many random examples of the pool train this model as well as a subset does.

    worth(S) = n  with  cost(n random rows) = cost(S)

Random rows come as nested chains, so each chain is one observation of the whole curve. The set of all n at which a
Welch test can't tell the curve from S (Fieller's way of inverting a curve: test every n, keep those not rejected) is a
confidence set for worth at every shape of the curve: a flat piece makes it wide, a bend makes it disjoint, an S beyond
the curve makes it one-sided, and no failed inversion is ever dropped. Worth is an average, not additive over subsets.

Costs are lower-is-better; sizes are rows (or tokens); axes: `C` chains, `K` sizes, `M` compared sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, optimize, special

from dataworth.errors import RequestError

Floats = NDArray[np.float64]
Span = tuple[float | None, float | None]
Side = Literal["", "above", "below"]

GRID = 400
"""Sizes at which the curve is compared with S, evenly spaced in log n."""


@dataclass(frozen=True)
class RandomCurve:
    """Costs of random subsets: `cost_CK[c, k]` of chain c at `sizes_K[k]`; the subsets of a chain are nested.

    Raises:
        RequestError: Fewer than 2 chains or sizes, sizes that don't grow, a missing or non-finite cost.
    """

    sizes_K: Floats
    cost_CK: Floats

    def __post_init__(self) -> None:
        sizes, costs = np.asarray(self.sizes_K, dtype=np.float64), np.asarray(self.cost_CK, dtype=np.float64)
        object.__setattr__(self, "sizes_K", sizes)
        object.__setattr__(self, "cost_CK", costs)
        if costs.ndim != 2 or costs.shape[1] != len(sizes) or min(costs.shape) < 2:
            raise RequestError(
                f"a random curve of shape {costs.shape} over {len(sizes)} sizes: expected at least 2 chains and 2 "
                "sizes, every chain at every size; run more trials"
            )
        if sizes[0] <= 0 or not (np.diff(sizes) > 0).all() or not np.isfinite(costs).all():
            raise RequestError(f"a random curve at sizes {sizes.tolist()}: expected growing sizes and finite costs")

    def grid(self) -> Floats:
        """The sizes that are compared: `GRID` points, evenly in log n, with the measured ones among them."""
        return np.unique(np.concatenate([np.geomspace(self.sizes_K[0], self.sizes_K[-1], GRID)[1:-1], self.sizes_K]))

    def at(self, size_M: Floats) -> Floats:
        """Every chain's cost at these sizes, `[C, M]`, by a cubic in n^-1/4 that is as monotone as the chain (PCHIP).

        In that variable E + B n^-beta is nearly straight for every beta from 0 to 1; in log n it is convex, and lines
        between doubling sizes would lie above it by more than the noise of a good proof.
        """
        return np.asarray(self._chains()(-(size_M**-0.25)))

    def crossings(self, cost: float) -> Floats:
        """Sizes, growing, at which the mean curve has this cost; of a flat piece that has it, one."""
        chains = self._chains()
        found = interpolate.PPoly(chains.c.mean(-1), chains.x).solve(cost, extrapolate=False)
        sizes = (-found[np.isfinite(found)]) ** -4.0
        nearest = self.sizes_K[np.abs(np.log(sizes[:, None] / self.sizes_K)).argmin(axis=1)]
        return np.unique(np.where(np.isclose(sizes, nearest, rtol=1e-9, atol=0), nearest, sizes))

    def _chains(self) -> interpolate.PchipInterpolator:
        return interpolate.PchipInterpolator(-(self.sizes_K**-0.25), self.cost_CK, axis=1)

    def misses(self) -> float | None:
        """By how much the mean curve misses an inner size at most that is left out; None with fewer than 4 sizes.

        Each is left out alone, which doubles the gap around it: of a smooth curve it is several times the error between
        the measured sizes, of a kinked one it is that error.
        """
        if len(self.sizes_K) < 4:
            return None
        found = []
        for k in range(1, len(self.sizes_K) - 1):
            others = RandomCurve(np.delete(self.sizes_K, k), np.delete(self.cost_CK, k, axis=1))
            found.append(abs(float(others.at(self.sizes_K[k : k + 1]).mean() - self.cost_CK[:, k].mean())))
        return max(found)


@dataclass(frozen=True)
class Worth:
    """Random rows that S is worth.

    `value` is read off the mean curve, made monotone; None where S lies beyond it, on the `side` "above" (worth more
    than the largest size) or "below". `spans` are the intervals (low, high) of the confidence set; None is an end
    beyond the measured range: (3200, None) means at least 3,200. `misses` is what `RandomCurve.misses` says of the
    curve: the set knows nothing of that.
    """

    value: float | None
    spans: tuple[Span, ...]
    measured: tuple[float, float]
    level: float
    side: Side = ""
    misses: float | None = None

    def covers(self, size: float) -> bool:
        """Whether the set holds this size."""
        return any((low is None or low <= size) and (high is None or size <= high) for low, high in self.spans)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        spans, measured = [list(s) for s in self.spans], list(self.measured)
        told = {"value": self.value, "spans": spans, "measured": measured, "level": self.level, "side": self.side}
        return {**told, "misses": self.misses}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Worth:
        """The inverse of `to_dict`."""
        spans = tuple((low, high) for low, high in told["spans"])
        measured = told["measured"][0], told["measured"][1]
        return cls(told["value"], spans, measured, told["level"], told.get("side", ""), told.get("misses"))

    def __str__(self) -> str:
        if self.spans == ((None, None),):
            first, last = self.measured
            return f"cannot tell: it could be worth any number of random rows from {first:,.0f} to {last:,.0f}"
        if not self.spans:
            return "cannot tell: no number of random rows costs what it does"
        return self._told(lambda rows: f"{rows:,.0f}")

    def per(self, rows: float) -> str:
        """Worth of each of S's rows, in words; empty where nothing is known. An average: worth is not additive."""
        if not self.spans or self.spans == ((None, None),):
            return ""
        return self._told(lambda n: f"{n / rows:.3g}")

    def each_more_than(self, other: Worth, rows: float, of_other: float) -> bool:
        """Whether each of S's rows is worth more than each of another subset's, on average, as far as the sets go."""
        lows = [low for low, _ in self.spans]
        highs = [high for _, high in other.spans]
        if not lows or not highs or None in lows or None in highs:
            return False
        return min(low for low in lows if low is not None) / rows > max(h for h in highs if h is not None) / of_other

    def _told(self, number: Callable[[float], str]) -> str:
        def span(low: float | None, high: float | None) -> str:
            if low is None or high is None:
                return f"at most {number(high)}" if high is not None else f"at least {number(low or 0.0)}"
            return f"{number(low)} .. {number(high)}"

        point = "" if self.value is None else f"{number(self.value)} "
        return f"{point}[{' or '.join(span(*s) for s in self.spans)}]"


def worth(subset_R: Sequence[float] | Floats, curve: RandomCurve, *, level: float = 0.9) -> Worth:
    """Invert the random curve at a subset's cost.

    Args:
        subset_R: Costs of the subset's trials, at least 2.
        curve: Costs of random subsets on the same judge rows.
        level: Of the confidence set.

    Raises:
        RequestError: Fewer than 2 trials.
    """
    subset = np.asarray(subset_R, dtype=np.float64)
    if len(subset) < 2:
        raise RequestError(f"worth of {len(subset)} trial(s) has no interval: expected at least 2; run more seeds")
    size_M, cost = curve.grid(), float(subset.mean())
    value, crossings = inversion(size_M, curve.at(size_M).mean(0), cost), curve.crossings(cost)
    if value is not None and len(crossings) == 1:
        value = float(crossings[0])
    # Of little noise a part of the set may lie between two sizes of the grid; there the mean is the cost.
    size_M = np.union1d(size_M, crossings)
    cost_CM = curve.at(size_M)
    mean_M = np.where(np.isin(size_M, crossings), cost, cost_CM.mean(0))
    var_M, var = cost_CM.var(0, ddof=1) / len(cost_CM), float(subset.var(ddof=1)) / len(subset)
    slack_M = slack(mean_M, var_M, len(cost_CM), cost, var, len(subset), level)
    measured = (float(size_M[0]), float(size_M[-1]))
    side: Side = "" if value is not None else "above" if cost < mean_M.mean() else "below"
    return Worth(value, _spans(size_M, slack_M, mean_M, cost), measured, level, side, curve.misses())


def slack(mean_M: Floats, var_M: Floats, chains: int, cost: float, var: float, trials: int, level: float) -> Floats:
    """How far Welch's test is from telling the curve from the subset at each size; negative where it does.

    Squared standard errors are handed in.
    """
    total_M = var_M + var
    below_M = var_M**2 / (chains - 1) + var**2 / (trials - 1)
    df_M = np.divide(total_M**2, below_M, out=np.full_like(total_M, chains + trials - 2.0), where=below_M > 0)
    return np.asarray(special.stdtrit(df_M, (1 + level) / 2) * np.sqrt(total_M) - np.abs(mean_M - cost))


def inversion(size_M: Floats, mean_M: Floats, cost: float) -> float | None:
    """Where the mean curve, made non-increasing (isotonic regression), has this cost; None outside it."""
    falling_M = np.asarray(optimize.isotonic_regression(mean_M, increasing=False).x)
    if not falling_M[-1] <= cost <= falling_M[0]:
        return None
    return float(np.clip(np.exp(np.interp(-cost, -falling_M, np.log(size_M))), size_M[0], size_M[-1]))


def _spans(size_M: Floats, slack_M: Floats, mean_M: Floats, cost: float) -> tuple[Span, ...]:
    """Runs of sizes with slack, ending where it is used up; a run that touches an end of the range is open there.

    Where S costs more than the fewest random rows, fewer may cost what it does, and more than the most where it costs
    less than these, whatever fits in between: a bumpy curve may fit at a bump alone.
    """
    fits_M, last = slack_M >= 0, len(size_M) - 1
    fewer: tuple[Span, ...] = ((None, float(size_M[0])),) if not fits_M[0] and cost > mean_M[0] else ()
    more: tuple[Span, ...] = ((float(size_M[-1]), None),) if not fits_M[last] and cost < mean_M[last] else ()

    def end(inside: int, outside: int) -> float:
        share = slack_M[inside] / (slack_M[inside] - slack_M[outside])
        return float(size_M[inside] * (size_M[outside] / size_M[inside]) ** share)

    edges = np.flatnonzero(np.diff(np.concatenate([[False], fits_M, [False]]).astype(np.int8)))
    runs = zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True)
    return (*fewer, *((end(a, a - 1) if a else None, end(b, b + 1) if b < last else None) for a, b in runs), *more)
