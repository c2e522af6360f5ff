"""Embeddings of rows from the learner itself: position-weighted means of its last hidden states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.learners.batching import Batch
from dataworth.probes.model_pass import ModelPass
from dataworth.probes.opening import ShardWork, shard_work


def open_embeddings(config: dict[str, Any], device: str) -> ShardWork:
    """Engine runner: encoded rows in; `vector` float32 `[n, D]` (not normalised) out.

    Args:
        config: As for `opening.open_pass`.
        device: Where the model runs.
    """
    work = shard_work(config, device, _of_batch, {})
    work.empty = {"vector": np.zeros((0, work.model.decoder.head_VD.shape[1]), np.float32)}
    return work


def _of_batch(model: ModelPass, batch: Batch) -> Mapping[str, NDArray[Any]]:
    return {"vector": model.embeddings(batch).cpu().numpy()}
