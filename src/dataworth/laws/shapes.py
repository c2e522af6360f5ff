"""Two learning-curve shapes with one more number than the power law, to cross-check it (Mohr et al., LCDB).

    pow4: L(D) = E + B (D + D0)^-beta            mmf4: L(D) = E + B / (D0^beta + D^beta)

Both are the power law where D0 = 0 and flatten below D0. In LCDB's letters for a score: pow4 = c - (d n + b)^-a and
mmf4 = (a b + c n^d) / (b + n^d). Axes: `R` runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np

from dataworth.errors import RequestError
from dataworth.laws.objective import Floats, LogLaw, columns, fit_log_law, logs_of, natural
from dataworth.laws.power import PowerLaw

Name = Literal["pow4", "mmf4"]
# Starts: D0 in natural logs from the smallest measured size, floors as shares of the lowest loss, exponents.
_BENDS = (-1.0, 1.0, 2.5)
_FLOORS = (0.3, 0.8)
_EXPONENTS = (0.4, 1.2)


@dataclass(frozen=True)
class Shape:
    """A fitted pow4 or mmf4; `objective` as in `PowerLaw`."""

    name: Name
    E: float
    B: float
    beta: float
    D0: float
    objective: float

    def at(self, D: Any) -> Any:
        """Loss after training on `D` examples: a float, or an array of D's shape."""
        x = np.log(np.asarray(D, dtype=np.float64))
        x0 = math.log(self.D0) if self.D0 > 0 else -math.inf
        log_scale = (
            self.beta * np.logaddexp(x, x0) if self.name == "pow4" else np.logaddexp(self.beta * x, self.beta * x0)
        )
        with np.errstate(over="ignore", under="ignore"):
            loss = self.E + np.exp(math.log(self.B) - log_scale)
        return loss if np.ndim(loss) else float(loss)


def fit_shape(name: Name, D_R: Sequence[float] | Floats, loss_R: Sequence[float] | Floats, near: PowerLaw) -> Shape:
    """Fit one of the two shapes, from starts around `near`, the power law fitted to the same runs.

    Raises:
        RequestError: An unknown name, unequal lengths, or a number that is not finite and positive.
    """
    x_R, y_R = logs_of("sizes", D_R), logs_of("losses", loss_R)
    if name not in ("pow4", "mmf4") or x_R.shape != y_R.shape:
        raise RequestError(
            f"shape {name!r} for {len(x_R)} sizes and {len(y_R)} losses: expected pow4 or mmf4, one each"
        )
    order = np.lexsort((y_R, x_R))
    x_R, y_R = x_R[order], y_R[order]
    x0, y0 = (x_R[0] + x_R[-1]) / 2, (y_R[0] + y_R[-1]) / 2
    law = _log_pow4(x_R - x0) if name == "pow4" else _log_mmf4(x_R - x0)
    fitted = fit_log_law(law, y_R - y0, _starts(x_R - x0, y_R - y0, near, x0, y0))
    b, e, log_beta, bend = (float(v) for v in fitted.p)
    beta = natural(log_beta)
    return Shape(
        name=name,
        E=natural(e + y0),
        B=natural(b + y0 + beta * x0),
        beta=beta,
        D0=natural(bend + x0),
        objective=fitted.objective,
    )


def _starts(x_R: Floats, y_R: Floats, near: PowerLaw, x0: float, y0: float) -> Floats:
    low, high, x_low = math.exp(y_R.min()), math.exp(y_R.max()), float(x_R[0])
    itself = [math.log(near.B) - y0 - near.beta * x0, math.log(near.E) - y0, math.log(near.beta), x_low - 5.0]
    bent = [
        [
            math.log(high - floor * low) + beta * float(np.logaddexp(x_low, x_low + bend)),
            math.log(floor * low),
            math.log(beta),
            x_low + bend,
        ]
        for bend, floor, beta in product(_BENDS, _FLOORS, _EXPONENTS)
    ]
    return np.array([itself, *bent])


def _log_pow4(x_R: Floats) -> LogLaw:
    def law(p: Floats) -> tuple[Floats, Floats]:
        shifted_R = np.logaddexp(x_R, p[3])
        beta = np.exp(p[2])
        fall_R = p[0] - beta * shifted_R
        log_R = np.logaddexp(fall_R, p[1])
        share_R = np.exp(fall_R - log_R)
        bend_R = np.exp(p[3] - shifted_R)
        return log_R, columns(share_R, np.exp(p[1] - log_R), -beta * shifted_R * share_R, -beta * bend_R * share_R)

    return law


def _log_mmf4(x_R: Floats) -> LogLaw:
    def law(p: Floats) -> tuple[Floats, Floats]:
        beta = np.exp(p[2])
        sum_R = np.logaddexp(beta * x_R, beta * p[3])
        fall_R = p[0] - sum_R
        log_R = np.logaddexp(fall_R, p[1])
        share_R = np.exp(fall_R - log_R)
        bend_R = np.exp(beta * p[3] - sum_R)
        mean_R = bend_R * p[3] + (1.0 - bend_R) * x_R
        return log_R, columns(share_R, np.exp(p[1] - log_R), -beta * mean_R * share_R, -beta * bend_R * share_R)

    return law
