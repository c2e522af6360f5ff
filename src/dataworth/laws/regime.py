"""Is the bottleneck the data or the model? What pilots show of the regime they are in (Bahri et al. 2021, 2102.06701).

With far more rows than a model can fit (D >> P) the model's size sets the floor and more rows remove a correction that
falls as 1/D: variance-limited in data, resolution-limited in the model. With far more parameters than rows (P >> D)
every row is fitted and loss falls as D^-beta with beta below 1: resolution-limited in data, variance-limited in the
model. In between lies the interpolation threshold, where test loss may even rise with data, and nothing is said.

A regime is never told from one curve without the train loss, nor without a larger model. Axes: `C` chains, `K` sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dataworth.errors import RequestError
from dataworth.laws.clean import first_rise
from dataworth.laws.curve import Curve, fit_curve
from dataworth.laws.objective import Floats
from dataworth.numerics.ranks import Estimate, mean_interval

AT_FLOOR, MET, NEARLY_MET = 0.1, 0.8, 0.45
"""Train loss over test loss: at most the first where every row is fitted; at least the second at the largest size, and
the third at the smallest, where train and test loss have met."""
TOLD = 0.5
"""An exponent whose interval reaches below this says nothing of 1."""
LITTLE = 0.5
"""A larger model that gains less than this share of what twice the rows would isn't what is wanted."""
NOTHING = 0.1
"""Twice the rows gain nothing beside a larger model where they gain less than this share of what that does."""

_STEEPEST = 5.0
"""No learning curve of a pool is known to fall with a larger exponent, so intervals beyond it are just that."""
_UNSETTLED = (
    "at the largest size the longest training that was tried did best, and an under-trained model looks as one at its "
    "size's floor does; raise epochs in --recipe"
)
Word = Literal["variance-limited in data", "resolution-limited in data", "both", "undetermined"]


@dataclass(frozen=True)
class Pilots:
    """Losses of pilots, NaN where a point is missing: `[C, K]` each, one row a chain of nested subsets.

    `train_CK` is measured on rows that were trained on, `larger_CK` is the test loss of a larger model on the same
    subsets. Train loss is taken to be 0 where every row is fitted, as cross-entropy and squared error without
    unexplainable labels are. `untouched` is the test loss before training, if it is known.
    """

    sizes_K: Floats
    test_CK: Floats
    train_CK: Floats | None = None
    larger_CK: Floats | None = None
    untouched: float | None = None

    def __post_init__(self) -> None:
        """Chains and sizes are those of the test loss.

        Raises:
            RequestError: Shapes that differ.
        """
        for name in ("train_CK", "larger_CK"):
            found = getattr(self, name)
            if found is not None and np.shape(found) != np.shape(self.test_CK):
                raise RequestError(
                    f"{name} of shape {np.shape(found)}: expected that of the test loss, {np.shape(self.test_CK)}; "
                    "put NaN where a point is missing"
                )

    def train_share(self, k: int, level: float = 0.9) -> Estimate | None:
        """Train loss over test loss at size `k`; None without two chains that have both."""
        if self.train_CK is None:
            return None
        share_C = self.train_CK[:, k] / self.test_CK[:, k]
        share_C = share_C[np.isfinite(share_C)]
        return mean_interval(share_C, level=level) if len(share_C) > 1 else None

    def learnt_share(self, k: int, level: float = 0.9) -> Estimate | None:
        """1 where train and test loss have met, less by their gap as a share of the test loss at size `k`.

        Where training took away less than is left, as of a language model that is tuned, it is the share of what was
        taken away: two losses that have hardly moved are nearly equal and haven't met. None as `train_share`.
        """
        if self.train_CK is None or self.untouched is None:
            return self.train_share(k, level)
        test_C = self.test_CK[:, k]
        moved_C = np.minimum(self.untouched - test_C, test_C)
        share_C = np.where(moved_C > 0, 1.0 - (test_C - self.train_CK[:, k]) / np.maximum(moved_C, 1e-300), -np.inf)
        share_C = share_C[~np.isnan(share_C)]
        if len(share_C) < 2 or not np.isfinite(share_C).all():
            return None
        return mean_interval(share_C, level=level)

    def crossing(self, level: float = 0.9) -> tuple[float, float] | None:
        """Train over test loss at the smallest and the largest size, if they cross the interpolation threshold.

        They do where every row is fitted at the one and not at the other, or where train and test loss have nearly met
        at the largest size and not at the smallest.
        """
        order = np.argsort(self.sizes_K)
        first, last = (self.train_share(int(order[k]), level) for k in (0, -1))
        if first is None or last is None:
            return None
        leaves_floor = first.high <= AT_FLOOR < last.low
        return (first.value, last.value) if leaves_floor or first.value < NEARLY_MET < last.value else None

    def surely_crosses(self, level: float = 0.9) -> bool:
        """Whether `crossing` is shown: the whole intervals lie to both sides."""
        order = np.argsort(self.sizes_K)
        first, last = (self.train_share(int(order[k]), level) for k in (0, -1))
        return (
            first is not None and last is not None and any(first.high <= at < last.low for at in (AT_FLOOR, NEARLY_MET))
        )

    def gain_from_larger(self, level: float = 0.9) -> tuple[float, Estimate] | None:
        """What the larger model gains at the largest size at which two chains have both: (that size, gain)."""
        if self.larger_CK is None:
            return None
        gain_CK = self.test_CK - self.larger_CK
        for k in np.argsort(self.sizes_K)[::-1]:
            gain_C = gain_CK[np.isfinite(gain_CK[:, k]), k]
            if len(gain_C) > 1:
                return float(self.sizes_K[k]), mean_interval(gain_C, level=level)
        return None

    def rise(self, level: float = 0.9) -> tuple[float, float] | None:
        """Two neighbouring sizes between which the test loss rises beyond what chains scatter, if there are any."""
        return first_rise(self.sizes_K, self.test_CK, level)


