"""From an engine's config to a learner ready for passes, and the loop over a shard's batches, in each worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.learners.batching import Batch, batches
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.checkpoint import read_moments
from dataworth.learners.products import widened
from dataworth.learners.render import Encoded
from dataworth.learners.upper import Split, adapted_below
from dataworth.probes.adapters import merge_adapter, onesided_taps
from dataworth.probes.model_pass import ModelPass
from dataworth.probes.preconditioner import Moments
from dataworth.probes.spec import FeatureSpec
from dataworth.probes.taps import FeatureMap
from dataworth.recipe import Recipe

CPU_BATCH_TOKENS = 2048
CUDA_BATCH_TOKENS = 16384
PADDING_NOISE = {torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.05}
"""Largest relative change of a row's numbers accepted from padding: shapes change the order of sums, no more."""
NO_TARGETS = "no token of it carries loss"
NOT_FINITE = "its values are not finite, also in fp32"

Columns = dict[str, NDArray[Any]]
Work = Callable[[Sequence[str], Sequence[Encoded]], tuple[Columns, dict[str, str]]]
OfBatch = Callable[[ModelPass, Batch], Mapping[str, NDArray[Any]]]


def open_pass(config: Mapping[str, Any], device: str, dtype: str | None = None) -> ModelPass:
    """Load the learner that `config` names, merge its adapter and make it ready.

    Args:
        config: `model` (as for --model), `recipe` (`Recipe.to_dict()`); for gradients `feature`
        (`FeatureSpec.to_dict()`) and
            `checkpoint` (folder of adapter and moments, or None); optionally `fast` (default True), and for losses
            `states`: the folder of hidden states from which a recipe with `lora_layers` starts.
        device: `cpu`, `cuda`, `cuda:1`.
        dtype: Overrides the recipe's.
    """
    recipe = Recipe.from_dict(dict(config["recipe"]) | ({"dtype": dtype} if dtype else {}))
    checkpoint = config.get("checkpoint")
    adapter = Path(checkpoint) if checkpoint else None
    learner = CausalLM.load(config["model"], recipe=recipe, device=device, adapter=adapter, lora=adapter is not None)
    base = learner.model.get_base_model() if adapter else learner.model
    cuts = bool(config.get("states") and recipe.lora_layers) and not adapted_below(base, recipe.lora_layers)
    model, taps = merge_adapter(learner.model)
    fast = config.get("fast", True)
    if "feature" not in config:
        with widened(model.get_input_embeddings().weight):
            split = Split(model, recipe.lora_layers, Path(config["states"])) if cuts else None
            return ModelPass(model, fast=fast, split=split)
    spec = FeatureSpec.from_dict(config["feature"])
    moments = None
    if spec.optimizer != "sgd" and adapter:
        stored = read_moments(adapter)
        moments = Moments.named(stored.step, stored.exp_avg, stored.exp_avg_sq)
    with widened(model.get_input_embeddings().weight):
        return ModelPass(model, feature_map(model, taps, spec, moments), fast=fast)


def feature_map(model: Any, taps: Sequence[Any], spec: FeatureSpec, moments: Moments | None) -> FeatureMap:
    """The taps that `spec` asks for on a bare model whose merged adapter left `taps`."""
    weight = model.get_output_embeddings().weight
    chosen = taps if spec.kind == "lora" else onesided_taps(model, spec.k, spec.seed)
    if not chosen:
        raise RequestError(
            "feature kind lora has no adapter to look at: expected a checkpoint with one; or use kind onesided"
        )
    return FeatureMap(spec, chosen, device=weight.device, dtype=weight.dtype, moments=moments)


