"""The statistics of one comparison: the trial is the unit, the claim is named, the word is never rounded up.

Items reduce the noise inside a trial and nothing else: bootstraps over items, or over items and 3-5 seeds, give many
times the nominal rate of false verdicts. So a trial is one number, and numbers are compared by Welch's t with
Satterthwaite's degrees of freedom, or, for one fixed subset against random draws, by a prediction interval.

Everything here works on the last axis and broadcasts over leading ones, so that `calibration` runs 20,000 simulated
proofs through the very functions that decide real ones. Values are *costs*: lower is better (accuracies enter negated).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from dataworth.errors import RequestError

Claim = Literal["means", "prediction"]
"""`means`: two expected costs differ. `prediction`: this fixed subset is not what one more random draw would cost."""

Floats = NDArray[np.float64]

BETTER, AS_GOOD, WORSE, NOT_SHOWN = 0, 1, 2, 3
WORDS = ("better", "as good as", "worse", "no difference shown")
"""What `decide` returns, in words; `cannot tell` is decided on what surrounds the numbers, in `verdict`."""
_GRID = 60
"""Quantiles of a spread that a proof may see."""


@dataclass(frozen=True)
class Contrast:
    """Gain of the subject over the comparator (comparator's cost minus subject's) with its standard error and df."""

    gain: Floats
    se: Floats
    df: Floats

    def half_width(self, alpha: float) -> Floats:
        """Half of the two-sided interval at 1 - alpha."""
        return special.stdtrit(self.df, 1 - alpha / 2) * self.se


def contrast(subject_R: Floats, comparator_R: Floats, claim: Claim) -> Contrast:
    """Compare trials, `[..., R]` each (the numbers of trials may differ).

    `prediction` asks whether the subject's mean lies where one more random draw would: half-width
    t(R - 1) s sqrt(1 + 1/R) with s of the R random trials. Seeds of the subject average its training noise away but not
    that of the draw, so the spread of a single trial is kept: exact for one trial, cautious for more. A subject so
    noisy that its own mean varies more than a random trial counts with its own variance instead.

    Raises:
        RequestError: Too few trials for a spread.
    """
    x, y = np.asarray(subject_R, dtype=np.float64), np.asarray(comparator_R, dtype=np.float64)
    least = 1 if claim == "prediction" else 2
    if x.shape[-1] < least or y.shape[-1] < 2:
        raise RequestError(
            f"{x.shape[-1]} and {y.shape[-1]} trials: expected at least {least} and 2 for an interval; run more seeds"
        )
    of_x = x.var(-1, ddof=1) if x.shape[-1] > 1 else np.zeros(x.shape[:-1])
    return Contrast(y.mean(-1) - x.mean(-1), *_noise(of_x, x.shape[-1], y.var(-1, ddof=1), y.shape[-1], claim))


def _noise(var_x: Floats, n_x: int, var_y: Floats, n_y: int, claim: Claim) -> tuple[Floats, Floats]:
    """Standard error and df of a comparison whose single trials have these variances."""
    own, of_y = var_x / n_x, var_y / n_y
    if claim == "means":
        return welch(own, n_x, of_y, n_y)
    se, df = welch(np.maximum(own, var_y), n_x, of_y, n_y)
    return se, np.where(own > var_y, df, n_y - 1.0)


def welch(var_x: Floats, n_x: int, var_y: Floats, n_y: int) -> tuple[Floats, Floats]:
    """Standard error and Satterthwaite's df of a difference of means with these squared standard errors.

    A side of one observation has no spread of its own: it counts as known exactly.
    """
    var_x, var_y = np.asarray(var_x, dtype=np.float64), np.asarray(var_y, dtype=np.float64)
    total = var_x + var_y
    below = var_x**2 / max(n_x - 1, 1) + var_y**2 / max(n_y - 1, 1)
    # Where nothing varies the interval is a point, whatever the degrees of freedom.
    df = np.divide(total**2, below, out=np.full_like(total, float(max(n_x + n_y - 2, 1))), where=below > 0)
    return np.sqrt(total), df


def decide(found: Contrast, alpha: float, margin: float | None = None, alpha_margin: float | None = None) -> NDArray:
    """Codes of `WORDS`, one per comparison.

    Args:
        found: The comparison.
        alpha: Two-sided level of `better` and `worse`.
        margin: The difference that doesn't matter; None makes no claim of `as good as`.
        alpha_margin: Level of each of the two one-sided tests (Schuirmann 1987); `alpha` if None.
    """
    half = found.half_width(alpha)
    code = np.full(np.shape(found.gain), NOT_SHOWN)
    code = np.where(found.gain < -half, WORSE, code)
    if margin is not None:
        one_sided = special.stdtrit(found.df, 1 - (alpha_margin or alpha)) * found.se
        code = np.where(np.abs(found.gain) + one_sided < margin, AS_GOOD, code)
    return np.where(found.gain > half, BETTER, code)


def detectable(
    sd_subject: float,
    sd_comparator: float,
    trials_subject: int,
    trials_comparator: int,
    claim: Claim,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Minimum detectable effect: the true gain that a two-sided test at `alpha` finds with probability `power`.

    The gain is taken as normal and the spreads that the test will see as multiples of chi-square; the standard
    deviations are those of single trials.

    Raises:
        RequestError: Too few trials.
    """
    spread, half_Q = _half_widths(sd_subject, sd_comparator, trials_subject, trials_comparator, claim, alpha / 2)
    if spread == 0:
        return 0.0

    def missing(shift: float) -> float:
        return float(stats.norm.sf((half_Q - shift) / spread).mean()) - power

    return float(optimize.brentq(missing, 0.0, float(half_Q.max()) + 10 * spread))


def passable(
    sd_subject: float,
    sd_comparator: float,
    trials_subject: int,
    trials_comparator: int,
    claim: Claim,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """The smallest margin within which arms of equal expected cost are shown to be `as good as` with this power.

    Both one-sided tests at `alpha` pass where |gain| + t se < margin; distributions as for `detectable`.

    Raises:
        RequestError: Too few trials.
    """
    spread, half_Q = _half_widths(sd_subject, sd_comparator, trials_subject, trials_comparator, claim, alpha)
    if spread == 0:
        return 0.0

    def missing(margin: float) -> float:
        room_Q = np.maximum(margin - half_Q, 0.0)
        return float(np.mean(2 * stats.norm.cdf(room_Q / spread) - 1)) - power

    return float(optimize.brentq(missing, 0.0, float(half_Q.max()) + 10 * spread))


def _half_widths(
    sd_x: float, sd_y: float, n_x: int, n_y: int, claim: Claim, tail: float
) -> tuple[float, NDArray[np.float64]]:
    """Standard deviation of the gain, and half-widths that a proof may see, alike in probability.

    Raises:
        RequestError: Too few trials.
    """
    if n_y < 2 or (claim == "means" and n_x < 2):
        raise RequestError(f"{n_x} and {n_y} trials detect nothing: expected at least 2 each; run more seeds")
    among = (np.arange(_GRID) + 0.5) / _GRID
    seen_x, seen_y = (
        sd**2 * (stats.chi2.ppf(among, n - 1) / (n - 1) if n > 1 else np.zeros(1))
        for sd, n in ((sd_x, n_x), (sd_y, n_y))
    )
    se, df = _noise(seen_x[:, None], n_x, seen_y[None, :], n_y, claim)
    return float(np.hypot(sd_x / n_x**0.5, sd_y / n_y**0.5)), np.ravel(special.stdtrit(df, 1 - tail) * se)
