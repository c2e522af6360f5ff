"""Forecast of worth before any training: cheap, wide, and scored against every proof that follows.

The more extreme a pick is by its score, the further its worth may be from its size, and to which side a method's own
proofs have to teach: with y = log2(worth / rows) and the pick's selection differential d (the mean normal score of the
kept rows), y = beta d + noise, with beta of the method. Before its first proof beta is as likely below as above zero,
since most clever scores lose to random on somebody's pool. Conjugate normal linear regression (Gelman et al., Bayesian
Data Analysis, 3rd ed., 14.2 and 14.8), so the interval is Student's and narrows as proofs come in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

if TYPE_CHECKING:
    from dataworth.laws.worth import Worth

LEVEL = 0.9
PRIOR_SD, PRIOR_DF, PRIOR_SLOPE = 0.5, 4.0, 2.0
"""Noise of y, how many proofs that guess counts for, and the variance of beta over that of the noise: a top-5 % pick
(d about 2) is first forecast to be worth between a tenth and ten times its rows."""


@dataclass(frozen=True)
class Outcome:
    """What a proof found of a forecast pick: `y` = log2(worth / rows), at the end of the measured range beyond it."""

    method: str
    differential: float
    y: float
    held: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Forecast:
    """Random rows that a pick of `rows` rows by `method` will turn out to be worth; `proofs` of it are known."""

    method: str
    rows: int
    differential: float
    value: float
    low: float
    high: float
    level: float
    proofs: int

    def __str__(self) -> str:
        known = f"{self.proofs} proof{'s' if self.proofs != 1 else ''} of {self.method} so far"
        return f"{self.value:,.0f} [{self.low:,.0f} .. {self.high:,.0f}] random rows ({known})"

    def held(self, found: Worth) -> bool | None:
        """Whether a proof's worth lies in the interval; None where the proof can't tell.

        Worth beyond the measured range holds if the interval reaches there; a set that points the other way, as on a
        curve that rises, tells nothing.
        """
        if not found.spans or found.spans == ((None, None),):
            return None
        if found.value is not None:
            return self.low <= found.value <= self.high
        first, last = found.measured
        if found.side == "above":
            return self.high >= last if found.spans[-1][1] is None else None
        return self.low <= first if found.spans[0][0] is None else None

    def outcome(self, found: Worth) -> Outcome | None:
        """What a proof's worth teaches; None where it can't tell."""
        held = self.held(found)
        if held is None:
            return None
        end = found.measured[1] if found.side == "above" else found.measured[0]
        worth = end if found.value is None else found.value
        return Outcome(self.method, self.differential, float(np.log2(worth / self.rows)), held)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Forecast:
        """The inverse of `to_dict`."""
        return cls(**told)


def differential(rank_N: NDArray[np.float64], kept_N: NDArray[np.bool_]) -> float:
    """Mean normal score of the kept rows.

    Args:
        rank_N: Ranks from 1 (worst) to N (best) of the rows that were scored; NaN where a row wasn't.
        kept_N: Which rows were kept.
    """
    scored_N = ~np.isnan(rank_N)
    normal_N = special.ndtri((rank_N - 0.5) / max(1, int(scored_N.sum())))
    both_N = scored_N & kept_N
    return float(normal_N[both_N].mean()) if both_N.any() else 0.0


def top_differential(rows: int, of: int) -> float:
    """The differential of the best `rows` of `of` rows, before they are scored."""
    kept_N = np.arange(of) >= of - rows
    return differential(np.arange(1, of + 1, dtype=np.float64), kept_N)


def forecast(method: str, rows: int, d: float, outcomes: Sequence[Outcome], *, level: float = LEVEL) -> Forecast:
    """What a pick will be worth, by what is known of its method.

    Args:
        method: Name of the score.
        rows: How many rows are picked.
        d: The pick's selection differential.
        outcomes: Of all proofs of forecast picks; those of other methods are left aside.
        level: Of the interval.
    """
    mine = [o for o in outcomes if o.method == method]
    d_n, y_n = np.array([o.differential for o in mine]), np.array([o.y for o in mine])
    variance = 1.0 / (1.0 / PRIOR_SLOPE + float(d_n @ d_n))
    beta = variance * float(d_n @ y_n)
    df = PRIOR_DF + len(mine)
    noise = (PRIOR_DF * PRIOR_SD**2 + float(y_n @ y_n) - beta**2 / variance) / df
    half = float(special.stdtrit(df, (1 + level) / 2)) * (noise * (1.0 + d * d * variance)) ** 0.5
    low, value, high = (rows * 2.0**y for y in (beta * d - half, beta * d, beta * d + half))
    return Forecast(method, rows, d, value, low, high, level, len(mine))


def calibration(outcomes: Sequence[Outcome], level: float = LEVEL) -> str:
    """How forecasts have done so far, in a sentence."""
    if not outcomes:
        return "no forecast has been scored by a proof yet"
    held = sum(o.held for o in outcomes)
    return f"{held} of {len(outcomes)} forecasts so far held what {level:.0%} of them should"
