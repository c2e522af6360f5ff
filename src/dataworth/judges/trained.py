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

from dataworth.errors import NonsenseRefused
from dataworth.recipe import Recipe

if TYPE_CHECKING:
    from dataworth.learners.causal_lm import LearnerCard
    from dataworth.learners.render import Encoded, Renderer

NO_LIMIT = 2**31 - 1
Nats = dict[str, tuple[float, int]]
"""Row id -> (negative log-probability of its supervised tokens in nats, how many they are)."""


class Trained:
    """A model, untouched or as a training left it. Weights are loaded when first asked for.

    Args:
        model: As for `--model`.
        recipe: Its mask, maximum length and dtype are those the learner was trained under.
        left: The folder a training left, with an adapter or a whole model (see `weights_in`); None for the untouched
            model. A whole model is read with the tokenizer of `model`, so that every trial is asked the same.
        device: auto, cpu, cuda or cuda:N.
        scratch: Where `folder` is made; the system's temporary folder by default.
        states: Where hidden states of `model` below `recipe.lora_layers` are kept from one trial to the next.
    """

    def __init__(
        self,
        model: str,
        recipe: Recipe,
        left: Path | None = None,
        *,
        device: str = "cpu",
        scratch: Path | None = None,
        states: Path | None = None,
    ) -> None:
        self.model, self.recipe, self.left, self.device, self.scratch = model, recipe, left, device, scratch
        self.states = states
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

        weights = weights_in(self.left) if self.left else None
        adapter = weights if weights and _is_adapter(weights) else None
        model = self.folder if weights and not adapter else self.card.source.folder
        config = {
            "model": str(model),
            "recipe": self.recipe.to_dict(),
            "checkpoint": str(adapter) if adapter else None,
            # A whole model that a training left may have changed below the cut.
            "states": None if weights and not adapter else self.states,
        }
        return open_losses(config, str(resolve_device(self.device)))

    @cached_property
    def folder(self) -> Path:
        """A folder that transformers loads as a whole model; a trained one's is made once and deleted by `close`."""
        if self.left is None:
            return self.card.source.folder
        weights = weights_in(self.left)
        self._made = TemporaryDirectory(prefix="dataworth-trained-", dir=self.scratch)
        if _is_adapter(weights):
            self._merge(weights, self._made.name)
        else:
            configs = (weights / "config.json", weights / "generation_config.json")
            for file in (*filter(Path.is_file, configs), *weights.glob("*.safetensors*")):
                (Path(self._made.name) / file.name).symlink_to(file.resolve())
        self._tokenizer.save_pretrained(self._made.name)
        return Path(self._made.name)

    def _merge(self, adapter: Path, out: str) -> None:
        from dataworth.learners.causal_lm import CausalLM
        from dataworth.probes.adapters import merge_adapter

        learner = CausalLM.load(self.model, recipe=self.recipe, device=self.device, adapter=adapter)
        merged, _ = merge_adapter(learner.model)
        merged.config.use_cache = True  # off for training; generating without it takes quadratic time
        merged.save_pretrained(out)

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


def weights_in(folder: Path) -> Path:
    """Where in the folder a training left an adapter or a whole model: at its top, else in its only checkpoint.

    Raises:
        NonsenseRefused: Nothing is there, or more than one thing.
    """
    if _holds(folder) > 1:
        raise NonsenseRefused(f"the training left an adapter and a whole model in {folder}: expected one of them")
    found = [folder] if _holds(folder) else sorted(p for p in folder.iterdir() if p.is_dir() and _holds(p))
    if not found:
        raise NonsenseRefused(
            f"the training left no model in {folder}: expected a PEFT adapter, or config.json and safetensors"
        )
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise NonsenseRefused(f"the training left {names} in {folder}: expected the model itself; save it there")
    return found[0]


def _holds(folder: Path) -> int:
    """How many things that could be judged lie at the top of a folder."""
    whole = any(p.name != "adapter_model.safetensors" for p in folder.glob("*.safetensors"))
    return _is_adapter(folder) + ((folder / "config.json").is_file() and whole)


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()
