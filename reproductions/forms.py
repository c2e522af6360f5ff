"""Gradient features under several optimizer maps from one forward and backward.

A user needs one form of LESS; comparing four through the library costs four passes that differ only in what is done
with each row's gradient at the end. Here the dummy input is as wide as all forms together and every map writes its own
columns. What is stored equals the library's own, byte for byte (`tests/reproductions`), so `dw.score` finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dataworth.artefacts import MODEL_SHARD, model_settings
from dataworth.config import ScoreRequest, build, pairs
from dataworth.engines.runner import one_thread
from dataworth.gating import gate
from dataworth.influence import Checkpoint, gradient_artefact, warm_up
from dataworth.learners.batching import Batch
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.checkpoint import read_moments
from dataworth.options import split
from dataworth.plugins import load
from dataworth.probes.adapters import merge_adapter
from dataworth.probes.gradients import stamped, stored
from dataworth.probes.model_pass import ModelPass
from dataworth.probes.opening import CPU_BATCH_TOKENS, CUDA_BATCH_TOKENS, ShardWork, feature_map
from dataworth.probes.preconditioner import Moments
from dataworth.probes.spec import FeatureSpec
from dataworth.probes.taps import FeatureMap
from dataworth.recipe import Recipe
from dataworth.rendered import encoded_payload, token_table
from dataworth.session import Session, open_session, shard_size


class SideBySide(FeatureMap):
    """Several maps of the same taps; the features of map n are columns [n P, (n + 1) P) of the dummy's gradient."""

    def __init__(self, maps: Sequence[FeatureMap]) -> None:
        first = maps[0]
        self.maps, self.each = maps, first.spec.width
        self.spec = replace(first.spec, width=first.spec.width * len(maps))
        self.device, self.dtype, self.taps = first.device, first.dtype, first.taps

    def write(self, parameter: str, grads_BL: torch.Tensor, out_BP: torch.Tensor) -> None:
        """Every map's fold of one parameter's per-row gradients."""
        for n, one in enumerate(self.maps):
            one.write(parameter, grads_BL, out_BP[:, n * self.each : (n + 1) * self.each])


def fill_forms(options: Sequence[Sequence[str]], method: str = "less", **fields: Any) -> None:
    """Compute the pool's features of every form (a list of `--option` values each) at every checkpoint of its warm-up.

    `fields` are those of `dw.score`; forms of another kind than `lora` are left to it.
    """
    request = build(ScoreRequest, {"method": method, **fields})
    with open_session(request, None) as session:
        gate(session)
        recipe = session.recipe
        forms = [split(pairs(o, "--option"), load("scores", method)).gradient for o in options]
        specs = list(dict.fromkeys(f.with_recipe(recipe).feature for f in forms if f.feature.kind == "lora"))
        token_table(session, session.pool)
        for point in warm_up(session).checkpoints:
            fill(session, point, specs)


def fill(session: Session, point: Checkpoint, specs: Sequence[FeatureSpec]) -> None:
    """The same at one checkpoint; shards are committed to every artefact before the next is computed."""
    pool = session.pool
    artefacts = [gradient_artefact(session, point, spec, pool) for spec in specs]
    size = shard_size(max(len(a.missing(pool.ids)) for a in artefacts), MODEL_SHARD)
    plans = [{s.name: s for s in a.plan(pool.ids, size)} if a.missing(pool.ids) else {} for a in artefacts]
    shards = {name: shard for plan in plans for name, shard in plan.items()}
    if not shards:
        return
    settings = model_settings(session, point.folder)
    device = "cpu" if session.request.device == "auto" else session.request.device
    payload = encoded_payload(session, pool)
    with one_thread(device):
        work = _work(settings, specs, device)
        for name, shard in sorted(shards.items()):
            columns, unscored = work(shard.ids, payload(shard.ids))
            assert isinstance(work.model.features, SideBySide)
            wide = columns.pop("features").reshape(-1, len(specs), specs[0].width)
            for n, one in enumerate(work.model.features.maps):
                if name in plans[n]:
                    assert plans[n][name].ids == shard.ids, "forms were computed one by one before: clear the cache"
                    own = {**columns, "features": np.ascontiguousarray(wide[:, n])}
                    own, reasons = stored(own, dict(unscored), shard.ids, one.spec)
                    artefacts[n].commit(shard, stamped(own, one.projection), reasons)


def _work(settings: Mapping[str, Any], specs: Sequence[FeatureSpec], device: str) -> ShardWork:
    def opener(dtype: str | None) -> ModelPass:
        recipe = Recipe.from_dict(dict(settings["recipe"]) | ({"dtype": dtype} if dtype else {}))
        folder = Path(settings["checkpoint"])
        model, taps = merge_adapter(
            CausalLM.load(settings["model"], recipe=recipe, device=device, adapter=folder, lora=True).model
        )
        state = read_moments(folder)
        moments = Moments.named(state.step, state.exp_avg, state.exp_avg_sq)
        return ModelPass(model, SideBySide([feature_map(model, taps, spec, moments) for spec in specs]))

    def of_batch(model: ModelPass, batch: Batch) -> Mapping[str, NDArray[Any]]:
        features, loss_B = model.gradients(batch)
        return {
            "features": features.cpu().numpy(),
            "loss": (loss_B / batch.count_B).cpu().numpy(),
            "tokens": batch.count_B.cpu().numpy(),
        }

    empty = {
        "features": np.zeros((0, len(specs) * specs[0].width), np.float32),
        "loss": np.zeros(0, np.float32),
        "tokens": np.zeros(0, np.int32),
    }
    return ShardWork(opener, of_batch, empty, CPU_BATCH_TOKENS if device == "cpu" else CUDA_BATCH_TOKENS)