class ShardWork:
    """What an engine calls per shard: rows in, columns of the rows with finite values and reasons for the others out.

    Args:
        opener: dtype (None for the recipe's, or "fp32") -> a pass. The fp32 twin is opened when a row first needs it.
        of_batch: A batch's columns, first axis its rows, all floating or integer.
        empty: Columns of no rows, for dtypes and widths.
        tokens: Padded tokens a batch may have.
    """

    def __init__(
        self, opener: Callable[[str | None], ModelPass], of_batch: OfBatch, empty: Columns, tokens: int
    ) -> None:
        self.opener, self.of_batch, self.empty, self.tokens = opener, of_batch, empty, tokens
        self.model = opener(None)
        self.twin: ModelPass | None = None
        self._padding_checked = False

    def __call__(self, ids: Sequence[str], payload: Sequence[Encoded]) -> tuple[Columns, dict[str, str]]:
        """Columns of the scored rows in shard order, and `{id: reason}`."""
        rows, unscored = scorable(ids, payload)
        self._refuse_padding_effects(rows)
        found = self._run(self.model, rows)
        bad = [n for n, row in enumerate(rows) if not _finite(found[row.id])]
        if bad:
            self.twin = self.twin or self.opener("fp32")
            found |= self._run(self.twin, [rows[n] for n in bad])
            unscored |= {rows[n].id: NOT_FINITE for n in bad if not _finite(found[rows[n].id])}
        kept = [found[row.id] for row in rows if row.id not in unscored]
        if not kept:
            return dict(self.empty), unscored
        return {
            name: np.stack([row[name] for row in kept]).astype(like.dtype) for name, like in self.empty.items()
        }, unscored

    def _refuse_padding_effects(self, rows: Sequence[Encoded]) -> None:
        """Compare a short row alone with the same row padded beside a long one, once per opened model (law 6).

        The long one is the longest that the batch budget lets stand beside another: longer ones pad nobody.

        Raises:
            NonsenseRefused: Padding changes the row's numbers beyond its dtype's noise.
        """
        ordered = sorted((r for r in rows if 2 * len(r) <= self.tokens), key=lambda r: (len(r), r.id))
        if self._padding_checked or not ordered or len(ordered[0]) == len(ordered[-1]):
            return
        self._padding_checked = True
        short, long = ordered[0], ordered[-1]
        alone = self._run(self.model, [short])[short.id]
        padded = self._run(self.model, [short, long])[short.id]
        allowed = PADDING_NOISE[self.model.decoder.head_VD.dtype]
        for name, values in alone.items():
            if not (np.isfinite(values).all() and np.isfinite(padded[name]).all()):
                continue  # such rows get their fp32 try, and their reason
            gap = float(np.linalg.norm(values - padded[name]) / (np.linalg.norm(values) or 1.0))
            if gap > allowed:
                raise NonsenseRefused(
                    f"{name} of row {short.id} changes by {gap:.1%} when padded to {len(long)} tokens: expected "
                    f"at most {allowed:.1%}; this architecture mixes padding into its rows, use another model"
                )

    def _run(self, model: ModelPass, rows: Sequence[Encoded]) -> dict[str, dict[str, NDArray[Any]]]:
        found = {}
        device = model.decoder.head_VD.device
        for batch in batches(rows, self.tokens, device):
            columns = self.of_batch(model, batch)
            for b, n in enumerate(batch.rows):
                found[rows[n].id] = {name: values[b] for name, values in columns.items()}
        return found


def shard_work(config: Mapping[str, Any], device: str, of_batch: OfBatch, empty: Columns) -> ShardWork:
    """The engine's work function for one kind of probe; `config["batch_tokens"]` overrides the device's default."""
    default = CPU_BATCH_TOKENS if torch.device(device).type == "cpu" else CUDA_BATCH_TOKENS
    return ShardWork(
        lambda dtype: open_pass(config, device, dtype),
        of_batch,
        empty,
        int(config.get("batch_tokens") or default),
    )


def scorable(ids: Sequence[str], rows: Sequence[Encoded]) -> tuple[list[Encoded], dict[str, str]]:
    """Rows that carry loss, and the reason of every other one."""
    unscored = {
        i: r.reason or NO_TARGETS for i, r in zip(ids, rows, strict=True) if r.reason or not r.supervised[1:].any()
    }
    return [r for i, r in zip(ids, rows, strict=True) if i not in unscored], unscored


def _finite(row: Mapping[str, NDArray[Any]]) -> bool:
    return all(bool(np.isfinite(v).all()) for v in row.values())