@dataclass(frozen=True)
class Regime:
    """The regime that pilots show, or why they show none.

    `beta` is the exponent with its interval; `train_share` train over test loss at the largest size; `larger` the size
    at which a larger model was tried and what it gained there; `doubling` what twice the rows would gain there. `floor`
    is None where the law's own can't be told from none.
    """

    word: Word
    reasons: tuple[str, ...]
    beta: Estimate
    floor: float | None
    train_share: Estimate | None
    larger: tuple[float, Estimate] | None
    doubling: float

    @property
    def in_model(self) -> str:
        """The same seen from the model's side: the regimes swap."""
        return {
            "variance-limited in data": "resolution-limited in the model",
            "resolution-limited in data": "variance-limited in the model",
        }.get(self.word, self.word)

    def __str__(self) -> str:
        beta = f"the loss falls as rows^-{_exponent(self.beta)}"
        if self.floor is not None:
            limit = f" towards {self.floor:.4g}, which more rows won't pass; a larger model will"
        elif self.larger is not None:
            gain = self.larger[1].value
            limit = f": twice the rows would gain {self.doubling:.2g} where a larger model gains {gain:.2g}"
        else:
            limit = ""
        said = {
            "variance-limited in data": f"the model is the bottleneck ({self.word}, {self.in_model}): train and test "
            f"loss have met and {beta}{limit}",
            "resolution-limited in data": f"the data is the bottleneck ({self.word}, {self.in_model}): every row is "
            f"fitted and {beta}; more or better-chosen rows help, a larger model little",
            "both": f"both help: {beta}, and a larger model lowers it at the same rows",
        }
        if self.word in said:
            return said[self.word]
        return f"cannot tell whether the data or the model is the bottleneck, because {'; '.join(self.reasons)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "word": self.word,
            "in_model": self.in_model,
            "reasons": list(self.reasons),
            "beta": vars(self.beta),
            "floor": self.floor,
            "train_share": self.train_share and vars(self.train_share),
            "larger": self.larger and {"rows": self.larger[0], **vars(self.larger[1])},
            "gain_of_doubling": self.doubling,
        }


def regime(pilots: Pilots, curve: Curve | None = None, level: float = 0.9, *, settled: bool = True) -> Regime:
    """Which of data and model limits a learner, as far as its pilots tell.

    - variance-limited in data: train and test loss have met, a larger model is better, and the interval of beta holds
      1 (it may lie above, as it does near the threshold) or the curve is so flat that twice the rows gain nothing
      beside the larger model;
    - resolution-limited in data: every row is fitted and a larger model gains less than half of what twice the rows
      would; beta may be above 1, as it is for smooth targets in few dimensions: a model that fits every row isn't at
      its size's floor;
    - both: beta is below 1 and a larger model gains more than that;
    - undetermined: anything else, with the reasons.

    Args:
        pilots: Their losses.
        curve: The fitted law of the test losses, if it is at hand.
        level: Of all intervals.
        settled: Whether longer training was tried at the largest size and did no better. An under-trained model looks
            as one at its size's floor does, so without this the model isn't called the bottleneck.

    Raises:
        RequestError: Too few sizes or chains for a curve.
    """
    curve = curve or fit_curve(pilots.sizes_K, pilots.test_CK)
    log_beta = curve.estimate(lambda law: math.log(law.beta), level)
    value, low, high = (math.exp(v) for v in (log_beta.value, log_beta.low, log_beta.high))
    beta = Estimate(value, low, high, log_beta.n, level)
    order = np.argsort(pilots.sizes_K)
    first, last = pilots.train_share(int(order[0]), level), pilots.train_share(int(order[-1]), level)
    larger = pilots.gain_from_larger(level)
    doubling = curve.law.gain_from_doubling(larger[0] if larger else float(curve.sizes_K[-1]))

    def found(word: Word, *reasons: str) -> Regime:
        floor = curve.law.E if curve.knows_floor else None
        return Regime(word, reasons, beta, floor, last, larger, doubling)

    refused = _refusals(pilots, curve, first, last, larger)
    if refused or first is None or last is None or larger is None:
        return found("undetermined", *refused)
    gain = larger[1]
    learnt = pilots.learnt_share(int(order[-1]), level)
    met = first.low >= NEARLY_MET and learnt is not None and learnt.low >= MET
    as_one_over_rows = beta.low >= TOLD and beta.high >= 1.0
    if met and gain.low > 0 and (as_one_over_rows or doubling < NOTHING * gain.low):
        return found("variance-limited in data") if settled else found("undetermined", _UNSETTLED)
    if last.high <= AT_FLOOR and gain.high < LITTLE * doubling:
        return found("resolution-limited in data")
    if beta.high < 1.0 and gain.low > doubling:
        return found("both") if settled else found("undetermined", _UNSETTLED)
    rows = float(np.max(pilots.sizes_K))
    return found("undetermined", *_missing(met, last, learnt, beta, gain, doubling, rows))


