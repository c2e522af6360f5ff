"""One trial: the learner trained on one subset with one seed, and judged by the response loss of other rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.recipe import Recipe
from dataworth.records import Example


@dataclass(frozen=True)
class ResponseLoss:
    """Response loss per judged row, axis `Q`: sums in nats and counts of supervised tokens."""

    sum_Q: NDArray[np.float64]
    targets_Q: NDArray[np.int64]

    @property
    def per_token(self) -> float:
        """Nats per token over all rows together."""
        return float(self.sum_Q.sum() / self.targets_Q.sum())


def train_on(
    model: str,
    recipe: Recipe,
    examples: Sequence[Example],
    out: Path,
    *,
    device: str = "cpu",
    weights: Sequence[float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Train a fresh adapter on examples; an interrupted call goes on where it stopped.

    Returns:
        The folder of the last checkpoint.

    Raises:
        RequestError: A row carries no loss (with its reason), or there are no rows.
    """
    from dataworth.learners.causal_lm import CausalLM
    from dataworth.learners.trainer import train

    learner = CausalLM.load(model, recipe=recipe, device=device)
    rows = [learner.renderer.encode(e) for e in examples]
    for row in rows:
        if row.reason:
            raise RequestError(f"row {row.id} can't be trained on: {row.reason}; leave it out")
    return train(learner, rows, out=out, weights=weights, checkpoints=1, progress=progress).folders[-1]


def response_loss(
    model: str, recipe: Recipe, adapter: Path | None, examples: Sequence[Example], *, device: str = "cpu"
) -> ResponseLoss:
    """Loss of each example's response under the model, with a trained adapter or untouched.

    Raises:
        RequestError: A row has no response to judge.
    """
    from dataworth.learners.causal_lm import describe_learner
    from dataworth.probes.losses import open_losses

    card = describe_learner(model, recipe, device=device)
    rows = [card.renderer.encode(e) for e in examples]
    settings = {
        "model": str(card.source.folder),
        "recipe": recipe.to_dict(),
        "checkpoint": str(adapter) if adapter else None,
    }
    columns, unscored = open_losses(settings, device)([r.id for r in rows], rows)
    for row_id, reason in unscored.items():
        raise RequestError(f"row {row_id} can't be judged: {reason}; leave it out")
    return ResponseLoss(columns["loss_sum"].astype(np.float64), columns["targets"].astype(np.int64))
