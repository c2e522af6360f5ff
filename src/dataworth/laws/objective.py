"""The one way laws are fitted: a scaled sum of Huber losses of log residuals, many starts, then a polish.

With Huber's delta at 1e-3 the raw objective is about 1e-3, so an optimiser's default tolerances stop it far from the
optimum; that is how Chinchilla's published constants came out wrong (Besiroglu et al. 2024, arXiv 2404.10102). Here
it is multiplied by 1e3, gradients are analytic and the best ends of the multi-start are polished by BFGS.

Axes: `R` runs (observations), `P` parameters, `S` starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from dataworth.errors import RequestError

Floats = NDArray[np.float64]
# Parameters -> (log predictions_R, their jacobian_RP).
LogLaw = Callable[[Floats], tuple[Floats, Floats]]

DELTA = 1e-3
SCALE = 1e3
# Iterations of L-BFGS a start gets, and ends that are polished: the best few, since early ends are ranked roughly.
_ITERATIONS = 60
_POLISHED = 3
# Iterations of the polish: hundreds are spent only along directions that don't matter, as on a flat curve.
_POLISH = 200


@dataclass(frozen=True)
class Fitted:
    """Parameters, the unscaled objective there (sum of Huber losses of log residuals), and the jacobian."""

    p: Floats
    objective: float
    jacobian_RP: Floats


def huber(residual_R: Floats, delta: float = DELTA) -> Floats:
    """r^2 / 2 up to `delta`, linear beyond: delta (|r| - delta / 2)."""
    return _huber(residual_R, bounded(residual_R, delta))


def _huber(residual_R: Floats, bounded_R: Floats) -> Floats:
    return bounded_R * (residual_R - 0.5 * bounded_R)


def bounded(residual_R: Floats, delta: float = DELTA) -> Floats:
    """The slope of `huber`: r, kept between -`delta` and `delta`."""
    return np.minimum(np.maximum(residual_R, -delta), delta)


def columns(*parts_R: Floats) -> Floats:
    """A jacobian_RP of its columns: `np.stack(..., axis=1)` in less than half the time, of which a fit is made."""
    found = np.empty((len(parts_R[0]), len(parts_R)))
    for k, part_R in enumerate(parts_R):
        found[:, k] = part_R
    return found


def fit_log_law(law: LogLaw, log_loss_R: Floats, starts_SP: Floats) -> Fitted:
    """Minimise the sum of Huber losses of the law's log predictions minus `log_loss_R`.

    L-BFGS from every start, then BFGS (gradient tolerance 1e-10) from the best three ends.
    """

    def scaled(p: Floats) -> tuple[float, Floats]:
        predicted_R, jacobian_RP = law(p)
        residual_R = predicted_R - log_loss_R
        slope_R = bounded(residual_R)
        return SCALE * float(_huber(residual_R, slope_R).sum()), SCALE * (slope_R @ jacobian_RP)

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        ends = [
            minimize(scaled, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
            for start in starts_SP
        ]
        ends = sorted((e for e in ends if np.isfinite(e.fun)), key=lambda e: e.fun)[:_POLISHED]
        polished = [
            minimize(scaled, e.x, jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": _POLISH}) for e in ends
        ]
        best = min((e for e in [*ends, *polished] if np.isfinite(e.fun)), key=lambda e: e.fun)
        predicted_R, jacobian_RP = law(best.x)
    return Fitted(best.x, float(huber(predicted_R - log_loss_R).sum()), jacobian_RP)


def natural(log_value: float) -> float:
    """exp, kept within what a float holds."""
    return math.exp(min(max(log_value, -690.0), 690.0))


def logs_of(name: str, values: object) -> Floats:
    """Logarithms of a one-dimensional array of positive finite numbers.

    Raises:
        RequestError: A value is zero, negative or not finite, or the array is not one-dimensional.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not (np.isfinite(array).all() and (array > 0).all()):
        bad = array[~(np.isfinite(array) & (array > 0))].ravel()[:1].tolist() or list(array.shape)
        raise RequestError(f"{name} {bad} can't be fitted: expected a list of finite numbers above 0; correct them")
    return np.log(array)
