"""The uppermost layers alone, over hidden states of the frozen ones below them (`recipe.lora_layers`).

The lower layers carry no adapter, so what they make of a row never changes: it is computed once and kept in a file from
which every epoch starts, and every other training and judging of the same rows that knows the folder. What is left of
the lower layers' work is one forward.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dataworth.errors import FormatError, RequestError
from dataworth.learners.batching import Batch
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.decoder import Decoder, FastDecoder
from dataworth.learners.forward import Forward, choose_attention, some_ids
from dataworth.learners.packing import Packing
from dataworth.recipe import Recipe
from dataworth.store.atomic import make_folder, write_atomic

_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}
"""Largest difference of last hidden states accepted from cutting the model in two, relative to their largest."""


def adapted_below(base: Any, count: int) -> bool:
    """Whether a model carries an adapter below its `count` uppermost layers, which no cached states would know of."""
    layers = getattr(base.get_decoder(), "layers", ())
    below = (base.get_input_embeddings(), *layers[: max(0, len(layers) - count)])
    return any(hasattr(m, "lora_A") or hasattr(m, "lora_embedding_A") for part in below for m in part.modules())


class Split:
    """A decoder cut below its `count` uppermost layers, and what the part below makes of rows.

    A row's states `[T, D]` depend on its tokens alone, so they are keyed by them; each row is computed by itself, so
    that the bits don't depend on its neighbours, and kept in a file of its own, so that processes may share the folder.

    Args:
        base: A bare transformers causal LM; the layers below the cut are as they were loaded.
        count: Layers above the cut.
        folder: Where the files are; other models' must not be there.

    Raises:
        RequestError: The model has no list of layers that can be split, or splitting it changes its numbers.
        FormatError: A file is damaged.
    """

    def __init__(self, base: Any, count: int, folder: Path) -> None:
        self.base, self.body = base, base.get_decoder()
        layers, norm = getattr(self.body, "layers", None), getattr(self.body, "norm", None)
        if not isinstance(layers, nn.ModuleList) or not isinstance(norm, nn.Module):
            raise RequestError(
                f"recipe lora_layers={count}: {type(self.body).__name__} can't be split; use lora_layers=0"
            )
        if len(set(getattr(base.config, "layer_types", None) or ())) > 1:
            raise RequestError(  # transformers chooses a layer's mask by its place, which cutting changes
                f"recipe lora_layers={count}: layers of {type(self.body).__name__} attend in several ways; "
                "use lora_layers=0"
            )
        self._layers, self._norm, self.cut = layers, norm, len(layers) - count
        self.weight = base.get_input_embeddings().weight
        self.folder = folder / f"{str(self.weight.dtype).removeprefix('torch.')}-{self.cut}"
        self._check()

    def states(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Hidden states at the cut, `[B, T, D]` in the model's dtype, zero beyond a row's end."""
        width = self.weight.shape[1]
        found = torch.zeros((*ids_BT.shape, width), dtype=self.weight.dtype)
        for b, (ids, length) in enumerate(zip(ids_BT.cpu().numpy(), lengths_B.tolist(), strict=True)):
            raw = self._row(ids[:length].astype(np.int32), length * width * self.weight.element_size())
            found[b, :length] = torch.frombuffer(raw, dtype=self.weight.dtype).view(length, width)
        return found.to(self.weight.device)

    def _row(self, ids_T: np.ndarray, size: int) -> bytearray:
        path = self.folder / hashlib.blake2b(ids_T.tobytes(), digest_size=16).hexdigest()
        with suppress(FileNotFoundError):
            raw = bytearray(path.read_bytes())
            if len(raw) != size:
                raise FormatError(f"{path} has {len(raw)} bytes: expected {size}; delete it")
            return raw
        states = self.lower(torch.from_numpy(ids_T.astype(np.int64))[None].to(self.weight.device))[0]
        made = states.cpu().contiguous().view(torch.uint8).numpy().tobytes()
        try:
            make_folder(self.folder)  # whoever shares it may have removed it, also in this moment
            write_atomic(path, made, sync_folder=False)
        except RequestError:
            if self.folder.exists():
                raise
        return bytearray(made)

    @torch.no_grad()
    def lower(self, ids_BT: Tensor) -> Tensor:
        """Rows of one length up to the cut, by transformers' own layers, without dropout also while training."""
        choose_attention(self.base, ids_BT.shape[1])
        training = self.body.training
        with self._only(self._layers[: self.cut], nn.Identity()):
            self.body.eval()
            found = self.body(input_ids=ids_BT, use_cache=False).last_hidden_state
            self.body.train(training)
        return found

    def upper(self, states_BTD: Tensor) -> Tensor:
        """From the cut to the last hidden states, by transformers' own layers."""
        choose_attention(self.base, states_BTD.shape[1])
        with self._only(self._layers[self.cut :], self._norm):
            return self.body(inputs_embeds=states_BTD, use_cache=False).last_hidden_state

    @contextmanager
    def _only(self, layers: nn.ModuleList, norm: nn.Module) -> Iterator[None]:
        self.body.layers, self.body.norm = layers, norm
        try:
            yield
        finally:
            self.body.layers, self.body.norm = self._layers, self._norm

    @torch.no_grad()
    def _check(self) -> None:
        ids = some_ids(self.weight)[:1]
        choose_attention(self.base, ids.shape[1])
        whole = self.body(input_ids=ids, use_cache=False).last_hidden_state.float()
        split = self.upper(self.lower(ids)).float()
        if float((whole - split).abs().max()) > _TOLERANCE[self.weight.dtype] * float(whole.abs().max()):
            raise RequestError(
                f"recipe lora_layers: splitting {type(self.base).__name__} changes its numbers; use lora_layers=0"
            )


