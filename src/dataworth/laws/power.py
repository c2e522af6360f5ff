"""The data law L(D) = E + B D^-beta of one model, recipe and goal (Hestness et al. 2017; Hoffmann et al. 2022).

E is the floor of this model and recipe, not the entropy of the data. Axes: `R` runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.laws.objective import Fitted, Floats, LogLaw, columns, fit_log_law, logs_of, natural

_FLOORS = (0.3, 0.7, 0.95)
_EXPONENTS = (0.15, 0.5, 1.2)
_SIZES = (0.5, 1.0, 2.0)
# A floor below this share of the lowest loss is none.
_NO_FLOOR = 0.02


@dataclass(frozen=True)
class PowerLaw:
    """L(D) = E + B D^-beta.

    `objective` is the sum of Huber losses of log residuals over `runs`; `corr_E_beta` the correlation of E and beta
    by the curvature of the fit: near 1, a higher floor with a steeper fall fits as well. All three describe the fit
    and are 0 or NaN in a law written down by hand.
    """

    E: float
    B: float
    beta: float
    objective: float = math.nan
    corr_E_beta: float = math.nan
    runs: int = 0

    @overload
    def at(self, D: float) -> float: ...
    @overload
    def at(self, D: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def at(self, D: Any) -> Any:
        """Loss after training on `D` examples (or tokens: the unit the law was fitted in)."""
        with np.errstate(over="ignore", under="ignore"):
            loss = self.E + self.B * np.asarray(D, dtype=np.float64) ** -self.beta
        return loss if np.ndim(D) else float(loss)

    def rows_for(self, loss: float) -> float:
        """Examples needed for `loss`; infinity, which means never, at or below the floor E."""
        if loss <= self.E or self.beta <= 0 or self.B <= 0:
            return math.inf
        power = math.log(self.B / (loss - self.E)) / self.beta
        return math.exp(power) if power < 700 else math.inf

    def gain_from_doubling(self, D: float) -> float:
        """Loss saved by going from `D` to `2 D` examples: B D^-beta (1 - 2^-beta)."""
        return self.at(D) - self.at(2.0 * D)

    def to_dict(self) -> dict[str, float]:
        """Plain JSON values; NaN where the law was not fitted."""
        return {
            "E": self.E,
            "B": self.B,
            "beta": self.beta,
            "objective": self.objective,
            "corr_E_beta": self.corr_E_beta,
            "runs": self.runs,
        }


def fit_power(
    D_R: Sequence[float] | Floats,
    loss_R: Sequence[float] | Floats,
    *,
    start: PowerLaw | None = None,
) -> PowerLaw:
    """Fit L(D) = E + B D^-beta to runs; a run that counts twice appears twice.

    From 27 starts, or from `start` alone (a refit of nearly the same data). Parameters are (log B at the middle of the
    range, log E, log beta), so that the loss never rises and scaling sizes or losses scales the fit with them.

    Raises:
        RequestError: Fewer than 3 different sizes, unequal lengths, or a number that is not finite and positive.
    """
    x_R, y_R = logs_of("sizes", D_R), logs_of("losses", loss_R)
    if x_R.shape != y_R.shape or len(np.unique(x_R)) < 3:
        raise RequestError(
            f"{len(x_R)} sizes ({len(np.unique(x_R))} different) and {len(y_R)} losses: a power law has three numbers; "
            "give one loss a run and at least 3 different sizes"
        )
    order = np.lexsort((y_R, x_R))
    x_R, y_R = x_R[order], y_R[order]
    x0, y0 = (x_R[0] + x_R[-1]) / 2, (y_R.min() + y_R.max()) / 2
    fitted = fit_log_law(_log_law(x_R - x0), y_R - y0, _starts(x_R - x0, y_R - y0, start, x0, y0))
    b, e, beta = float(fitted.p[0]), float(fitted.p[1]), natural(float(fitted.p[2]))
    return PowerLaw(
        E=natural(e + y0),
        B=natural(b + y0 + beta * x0),
        beta=beta,
        objective=fitted.objective,
        corr_E_beta=_corr(fitted),
        runs=len(x_R),
    )


def _log_law(x_R: Floats) -> LogLaw:
    def law(p: Floats) -> tuple[Floats, Floats]:
        beta = np.exp(p[2])
        fall_R = p[0] - beta * x_R
        log_R = np.logaddexp(fall_R, p[1])
        share_R = np.exp(fall_R - log_R)
        return log_R, columns(share_R, np.exp(p[1] - log_R), -beta * x_R * share_R)

    return law


def _starts(x_R: Floats, y_R: Floats, start: PowerLaw | None, x0: float, y0: float) -> Floats:
    low, high, x_low = math.exp(y_R.min()), math.exp(y_R.max()), float(x_R[0])
    if start is not None:
        itself = [math.log(start.B) - y0 - start.beta * x0, math.log(start.E) - y0, math.log(start.beta)]
        if math.exp(itself[1]) > _NO_FLOOR * low:
            return np.array([itself])
        # Without a floor there is no slope back towards one: start from one too.
        steeper = 1.5 * start.beta
        return np.array(
            [itself, [math.log(high - 0.5 * low) + steeper * x_low, math.log(0.5 * low), math.log(steeper)]]
        )
    return np.array(
        [
            [math.log(size * (high - floor * low)) + beta * x_low, math.log(floor * low), math.log(beta)]
            for floor, beta, size in product(_FLOORS, _EXPONENTS, _SIZES)
        ]
    )


def _corr(fitted: Fitted) -> float:
    """Correlation of E and beta from the inverse of J'J; 1 where it has none."""
    # In E itself, not in its log, which has no curvature left where E is nearly 0.
    J = fitted.jacobian_RP * [1.0, math.exp(min(-float(fitted.p[1]), 690.0)), 1.0]
    covariance = np.linalg.pinv(J.T @ J, hermitian=True)
    spread = math.sqrt(max(covariance[1, 1] * covariance[2, 2], 0.0))
    return float(np.clip(covariance[1, 2] / spread, -1.0, 1.0)) if spread > 0 else 1.0
