"""Learning-rate schedules, and the weights LESS gives to checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError


def learning_rates(
    steps: int, warmup_steps: int, peak: float, schedule: Literal["linear", "cosine"] = "linear"
) -> NDArray[np.float64]:
    """Learning rate of every optimizer step, as transformers' linear and cosine schedules with warm-up give it."""
    step = np.arange(steps, dtype=np.float64)
    up = step / max(1, warmup_steps)
    done = np.clip((step - warmup_steps) / max(1, steps - warmup_steps), 0.0, 1.0)
    down = 1.0 - done if schedule == "linear" else 0.5 * (1.0 + np.cos(np.pi * done))
    return peak * np.where(step < warmup_steps, up, down)


def lr_weights(lr_S: Sequence[float] | NDArray[np.float64], checkpoint_steps: Sequence[int]) -> NDArray[np.float64]:
    """Weight of each checkpoint: the mean learning rate since the one before it, divided by the sum of those means.

    Args:
        lr_S: Learning rate of every optimizer step.
        checkpoint_steps: Steps done at each checkpoint, rising; the last may be at most `len(lr_S)`.

    Returns:
        `weight_C`, sums to 1 (Xia et al. 2024, arXiv 2402.04333, Eq. 1, and the weights of its repository).

    Raises:
        RequestError: Steps that don't rise, or learning rates that are all zero.
    """
    lr = np.asarray(lr_S, dtype=np.float64)
    edges = [0, *checkpoint_steps]
    if any(b <= a for a, b in pairwise(edges)) or edges[-1] > len(lr):
        raise RequestError(
            f"checkpoint steps {list(checkpoint_steps)}: expected rising steps up to {len(lr)}; retrain the warm-up"
        )
    means = np.array([lr[a:b].mean() for a, b in pairwise(edges)])
    if not means.sum() > 0:
        raise RequestError(
            f"learning rates of the checkpoints are {means.tolist()}: expected a positive sum; check the schedule"
        )
    return means / means.sum()
