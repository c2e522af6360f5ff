"""Per-row losses of a learner: sums over supervised tokens, in one forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.learners.batching import Batch
from dataworth.probes.model_pass import ModelPass
from dataworth.probes.opening import Columns, ShardWork, shard_work


def open_losses(config: dict[str, Any], device: str) -> ShardWork:
    """Engine runner: encoded rows in; `loss_sum`, `entropy_sum` (nats, float32) and `targets` (int32) out.

    Args:
        config: As for `opening.open_pass`.
        device: Where the model runs.
    """
    empty: Columns = {
        "loss_sum": np.zeros(0, np.float32),
        "entropy_sum": np.zeros(0, np.float32),
        "targets": np.zeros(0, np.int32),
    }
    return shard_work(config, device, _of_batch, empty)


def _of_batch(model: ModelPass, batch: Batch) -> Mapping[str, NDArray[Any]]:
    sums = model.losses(batch)
    return {
        "loss_sum": sums.loss_B.cpu().numpy(),
        "entropy_sum": sums.entropy_B.cpu().numpy(),
        "targets": batch.count_B.cpu().numpy(),
    }
