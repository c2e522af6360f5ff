"""The joint law L(N, D) = E + A/N^alpha + B/D^beta (Hoffmann et al. 2022, arXiv 2203.15556, approach 3).

N counts parameters, D training examples or tokens, and compute is C = 6 N D. Axes: `R` runs, `S` starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataworth.errors import RequestError
from dataworth.laws.objective import Floats, LogLaw, columns, fit_log_law, logs_of, natural

# Chinchilla's grid of starts, in (log A, log B, log E, alpha, beta).
_LOG_AMPLITUDES = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
_LOG_FLOORS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_EXPONENTS = (0.0, 0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class JointLaw:
    """L(N, D) = E + A/N^alpha + B/D^beta; `objective` is the sum of Huber losses of log residuals over `runs`."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float
    objective: float = math.nan
    runs: int = 0

    def at(self, N: Any, D: Any) -> Any:
        """Loss of `N` parameters trained on `D` examples or tokens: a float, or an array of the broadcast shape."""
        N, D = np.asarray(N, dtype=np.float64), np.asarray(D, dtype=np.float64)
        loss = self.E + self.A * N**-self.alpha + self.B * D**-self.beta
        return loss if np.ndim(loss) else float(loss)

    @property
    def balance(self) -> float:
        """G = (alpha A / (beta B))^(1 / (alpha + beta)), which splits compute between parameters and data."""
        return float((self.alpha * self.A / (self.beta * self.B)) ** (1.0 / (self.alpha + self.beta)))

    def compute_optimal(self, flops: float) -> tuple[float, float]:
        """The (N, D) of lowest loss with 6 N D = `flops`.

        Raises:
            RequestError: `flops` is not positive.
        """
        if not flops > 0:
            raise RequestError(f"compute of {flops} FLOP can't be split: expected a positive number; give the budget")
        both = self.alpha + self.beta
        return (
            float(self.balance * (flops / 6) ** (self.beta / both)),
            float((flops / 6) ** (self.alpha / both) / self.balance),
        )


def chinchilla_starts(share: float = 1.0, seed: int = 0) -> Floats:
    """Chinchilla's 4,500 starts as rows (log A, log B, log E, alpha, beta), or a random `share` of them.

    A random 5 % finds the same optimum on Chinchilla's own runs.

    Raises:
        RequestError: `share` is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise RequestError(f"share {share} of the starts: expected more than 0 and at most 1; say 0.05")
    axes = (_LOG_AMPLITUDES, _LOG_AMPLITUDES, _LOG_FLOORS, _EXPONENTS, _EXPONENTS)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 5)
    if share == 1:
        return grid
    picked = np.random.default_rng(seed).choice(len(grid), max(1, round(share * len(grid))), replace=False)
    return grid[np.sort(picked)]


def fit_joint(
    N_R: Sequence[float] | Floats,
    D_R: Sequence[float] | Floats,
    loss_R: Sequence[float] | Floats,
    *,
    starts_S5: Floats | None = None,
) -> JointLaw:
    """Fit L(N, D) to runs, from `starts_S5` (default: a seeded 5 % of Chinchilla's grid).

    Raises:
        RequestError: Fewer than 3 different N or D, unequal lengths, or a number that is not finite and positive.
    """
    n_R, d_R, y_R = logs_of("model sizes", N_R), logs_of("sizes", D_R), logs_of("losses", loss_R)
    kinds = len(np.unique(n_R)), len(np.unique(d_R))
    if not len(n_R) == len(d_R) == len(y_R) or min(kinds) < 3:
        raise RequestError(
            f"{len(n_R)} model sizes ({kinds[0]} different), {len(d_R)} sizes ({kinds[1]} different), {len(y_R)} "
            "losses: expected equal lengths and at least 3 different of each; run more"
        )
    order = np.lexsort((y_R, d_R, n_R))
    n_R, d_R, y_R = n_R[order], d_R[order], y_R[order]
    starts = chinchilla_starts(0.05) if starts_S5 is None else np.asarray(starts_S5, dtype=np.float64)
    n0, d0 = (n_R[0] + n_R[-1]) / 2, (d_R.min() + d_R.max()) / 2
    centre = np.array([[1, 0, 0, -n0, 0], [0, 1, 0, 0, -d0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]])
    fitted = fit_log_law(_log_law(n_R - n0, d_R - d0), y_R, starts @ centre.T)
    a, b, e, alpha, beta = (float(v) for v in fitted.p)
    return JointLaw(
        E=natural(e),
        A=natural(a + alpha * n0),
        alpha=alpha,
        B=natural(b + beta * d0),
        beta=beta,
        objective=fitted.objective,
        runs=len(y_R),
    )


def _log_law(n_R: Floats, d_R: Floats) -> LogLaw:
    def law(p: Floats) -> tuple[Floats, Floats]:
        terms_3R = np.stack([p[0] - p[3] * n_R, p[1] - p[4] * d_R, np.full_like(n_R, p[2])])
        top_R = terms_3R.max(axis=0)
        log_R = top_R + np.log(np.exp(terms_3R - top_R).sum(axis=0))
        share_3R = np.exp(terms_3R - log_R)
        return log_R, columns(*share_3R, -n_R * share_3R[0], -d_R * share_3R[1])

    return law
