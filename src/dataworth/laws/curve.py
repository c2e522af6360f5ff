"""Learning curve of nested chains: the fitted law, intervals of what is asked, and refusals in plain words.

Axes: `C` chains, `K` sizes. A chain is one nested series of random subsets of growing size; every point is one
training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.laws.clean import Inspection, first_rise, inspect, runs_of, whole_chains
from dataworth.laws.objective import Floats
from dataworth.laws.power import PowerLaw, fit_power
from dataworth.laws.shapes import Shape, fit_shape
from dataworth.laws.spread import RESAMPLE_FROM, over_chains, over_resamples
from dataworth.numerics.ranks import Estimate

# A curve with reasons against it speaks up to this multiple of the largest size, and as far below the smallest.
_NEAR = 2.0
# What a design must have before its curve is believed beyond that.
_SIZES, _SPAN, _CHAINS = 5, 16.0, 3
# A floor isn't identifiable where its interval reaches this share of the last loss, or above this corr(E, beta).
_NO_FLOOR, _UNIDENTIFIED_CORR = 0.02, 0.995
_TRIMMED = 0.1


@dataclass(frozen=True)
class Prediction:
    """An answer read off a curve, with its interval, or the reason why there is none.

    `quantity` is "loss" (after `asked` rows) or "rows" (for the loss `asked`; infinity means never). `beyond` is the
    row count over the largest measured one, above 1 outside the data. NaN is unknown; where `refusal` says why, so is
    the value.
    `warnings` are the reasons that don't yet refuse this near to the data. `rivals` are what pow4, mmf4 and the law
    without the highest-loss runs say.
    """

    quantity: Literal["loss", "rows"]
    asked: float
    value: float
    low: float
    high: float
    level: float
    beyond: float
    out_of_range: bool
    refusal: str = ""
    warnings: tuple[str, ...] = ()
    rivals: Mapping[str, float] | None = None

    def __str__(self) -> str:
        return self.said("loss")

    def said(self, what: str) -> str:
        """The answer in words; `what` is what falls, such as a share of errors."""
        where = (
            f"{what} at {self.asked:,.0f} rows" if self.quantity == "loss" else f"rows for a {what} of {self.asked:g}"
        )
        if self.refusal:
            known = f" (at least {self.low:,.0f})" if self.quantity == "rows" and self.low > 0 else ""
            return f"{where}: cannot tell{known}, because {self.refusal}"
        far = f"; {self.beyond:.3g} times the largest measured size" if self.beyond > 1 else ""
        return f"{where}: {self._number(self.value)} [{self._number(self.low)} .. {self._number(self.high)}]{far}"

    def _number(self, value: float) -> str:
        if self.quantity == "loss":
            return f"{value:.4g}"
        if math.isfinite(value):
            return f"{value:,.0f}"
        return "never" if math.isinf(value) else "unknown"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: None for what is unknown, "never" for infinity."""
        return {
            "quantity": self.quantity,
            "asked": self.asked,
            "value": _plain(self.value),
            "low": _plain(self.low),
            "high": _plain(self.high),
            "level": self.level,
            "beyond": _plain(self.beyond),
            "out_of_range": self.out_of_range,
            "refusal": self.refusal,
            "warnings": list(self.warnings),
            "rivals": dict(self.rivals or {}),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Prediction:
        """The inverse of `to_dict`."""
        numbers = {k: _unplain(told[k]) for k in ("value", "low", "high", "beyond")}
        return cls(**{**told, **numbers, "warnings": tuple(told["warnings"])})


@dataclass(frozen=True)
class Curve:
    """A fitted learning curve.

    `law` fits all runs; `trimmed` leaves out the `trimmed_runs` of highest loss; `refits` are the laws of single chains
    (`interval` = "chains") or of resampled chains ("resampled"). `reasons` speak against the law far from the data;
    `beside` are such that its losses don't show.
    """

    sizes_K: Floats
    loss_CK: Floats
    law: PowerLaw
    trimmed: PowerLaw
    trimmed_runs: int
    pow4: Shape
    mmf4: Shape
    refits: tuple[PowerLaw, ...]
    interval: Literal["chains", "resampled"]
    inspection: Inspection
    beside: tuple[str, ...] = ()

    @property
    def chains(self) -> int:
        """How many chains the interval rests on: those with at least 4 points."""
        return len(whole_chains(self.loss_CK))

    def estimate(self, quantity: Callable[[PowerLaw], float], level: float = 0.9) -> Estimate:
        """Any finite quantity of the law with its interval over chains, refusing nothing; use logs of what is positive.

        Raises:
            RequestError: The quantity is not finite in the law or in a refit.
        """
        value, others = float(quantity(self.law)), [float(quantity(law)) for law in self.refits]
        if self.interval == "resampled":
            return over_resamples(value, others, self.chains, level)
        return over_chains(value, others, level)

    def band(self, D: float, level: float = 0.9) -> Estimate:
        """The loss expected at `D` rows, whatever the reasons against it: the mean of new chains, not one training."""
        found = self.estimate(lambda law: math.log(max(law.at(D), 1e-300)), level)
        return Estimate(math.exp(found.value), math.exp(found.low), math.exp(found.high), found.n, level)

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why the law is not to be believed far from the data, in plain words; empty if nothing speaks against it."""
        unclean = tuple(f"the curve is not a clean power law: {r}" for r in self.inspection.reasons)
        return (*self._design(), *unclean, *self._floor(), *self.beside)

    def _design(self) -> tuple[str, ...]:
        span, found = self.sizes_K[-1] / self.sizes_K[0], []
        # A sixteenth of the pool is a whole number of rows: what rounding takes from the factor isn't missed.
        rounded = self.sizes_K[-1] / (self.sizes_K[0] - 0.5)
        if len(self.sizes_K) < _SIZES or rounded < _SPAN:
            found.append(
                f"{len(self.sizes_K)} sizes over a factor of {span:.3g} can't check a law: measure at least "
                f"{_SIZES} sizes over a factor of {_SPAN:g}"
            )
        if self.chains < _CHAINS:
            found.append(f"{self.chains} whole chains give no reliable interval: run at least {_CHAINS}")
        return tuple(found)

    @property
    def knows_floor(self) -> bool:
        """Whether the law's floor is one: shown to be above 0, and apart from the exponent."""
        return not self._floor()

    def _floor(self) -> tuple[str, ...]:
        if not self.inspection.falls:
            return ("no fall of the loss is shown over the measured sizes",)
        floor, last = self.estimate(lambda law: law.E), self.law.at(float(self.sizes_K[-1]))
        if floor.low > _NO_FLOOR * last and self.law.corr_E_beta < _UNIDENTIFIED_CORR:
            return ()
        E, low, high = (v if v > 1e-6 * last else 0.0 for v in (floor.value, floor.low, floor.high))
        return (
            f"still steep at the largest size: the floor is not identifiable (E {E:.3g} [{low:.3g} .. {high:.3g}], "
            f"corr(E, beta) {self.law.corr_E_beta:.3f})",
        )

    def predict(self, D: float, level: float = 0.9) -> Prediction:
        """Loss expected at `D` rows; refused beyond twice the measured range if anything speaks against the law.

        Where the curve isn't known to be a clean power law, the interval reaches to what the curves that bend say:
        within chains that agree nothing else tells how far the shape is to be believed.

        Raises:
            RequestError: `D` is not a positive finite number, or `level` not in (0, 1).
        """
        if not 0 < D < math.inf:
            raise RequestError(f"{D} rows: expected a positive finite number; ask for another size")
        low, high = float(self.sizes_K[0]), float(self.sizes_K[-1])
        band = self.band(D, level)
        refused = bool(self.reasons) and not low / _NEAR <= D <= high * _NEAR
        rivals = {"pow4": self.pow4.at(D), "mmf4": self.mmf4.at(D), "trimmed": self.trimmed.at(D)}
        bent = (rivals["pow4"], rivals["mmf4"]) if self.inspection.reasons or self.beside else (band.value,)
        ends = min(band.low, *bent), max(band.high, *bent)
        value = (math.nan,) * 3 if refused else (band.value, *ends)
        outside = not low <= D <= high
        return Prediction("loss", D, *value, level, D / high, outside, **self._said(refused), rivals=rivals)

    def rise(self, level: float = 0.9) -> tuple[float, float] | None:
        """Two neighbouring sizes between which the loss rises beyond what chains scatter, if there are any."""
        return first_rise(self.sizes_K, self.loss_CK, level)

    def share_gained(self, D: float, level: float = 0.9) -> Estimate:
        """Share of the loss at the largest size that `D` rows would take away, by the law; negative is impossible."""
        largest = float(self.sizes_K[-1])
        return self.estimate(lambda law: 1.0 - law.at(D) / law.at(largest), level)

    def rows_for(self, loss: float, level: float = 0.9) -> Prediction:
        """Rows needed for `loss`: where the law reaches it, and where the edges of its band do; infinity is never.

        If anything speaks against the law, an answer beyond twice the range is refused, `low` is what is known, and a
        far upper end is unknown; of a loss that the smallest size is below it is said that it takes at most that.

        Raises:
            RequestError: `loss` is not a positive finite number, or `level` not in (0, 1).
        """
        if not 0 < loss < math.inf:
            raise RequestError(f"a loss of {loss}: expected a positive finite number; ask for another")
        smallest, largest = float(self.sizes_K[0]), float(self.sizes_K[-1])
        value = self.law.rows_for(loss)
        low, high = self._reached(loss, level, value)
        far = largest * _NEAR
        refused = bool(self.reasons) and not smallest / _NEAR <= value <= far
        if self.reasons:
            low, high = min(low, far), high if high <= far else math.nan
        if self.reasons and value < smallest and self.band(smallest, level).high <= loss:
            value, low, high, refused = smallest, 0.0, smallest, False
        outside = not smallest <= value <= largest
        beyond = value / largest
        if refused:
            value, low, high = math.nan, low if value > far else 0.0, math.nan
        return Prediction("rows", loss, value, low, high, level, beyond, outside, **self._said(refused))

    def _reached(self, loss: float, level: float, value: float) -> tuple[float, float]:
        """First sizes at which the low and the high edge of the band are at or below `loss`."""
        grid = np.geomspace(min(1.0, self.sizes_K[0]), self.sizes_K[-1] * 1e6, 240)
        bands = [self.band(float(D), level) for D in grid]
        ends = []
        for edge in (np.array([b.low for b in bands]), np.array([b.high for b in bands])):
            first = int(np.argmax(edge <= loss)) if (edge <= loss).any() else -1
            if first <= 0:
                ends.append(math.inf if first < 0 else float(grid[0]))
                continue
            share = math.log(edge[first - 1] / loss) / math.log(edge[first - 1] / edge[first])
            ends.append(float(grid[first - 1] * (grid[first] / grid[first - 1]) ** share))
        return min(ends[0], value), max(ends[1], value)

    def _said(self, refused: bool) -> dict[str, Any]:
        return {"refusal": "; ".join(self.reasons)} if refused else {"warnings": self.reasons}

    def explain(self) -> str:
        """The curve in a few lines of plain English."""
        law, trimmed, largest = self.law, self.trimmed, float(self.sizes_K[-1])
        saved = self.estimate(lambda law: law.at(largest) - law.at(2 * largest))
        lines = [
            f"loss = {law.E:.4g} + {law.B:.4g} rows^-{law.beta:.3g} over {law.runs} runs in {len(self.loss_CK)} chains",
            f"without the {self.trimmed_runs} runs of highest loss: "
            f"{trimmed.E:.4g} + {trimmed.B:.4g} rows^-{trimmed.beta:.3g}",
            self._told_floor(),
            f"twice the largest size would save {saved.value:.3g} [{saved.low:.3g} .. {saved.high:.3g}] (90 %)",
        ]
        if self.inspection.reasons or self.beside:
            bent = f"{self.pow4.at(2 * largest):.4g} and {self.mmf4.at(2 * largest):.4g}"
            lines.append(f"at {2 * largest:g} rows curves that bend say {bent}, by which the interval there is widened")
        return "\n".join(
            [*lines, *(f"beyond {_NEAR:g} times the measured range it says nothing: {r}" for r in self.reasons)]
        )

    def _told_floor(self) -> str:
        """The floor with its interval, or that none is in sight."""
        E = self.estimate(lambda law: law.E)
        told = f"[{max(0.0, E.low):.3g} .. {E.high:.3g}] (90 %); corr(E, beta) {self.law.corr_E_beta:.3f}"
        if not self.knows_floor:
            return f"no floor is in sight: the law's own is {E.value:.4g} {told}"
        return f"{E.value:.4g} is the floor of this model and recipe {told}"

    def to_dict(self) -> dict[str, Any]:
        """Laws, checks and reasons as plain JSON values."""
        return {
            "law": self.law.to_dict(),
            "trimmed": self.trimmed.to_dict(),
            "trimmed_runs": self.trimmed_runs,
            "sizes": self.sizes_K.tolist(),
            "chains": self.chains,
            "interval": self.interval,
            "held_out_log_errors": dict(self.inspection.misses),
            "held_out_noise": self.inspection.noise,
            "reasons": list(self.reasons),
        }


def fit_curve(
    sizes_K: Sequence[float] | Floats,
    loss_CK: Sequence[Sequence[float]] | NDArray[np.float64],
    *,
    resamples: int = 200,
    seed: int = 0,
) -> Curve:
    """Fit the learning curve of nested chains: `loss_CK[c, k]` is chain c's loss at `sizes_K[k]`, NaN where missing.

    All points make the law; chains with 4 points or more make its interval: below 10 of them a t interval over their
    own fits, from 10 on `resamples` refits to resampled chains (200 for a screen, 1,000 for a report).

    Raises:
        RequestError: Fewer than 4 sizes or 2 chains with points at 4 of them, a repeated size, a size without a loss,
            or a number that is not positive and finite.
    """
    sizes_K, loss_CK = _checked(sizes_K, loss_CK)
    D_R, loss_R = runs_of(sizes_K, loss_CK)
    law = fit_power(D_R, loss_R)
    cut = max(1, round(_TRIMMED * len(loss_R)))
    kept = np.sort(np.argsort(loss_R, kind="stable")[: len(loss_R) - cut])
    whole_CK = whole_chains(loss_CK)
    C, draws = len(whole_CK), np.arange(len(whole_CK))[:, None]
    interval: Literal["chains", "resampled"] = "chains" if C < RESAMPLE_FROM else "resampled"
    if interval == "resampled":
        draws = np.random.default_rng(seed).integers(0, C, size=(resamples, C))
    return Curve(
        sizes_K=sizes_K,
        loss_CK=loss_CK,
        law=law,
        trimmed=fit_power(D_R[kept], loss_R[kept]),
        trimmed_runs=cut,
        pow4=fit_shape("pow4", D_R, loss_R, law),
        mmf4=fit_shape("mmf4", D_R, loss_R, law),
        refits=tuple(fit_power(*runs_of(sizes_K, whole_CK[draw]), start=law) for draw in draws),
        interval=interval,
        inspection=inspect(sizes_K, loss_CK, law),
    )


def _plain(value: float) -> float | str | None:
    return None if math.isnan(value) else "never" if math.isinf(value) else value


def _unplain(value: float | str | None) -> float:
    return math.nan if value is None else math.inf if value == "never" else float(value)


def _checked(sizes: Any, losses: Any) -> tuple[Floats, Floats]:
    sizes_K, loss_CK = np.asarray(sizes, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if sizes_K.ndim != 1 or loss_CK.ndim != 2 or loss_CK.shape[1] != len(sizes_K):
        raise RequestError(
            f"losses of shape {loss_CK.shape} for {len(sizes_K)} sizes: expected one row a chain, one column a size"
        )
    if len(np.unique(sizes_K)) != len(sizes_K) or not (np.isfinite(sizes_K) & (sizes_K > 0)).all():
        raise RequestError(f"sizes {sizes_K.tolist()}: expected different positive numbers of rows; correct them")
    if np.isinf(loss_CK).any() or (loss_CK <= 0).any():
        raise RequestError(
            "a loss is infinite, zero or negative: expected positive numbers, NaN where a point is missing"
        )
    there = np.isfinite(loss_CK)
    if len(sizes_K) < 4 or (there.sum(axis=1) >= 4).sum() < 2 or not there.any(axis=0).all():
        raise RequestError(
            f"{len(sizes_K)} sizes with {there.sum(axis=0).tolist()} losses each: a curve needs at least 4 sizes and 2 "
            "chains that have 4 of them; run more, and leave out sizes without any"
        )
    order, rows = np.argsort(sizes_K), there.any(axis=1)
    sorted_CK = loss_CK[rows][:, order]
    # Chains have no order of their own: a fixed one makes resamples and sums the same however they were given.
    return sizes_K[order], sorted_CK[np.lexsort(np.nan_to_num(sorted_CK, nan=-1.0).T)]