def _refusals(
    pilots: Pilots, curve: Curve, first: Estimate | None, last: Estimate | None, larger: tuple[float, Estimate] | None
) -> tuple[str, ...]:
    """What forbids any word, whatever the numbers are."""
    out = []
    if not curve.inspection.falls:
        out.append("no fall of the loss is shown over the measured sizes")
    if first is None or last is None:
        out.append("the train loss isn't known at the smallest and the largest size")
    if crossing := pilots.crossing():
        out.append(
            f"train loss over test loss goes from {crossing[0]:.2f} to {crossing[1]:.2f} within the measured sizes: "
            "the model just ceases to fit every row (interpolation threshold), where curves bend or even rise; measure "
            "sizes well below or above it"
        )
    if rise := pilots.rise():
        out.append(
            f"the loss rises between {rise[0]:,.0f} and {rise[1]:,.0f} rows, as near the interpolation threshold"
        )
    if larger is None:
        out.append("no larger model was trained on the same rows")
    return tuple(out)


def _missing(
    met: bool, last: Estimate, learnt: Estimate | None, beta: Estimate, gain: Estimate, doubling: float, rows: float
) -> tuple[str, ...]:
    """What keeps the numbers from being one of the regimes."""
    out = []
    if not met and last.low >= MET and learnt is not None and learnt.high >= MET > learnt.low:
        within = f"{max(0.0, 1.0 - learnt.high):.0%} to {1.0 - learnt.low:.0%} within the interval"
        out.append(
            f"train and test loss at {rows:,.0f} rows differ by {1.0 - learnt.value:.0%} of what training took away, "
            f"{within}: too uncertain to say whether they have met"
        )
    elif not met and last.low >= MET and (learnt is None or learnt.low < MET):
        gap = "all" if learnt is None else f"{1.0 - learnt.value:.0%}"
        out.append(
            f"train and test loss at {rows:,.0f} rows differ by {gap} of what training took away: they haven't met, "
            "they have hardly moved"
        )
    elif not met and learnt is not None and learnt.low >= MET:
        out.append("train and test loss at the smallest size aren't shown to be near one another")
    elif not met and last.high > AT_FLOOR:
        out.append(
            f"train loss is {last.value:.2f} of test loss at {rows:,.0f} rows: neither fitted to the last row nor equal"
        )
    if beta.high >= 1.0 and not (met and beta.low <= 1.0):
        out.append(f"the exponent, {_exponent(beta)}, isn't shown to be below 1")
    if met and beta.low < TOLD and beta.high >= 1.0:
        out.append(f"the exponent, {_exponent(beta)}, is too uncertain")
    if met and beta.high < 1.0:
        out.append(
            f"train and test loss have met, yet the exponent, {_exponent(beta)}, is "
            "below 1, where a model that has reached its size's floor falls as 1/rows"
        )
    if met and gain.low <= 0:
        out.append(
            f"a larger model isn't shown to be better (gain {gain.value:.3g} [{gain.low:.3g} .. {gain.high:.3g}])"
        )
    elif not met and not gain.high < LITTLE * doubling:
        out.append(
            f"a larger model gains {gain.value:.3g} [{gain.low:.3g} .. {gain.high:.3g}], which isn't shown to be far "
            f"less, or more, than the {doubling:.3g} of twice the rows"
        )
    return tuple(out) or ("its signs contradict one another",)


def _exponent(beta: Estimate) -> str:
    """An exponent with its interval; ends that no learning curve has are not told to two digits."""
    high = f"{beta.high:.2f}" if beta.high <= max(_STEEPEST, beta.value) else f"above {max(_STEEPEST, beta.value):.3g}"
    return f"{beta.value:.2f} [{beta.low:.2f} .. {high}]"
