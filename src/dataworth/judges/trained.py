"""A learner as a trial left it, opened at most once for all its judges."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from dataworth.recipe import Recipe

if TYPE_CHECKING:
    from dataworth.learners.causal_lm import LearnerCard
    from dataworth.learners.render import Encoded, Renderer

NO_LIMIT = 2**31 - 1
Nats = dict[str, tuple[float, int]]
"""Row id -> (negative log-probability of its supervised tokens in nats, how many they are)."""


class Trained:
    """A model, untouched or with one trained adapter merged. Weights are loaded when first asked for.

    Args:
        model: As for `--model`.
        recipe: Its mask, maximum length and dtype are those the learner was trained under.
        adapter: The folder a training left, or None for the untouched model.
        device: auto, cpu, cuda or cuda:N.
        scratch: Where `folder` is made; the system's temporary folder by default.
    """

    def __init__(
        self,
        model: str,
        recipe: Recipe,
        adapter: Path | None = None,
        *,
        device: str = "cpu",
        scratch: Path | None = None,
    ) -> None:
        self.model, self.recipe, self.adapter, self.device, self.scratch = model, recipe, adapter, device, scratch
        self._made: TemporaryDirectory[str] | None = None

    @cached_property
    def card(self) -> LearnerCard:
        """Where the model is and how its rows are rendered."""
        from dataworth.learners.causal_lm import describe_learner

        return describe_learner(self.model, self.recipe, device=self.device)

    @cached_property
    def context(self) -> int:
        """Tokens the model was made for, by its config; without a limit where the config states none."""
        config = json.loads((self.card.source.folder / "config.json").read_text())
        stated = [config.get(key) for key in ("max_position_embeddings", "n_positions")]
        return next((n for n in stated if isinstance(n, int) and n > 0), NO_LIMIT)

    @cached_property
    def plain(self) -> Renderer:
        """The learner's own template with the mask on the answer, whatever the recipe's, and nothing cut off."""
        from dataworth.learners.render import Renderer

        return Renderer(self._tokenizer, "assistant", NO_LIMIT)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The tokenizer's special tokens: ends of turns and texts."""
        return frozenset(self._tokenizer.all_special_ids)

    @cached_property
    def _tokenizer(self) -> Any:
        from dataworth.learners.load import load_tokenizer

        return load_tokenizer(self.card.source.folder)

    def without_end(self, row: Encoded) -> Encoded:
        """The row with its closing special tokens no longer targets: what is judged is its own text."""
        kept = row.supervised.copy()
        targets = np.flatnonzero(kept)
        while len(targets) and int(row.input_ids[targets[-1]]) in self.special_ids:
            kept[targets[-1]] = False
            targets = targets[:-1]
        return dataclasses.replace(row, supervised=kept)

    def nats(self, rows: Sequence[Encoded]) -> tuple[Nats, dict[str, str]]:
        """Forward passes over rows with distinct ids; those without a finite number get a reason instead."""
        if len({row.id for row in rows}) < len(rows):
            raise ValueError("two rows have one id")
        columns, unjudged = self._losses([row.id for row in rows], rows)
        ids = [row.id for row in rows if row.id not in unjudged]
        sums, counts = columns["loss_sum"].astype(np.float64).tolist(), columns["targets"].tolist()
        return dict(zip(ids, zip(sums, counts, strict=True), strict=True)), unjudged

    @cached_property
    def _losses(self) -> Any:
        from dataworth.learners.causal_lm import resolve_device
        from dataworth.probes.losses import open_losses

        checkpoint = str(self.adapter) if self.adapter else None
        config = {"model": str(self.card.source.folder), "recipe": self.recipe.to_dict(), "checkpoint": checkpoint}
        return open_losses(config, str(resolve_device(self.device)))

    @cached_property
    def folder(self) -> Path:
        """A folder that transformers loads as a whole model; a merged adapter's is made once and deleted by `close`."""
        if self.adapter is None:
            return self.card.source.folder
        from dataworth.learners.causal_lm import CausalLM
        from dataworth.probes.adapters import merge_adapter

        learner = CausalLM.load(self.model, recipe=self.recipe, device=self.device, adapter=self.adapter)
        merged, _ = merge_adapter(learner.model)
        merged.config.use_cache = True  # off for training; generating without it takes quadratic time
        self._made = TemporaryDirectory(prefix="dataworth-trained-", dir=self.scratch)
        merged.save_pretrained(self._made.name)
        self._tokenizer.save_pretrained(self._made.name)
        return Path(self._made.name)

    def close(self) -> None:
        """Let go of the weights and delete what `folder` made."""
        for opened in ("_losses", "folder"):
            self.__dict__.pop(opened, None)
        gc.collect()  # a model holds itself by reference cycles
        if self._made is not None:
            self._made.cleanup()
            self._made = None

    def __enter__(self) -> Trained:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
