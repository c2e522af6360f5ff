"""Abundance: whether hard or easy examples are worth keeping, in the one case where it is known exactly.

A perceptron learns a random teacher's labels of `alpha * N` Gaussian inputs in N dimensions, of which a share is kept
by their distance to the teacher's boundary, and is the one of largest margin. For N to infinity its test error follows
from two equations (Sorscher et al. 2022, arXiv 2206.14486, replica theory for a perfect probe). With R the overlap with
the teacher, kappa the margin, s^2 = 1 - R^2, Dt the standard normal measure and H(x) = P[normal > x]:

    R       = 2 alpha / (sqrt(2 pi) s) * Int_{-inf}^{kappa} Dt (kappa - t) [E(a, t) - E(b, t)]
    1 - R^2 = 2 alpha * Int_{-inf}^{kappa} Dt (kappa - t)^2 [H((a - R t) / s) - H((b - R t) / s)]
    E(x, t) = exp(-(x - R t)^2 / (2 s^2))

where inputs with a < |teacher| < b are kept: hard keeps (0, gamma), easy (gamma, inf), random all, of alpha times the
share. Few examples: keep the easy ones, many: the hard ones. What it says of other learners is the direction, not the
place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from dataworth.errors import RequestError

Keep = Literal["hard", "easy", "random"]

_FAR = 10.0
_PANELS, _ORDER = 32, 16
_SMALLEST, _LARGEST = 1e-3, np.pi / 2 - 1e-3
"""Angles to the teacher between which the solution is looked for."""


@dataclass(frozen=True)
class Prediction:
    """Test error arccos(R) / pi, overlap with the teacher and margin of the perceptron of largest margin."""

    error: float
    overlap: float
    margin: float


@cache
def predict(alpha: float, keep: Keep, share: float) -> Prediction:
    """What training on the kept share of `alpha` examples per dimension leads to.

    Args:
        alpha: Examples per dimension before anything is dropped.
        keep: Which end of the distance to the teacher's boundary is kept, or a random part.
        share: How much is kept, above 0 to 1.

    Raises:
        RequestError: An alpha that isn't positive, a share outside that range, another word for `keep`, or numbers
            so extreme that no solution is found.
    """
    if keep not in get_args(Keep):
        raise RequestError(f"keep={keep!r}: expected {', '.join(get_args(Keep))}; correct it")
    if not (0 < share <= 1 and 0 < alpha < np.inf):
        raise RequestError(
            f"alpha={alpha}, share={share}: expected alpha above 0 and a share above 0 to 1; correct them"
        )
    window, alpha = _window(keep, share), alpha * (share if keep == "random" else 1.0)

    def off(angle: float) -> float:
        return np.cos(angle) - _overlap(angle, _margin(angle, alpha, window), alpha, window)

    angles = np.linspace(_LARGEST, _SMALLEST, 16)
    found = [off(angle) for angle in angles]
    for n in range(len(angles) - 1):
        if found[n] < 0 <= found[n + 1]:
            angle = float(optimize.brentq(off, angles[n + 1], angles[n], xtol=1e-9))
            return Prediction(angle / np.pi, float(np.cos(angle)), _margin(angle, alpha, window))
    raise RequestError(
        f"alpha={alpha:g}, share={share:g}, keep={keep}: no solution found; expected 0.1 to 100 examples"
    )


def crossover(share: float, low: float = 0.5, high: float = 64.0) -> float:
    """Examples per dimension from which on keeping hard is better than keeping easy.

    Raises:
        RequestError: The two don't cross between `low` and `high`.
    """

    def gap(log_alpha: float) -> float:
        alpha = float(np.exp(log_alpha))
        return predict(alpha, "hard", share).error - predict(alpha, "easy", share).error

    ends = (float(np.log(low)), float(np.log(high)))
    if not gap(ends[0]) > 0 > gap(ends[1]):
        raise RequestError(f"share={share}: hard and easy don't cross from {low:g} to {high:g}; widen the range")
    return float(np.exp(optimize.brentq(gap, *ends, xtol=1e-4)))


def _window(keep: str, share: float) -> tuple[float, float]:
    """The distances to the teacher's boundary that are kept."""
    if keep == "hard":
        return 0.0, float(-special.ndtri((1 - share) / 2))
    return (0.0, np.inf) if keep == "random" else (float(-special.ndtri(share / 2)), np.inf)


@cache
def _nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Composite Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(_ORDER)
    starts = np.arange(_PANELS)[:, None]
    return ((starts + (x + 1) / 2) / _PANELS).ravel(), np.tile(w / (2 * _PANELS), _PANELS)


def _measure(kappa: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points t up to kappa, and weights that integrate with the standard normal measure."""
    x, w = _nodes()
    span = min(kappa, _FAR) + _FAR
    t = x * span - _FAR
    return t, w * span * np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)


def _margin(angle: float, alpha: float, window: tuple[float, float]) -> float:
    """The kappa that solves the second equation at an overlap of cos(angle)."""
    overlap, s = float(np.cos(angle)), float(np.sin(angle))

    def off(kappa: float) -> float:
        t, measure = _measure(kappa)
        low, high = (special.ndtr(-(edge - overlap * t) / s) for edge in window)
        return 2 * alpha * float((measure * (kappa - t) ** 2 * (low - high)).sum()) - s**2

    return float(optimize.brentq(off, -_FAR + 1e-9, 1e3, xtol=1e-11))


def _overlap(angle: float, kappa: float, alpha: float, window: tuple[float, float]) -> float:
    """The right side of the first equation."""
    overlap, s = float(np.cos(angle)), float(np.sin(angle))
    t, measure = _measure(kappa)
    low, high = (np.exp(-((edge - overlap * t) ** 2) / (2 * s**2)) for edge in window)
    return 2 * alpha / (np.sqrt(2 * np.pi) * s) * float((measure * (kappa - t) * (low - high)).sum())