class UpperForward(Forward):
    """`Forward` from the cut on.

    Args:
        model: The PEFT model, its adapter above the cut only.
        count: Layers above the cut.
        folder: As for `Split`.
        keep: Leave the files of states there at the end.

    Raises:
        RequestError: As `Split`, or the adapter reaches below the cut.
    """

    def __init__(self, model: Any, count: int, folder: Path, *, keep: bool = False) -> None:
        super().__init__(model)
        if adapted_below(self.base, count):
            raise RequestError(
                f"recipe lora_layers={count}: the adapter reaches below the {count} uppermost layers; use lora_layers=0"
            )
        if self.path == "plain":
            raise RequestError(
                f"recipe lora_layers: {type(self.base).__name__} does more after its layers than a norm and a head; "
                "use lora_layers=0"
            )
        self._folder, self._keep = folder, keep
        self.split = Split(self.base, count, folder)

    def losses(self, batch: Batch) -> Tensor:
        """As `Forward.losses`, from the cached states."""
        states = self.split.states(batch.ids_BT, batch.lengths_B)
        if self.decoder is None:
            return self._losses(self.split.upper(states).flatten(0, 1)[batch.source_n], batch)
        packing = Packing.of(batch.ids_BT, batch.lengths_B)
        hidden = self.decoder.run(packing.pack(states), packing, self.split.cut)
        return self._losses(hidden[packing.index_BT.flatten()[batch.source_n]], batch)

    def close(self) -> None:
        """Remove the states, unless somebody else needs them."""
        if not self._keep:
            rmtree(self._folder, ignore_errors=True)


class UpperDecoder:
    """A decoder of the probes from the cut on; it only goes forward.

    Args:
        whole: The decoder that runs all layers; a fast one gives up those below the cut.
        split: Where its model is cut.
    """

    def __init__(self, whole: Decoder, split: Split) -> None:
        self.whole, self.split = whole, split
        self.head_VD, self.head_bias = whole.head_VD, whole.head_bias
        if isinstance(whole, FastDecoder):
            whole.layers = whole.layers[split.cut :]
            whole.lowest_watched = len(whole.layers)

    def hidden(
        self,
        ids_BT: Tensor,
        lengths_B: Tensor | None = None,
        at_n: Tensor | None = None,
        z_BP: Tensor | None = None,
        embeds_BTD: Tensor | None = None,
    ) -> Tensor:
        """As `Decoder.hidden`, without gradients.

        Raises:
            ValueError: Gradients are wanted.
        """
        if z_BP is not None or embeds_BTD is not None:
            raise ValueError("cached states lead to no gradients")
        if lengths_B is None:
            lengths_B = torch.full_like(ids_BT[:, 0], ids_BT.shape[1])
        states = self.split.states(ids_BT, lengths_B)
        if isinstance(self.whole, FastDecoder):
            return self.whole.hidden(ids_BT, lengths_B, at_n, embeds_BTD=states)
        hidden = self.split.upper(states)
        return hidden if at_n is None else hidden.flatten(0, 1).index_select(0, at_n)


def open_forward(learner: CausalLM, recipe: Recipe, out: Path, states: Path | None = None) -> Forward:
    """The forward pass a recipe asks for; hidden states are kept in `states`, or in `out` while it is open."""
    if recipe.lora_layers:
        folder = states or out / "states"
        return UpperForward(learner.model, recipe.lora_layers, folder, keep=states is not None)
    return Forward(learner.model)
