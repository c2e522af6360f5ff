"""A perceptron of largest margin that learns a teacher's labels from the hard, the easy or random examples."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from dataworth.errors import RequestError

Keep = Literal["hard", "easy", "random"]


def largest_margin(x_PN: NDArray[np.float64], y_P: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit vector w `[N]` that maximises min_i y_i <w, x_i>: a hard-margin machine without bias, exactly.

    w points to the point nearest to the origin in the convex hull of y_i x_i. That point is found by non-negative least
    squares, min_{a >= 0} |sum_i a_i y_i x_i|^2 + (sum_i a_i - 1)^2: for every size of a the direction is the same.

    Raises:
        RequestError: No rows, or rows that no vector separates.
    """
    if not len(x_PN):
        raise RequestError("no rows to separate: expected at least one; keep more")
    signed_PN = y_P[:, None] * x_PN
    scale = float(np.sqrt((signed_PN**2).sum(axis=1).mean())) or 1.0
    stacked = np.vstack([signed_PN.T / scale, np.ones(len(y_P))])
    target = np.zeros(len(stacked))
    target[-1] = 1.0
    a_P, _ = optimize.nnls(stacked, target)
    w_N = a_P @ signed_PN
    margin_P = signed_PN @ w_N
    if not margin_P.min() > 0:
        raise RequestError(f"{len(y_P)} rows: no vector through the origin separates them; expected a teacher's labels")
    return w_N / np.linalg.norm(w_N)


def kept(distance_P: NDArray[np.float64], keep: Keep, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the share with the smallest (hard) or largest (easy) distances, or of a random one.

    Raises:
        RequestError: Another word for `keep`.
    """
    if keep not in get_args(Keep):
        raise RequestError(f"keep={keep!r}: expected {', '.join(get_args(Keep))}; correct it")
    count = max(1, round(share * len(distance_P)))
    if keep == "random":
        return rng.permutation(len(distance_P))[:count]
    order = np.argsort(distance_P, kind="stable")
    return order[:count] if keep == "hard" else order[::-1][:count]


def simulated_error(
    width: int, alpha: float, share: float, keep: Keep, rng: np.random.Generator, degrees: float = 0.0
) -> float:
    """Error on new inputs, arccos(overlap with the teacher) / pi, of one draw of teacher, inputs and probe.

    Args:
        width: N, the inputs' dimensions.
        alpha: Examples per dimension before anything is dropped.
        share: How much is kept.
        keep: Which distances to the probe's boundary are kept.
        rng: Where all draws come from.
        degrees: Angle between the probe, by which distances are measured, and the teacher.
    """
    teacher_N, aside_N = rng.normal(size=(2, width))
    teacher_N /= np.linalg.norm(teacher_N)
    aside_N -= (aside_N @ teacher_N) * teacher_N
    angle = np.deg2rad(degrees)
    probe_N = np.cos(angle) * teacher_N + np.sin(angle) * aside_N / np.linalg.norm(aside_N)
    x_PN = rng.normal(size=(max(1, round(alpha * width)), width))
    rows = kept(np.abs(x_PN @ probe_N), keep, share, rng)
    w_N = largest_margin(x_PN[rows], np.sign(x_PN[rows] @ teacher_N))
    return float(np.arccos(np.clip(w_N @ teacher_N, -1, 1)) / np.pi)
