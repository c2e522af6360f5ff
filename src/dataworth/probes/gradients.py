"""Gradient features of rows at one checkpoint: the probe behind `less`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.learners.batching import Batch
from dataworth.learners.render import Encoded
from dataworth.numerics.projection import Projection
from dataworth.numerics.quantize import quantize, refusals
from dataworth.probes.model_pass import ModelPass
from dataworth.probes.opening import Columns, Work, shard_work
from dataworth.probes.spec import FeatureSpec


def open_gradients(config: dict[str, Any], device: str) -> Work:
    """Engine runner: encoded rows in; quantised features out.

    Columns: `rows` (codes, see `numerics.quantize`), `scale`, `norm`, `loss` (float32; `loss` is the mean or the
    sum over supervised tokens, as in the spec), `tokens` (int32, supervised ones) and `projection` (uint64: the
    first bytes of its fingerprint).

    Args:
        config: As for `opening.open_pass`, with `feature`.
        device: Where the model runs.
    """
    spec = FeatureSpec.from_dict(config["feature"])
    empty: Columns = {
        "features": np.zeros((0, spec.width), np.float32),
        "loss": np.zeros(0, np.float32),
        "tokens": np.zeros(0, np.int32),
    }
    inner = shard_work(config, device, _of_batch, empty)

    def work(ids: Sequence[str], payload: Sequence[Encoded]) -> tuple[Columns, dict[str, str]]:
        columns, unscored = stored(*inner(ids, payload), ids, spec)
        assert inner.model.features is not None
        return stamped(columns, inner.model.features.projection), unscored

    return work


def stamped(columns: Columns, projection: Projection) -> Columns:
    """The columns with eight bytes a row that let every comparison check that one projection made both tables."""
    stamp = np.frombuffer(bytes.fromhex(projection.fingerprint)[:8], np.uint64)
    return columns | {"projection": np.repeat(stamp, len(columns["scale"]))}


def stored(
    columns: Columns, unscored: dict[str, str], ids: Sequence[str], spec: FeatureSpec
) -> tuple[Columns, dict[str, str]]:
    """Float features as the columns that go to the store; rows that carry no direction become unscored."""
    columns = dict(columns)
    features_nP = columns.pop("features")
    have = [i for i in ids if i not in unscored]
    refused = refusals(features_nP) if have else {}
    keep = [n for n in range(len(have)) if n not in refused]
    codes = quantize(features_nP[keep], spec.format)
    out = {name: values[keep] for name, values in columns.items()}
    out |= {"rows": codes.codes_NP, "scale": codes.scale_N, "norm": codes.norm_N}
    return out, unscored | {have[n]: reason for n, reason in refused.items()}


def _of_batch(model: ModelPass, batch: Batch) -> Mapping[str, NDArray[Any]]:
    features_BP, loss_B = model.gradients(batch)
    count_B = batch.count_B
    assert model.features is not None
    loss = loss_B / count_B if model.features.spec.loss == "mean" else loss_B
    return {
        "features": features_BP.cpu().numpy(),
        "loss": loss.cpu().numpy(),
        "tokens": count_B.cpu().numpy(),
    }
