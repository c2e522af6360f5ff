"""What repeating the same data is worth: effective data (Muennighoff et al. 2023, arXiv 2305.16264).

    D' = U + U R* (1 - exp(-R / R*)),   R = epochs - 1

U is unique data, R* the number of repeats after which more of them add little. Up to about 4 epochs a repeated example
is nearly worth a new one, by the paper's constants for web text; `fit_repetition` fits R* for anything else.
Axes: `R` runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataworth.errors import RequestError
from dataworth.laws.joint import JointLaw
from dataworth.laws.objective import Floats, LogLaw, columns, fit_log_law, logs_of, natural
from dataworth.laws.power import PowerLaw, fit_power

# R_D* of language-model pretraining on C4.
C4_R_STAR = 15.387756
_R_STARTS = (1.0, 5.0, 25.0)


def effective_multiple(epochs: Any, r_star: float = C4_R_STAR) -> Any:
    """Effective data over unique data after `epochs` (at least 1; a float or an array): 1 + R*(1 - exp(-R/R*)).

    Raises:
        RequestError: Epochs below 1 or `r_star` not positive.
    """
    repeats = np.asarray(epochs, dtype=np.float64) - 1.0
    if not (repeats >= 0).all() or not r_star > 0:
        raise RequestError(f"epochs {epochs} with R* {r_star}: expected at least 1 epoch and R* above 0; correct them")
    multiple = 1.0 - r_star * np.expm1(-repeats / r_star)
    return multiple if np.ndim(multiple) else float(multiple)


def effective_data(unique: float, epochs: float, r_star: float = C4_R_STAR) -> float:
    """New examples that `epochs` passes over `unique` examples are worth.

    Raises:
        RequestError: `unique` not positive, epochs below 1 or `r_star` not positive.
    """
    if not unique > 0:
        raise RequestError(f"unique data of {unique}: expected a positive number of examples; correct it")
    return unique * float(effective_multiple(epochs, r_star))


@dataclass(frozen=True)
class RepeatedLaw:
    """The joint law over effective parameters and effective data; `joint` holds its constants."""

    joint: JointLaw
    r_star_data: float
    r_star_parameters: float

    def at(self, N: float, D: float, unique: float) -> float:
        """Loss of `N` parameters trained on `D` tokens, `unique` of them different (all D if that is fewer).

        Parameters beyond the compute-optimal number for the unique data count less, by the same formula as repeats.
        """
        unique = min(unique, D)
        law, G = self.joint, self.joint.balance
        enough = min(N, (unique * G) ** (law.beta / law.alpha) * G)
        return float(
            law.at(
                effective_data(enough, N / enough, self.r_star_parameters),
                effective_data(unique, D / unique, self.r_star_data),
            )
        )


C4_LAW = RepeatedLaw(
    JointLaw(E=math.exp(0.6254804), A=math.exp(6.255414), alpha=0.3526596, B=math.exp(7.3049974), beta=0.3526596),
    r_star_data=C4_R_STAR,
    r_star_parameters=5.309743,
)


@dataclass(frozen=True)
class RepetitionFit:
    """R* and the data law over effective data that fit a set of runs; `objective` as in `PowerLaw`."""

    r_star: float
    law: PowerLaw
    objective: float

    def at(self, unique: float, epochs: float) -> float:
        """Loss after `epochs` passes over `unique` examples."""
        return self.law.at(effective_data(unique, epochs, self.r_star))


def fit_repetition(
    epochs_R: Sequence[float] | Floats, unique_R: Sequence[float] | Floats, loss_R: Sequence[float] | Floats
) -> RepetitionFit:
    """Fit R* together with L = E + B D'^-beta to runs of different epochs and unique sizes.

    Runs of one epoch tell the law, runs of more tell R*: both must be there, at 3 or more sizes. R* is kept
    within 1e-3 and 1e6, where repeats are worthless and as good as new.

    Raises:
        RequestError: Unequal lengths, epochs below 1, fewer than 3 sizes, no run of one epoch, or none of more.
    """
    epochs, u_R, y_R = np.asarray(epochs_R, dtype=np.float64), logs_of("sizes", unique_R), logs_of("losses", loss_R)
    once = epochs <= 1.0
    if not (epochs.shape == u_R.shape == y_R.shape) or not (epochs >= 1.0).all() or once.all() or not once.any():
        raise RequestError(
            f"{epochs.size} epoch counts from {epochs.min(initial=np.inf):g} to {epochs.max(initial=-np.inf):g} for "
            f"{len(y_R)} losses: expected one each, at least 1, some equal to 1 and some above; run the missing ones"
        )
    order = np.lexsort((y_R, epochs, u_R))
    epochs, u_R, y_R = epochs[order], u_R[order], y_R[order]
    first = fit_power(np.exp(u_R) * epochs, np.exp(y_R))
    x0 = (u_R[0] + u_R[-1]) / 2
    b, e = math.log(first.B) - first.beta * x0, math.log(first.E)
    starts = np.array([[b, e, math.log(first.beta), math.log(r)] for r in _R_STARTS])
    fitted = fit_log_law(_log_law(u_R - x0, epochs - 1.0), y_R, starts)
    b, e, beta = float(fitted.p[0]), float(fitted.p[1]), natural(float(fitted.p[2]))
    law = PowerLaw(natural(e), natural(b + beta * x0), beta, fitted.objective, runs=len(y_R))
    return RepetitionFit(math.exp(np.clip(fitted.p[3], *_LOG_R)), law, fitted.objective)


_LOG_R = (math.log(1e-3), math.log(1e6))


def _log_law(u_R: Floats, repeats_R: Floats) -> LogLaw:
    def law(p: Floats) -> tuple[Floats, Floats]:
        r_star = math.exp(float(np.clip(p[3], *_LOG_R)))
        ratio_R = repeats_R / r_star
        multiple_R = 1.0 - r_star * np.expm1(-ratio_R)
        slope_R = r_star * (-np.expm1(-ratio_R) - ratio_R * np.exp(-ratio_R)) / multiple_R
        x_R = u_R + np.log(multiple_R)
        beta = np.exp(p[2])
        fall_R = p[0] - beta * x_R
        log_R = np.logaddexp(fall_R, p[1])
        share_R = np.exp(fall_R - log_R)
        return log_R, columns(share_R, np.exp(p[1] - log_R), -beta * x_R * share_R, -beta * slope_R * share_R)

    return law
