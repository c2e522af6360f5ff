"""Training the uppermost layers only, over cached hidden states of the frozen ones below (`recipe.lora_layers`).

The lower layers carry no adapter, so what they make of a row never changes: it is computed once and kept in a file from
which every epoch starts. The gain is the lower layers' forward in all epochs but the first, and their backward in all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dataworth.errors import RequestError
from dataworth.learners.batching import Batch, batches
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.forward import Forward
from dataworth.learners.packing import Packing
from dataworth.learners.render import Encoded
from dataworth.recipe import Recipe

_FILE = "hidden.bin"
_FILL_TOKENS = 4096


class UpperForward(Forward):
    """The upper `count` layers at every step, from hidden states computed once.

    The file holds the rows one after another, `[tokens, D]` in the model's own dtype; it is removed at the end.

    Raises:
        RequestError: The model has no list of layers that can be split, or splitting it changes its numbers.
    """

    def __init__(self, model: Any, rows: Sequence[Encoded], count: int, folder: Path, device: torch.device) -> None:
        super().__init__(model)
        layers, norm = getattr(self.body, "layers", None), getattr(self.body, "norm", None)
        if not isinstance(layers, nn.ModuleList) or not isinstance(norm, nn.Module):
            raise RequestError(
                f"recipe lora_layers={count}: {type(self.body).__name__} can't be split; use lora_layers=0"
            )
        self._layers, self._norm, self._cut = layers, norm, len(layers) - count
        self._check(rows[0], device)
        starts = np.cumsum([0, *(len(r) for r in rows)])
        self._starts = starts
        shape = (int(starts[-1]), self.head.shape[1])
        self._path = folder / _FILE
        _refuse_full_disk(folder, shape[0] * shape[1] * self.head.element_size())
        self._bits: type
        self._bits, as_bits = (np.int16, torch.int16) if self.head.dtype == torch.bfloat16 else (np.int32, torch.int32)
        self._store = np.memmap(self._path, dtype=self._bits, mode="w+", shape=shape)
        for batch in batches(rows, _FILL_TOKENS, device):
            hidden = self._lower(batch.ids_BT, batch.lengths_B)
            for b, i in enumerate(batch.rows):
                row = hidden[b, : len(rows[i])].cpu().contiguous()
                self._store[starts[i] : starts[i + 1]] = row.view(as_bits).numpy()

    def losses(self, batch: Batch) -> Tensor:
        """As `Forward.losses`, from the cached states."""
        cached = torch.zeros((*batch.ids_BT.shape, self.head.shape[1]), dtype=self.head.dtype)
        for b, i in enumerate(batch.rows):
            part = torch.from_numpy(np.array(self._store[self._starts[i] : self._starts[i + 1]]))
            cached[b, : len(part)] = part.view(self.head.dtype)
        hidden = self._upper(cached.to(self.head.device), batch.ids_BT, batch.lengths_B)
        return self._losses(hidden.flatten(0, 1)[batch.source_n], batch)

    def close(self) -> None:
        """Remove the file of hidden states."""
        del self._store
        self._path.unlink()

    @contextmanager
    def _only(self, layers: nn.ModuleList, norm: nn.Module) -> Iterator[None]:
        self.body.layers, self.body.norm = layers, norm
        try:
            yield
        finally:
            self.body.layers, self.body.norm = self._layers, self._norm

    @torch.no_grad()
    def _lower(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        if self.decoder is not None:
            packing = Packing.of(ids_BT, lengths_B)
            return packing.unpack(self.decoder.run(self.decoder.embed(ids_BT, packing), packing, 0, self._cut))
        self._choose_attention(ids_BT.shape[1])
        with self._only(self._layers[: self._cut], nn.Identity()):
            return self.body(input_ids=ids_BT, use_cache=False).last_hidden_state

    def _upper(self, hidden_BTD: Tensor, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        if self.decoder is not None:
            packing = Packing.of(ids_BT, lengths_B)
            hidden = self.decoder.run(packing.pack(hidden_BTD), packing, self._cut)
            return hidden[packing.index_BT]
        self._choose_attention(hidden_BTD.shape[1])
        with self._only(self._layers[self._cut :], self._norm):
            return self.body(inputs_embeds=hidden_BTD, use_cache=False).last_hidden_state

    @torch.no_grad()
    def _check(self, row: Encoded, device: torch.device) -> None:
        ids = torch.from_numpy(row.input_ids.astype(np.int64))[None].to(device)
        length = torch.tensor([len(row)], device=device)
        self._choose_attention(len(row))
        whole = self.body(input_ids=ids, use_cache=False).last_hidden_state.float()
        split = self._upper(self._lower(ids, length), ids, length).float()
        tolerance = 1e-4 if self.head.dtype == torch.float32 else 4e-2
        if self.path == "plain" or float((whole - split).abs().max()) > tolerance * float(whole.abs().max()):
            raise RequestError(
                f"recipe lora_layers: splitting {type(self.base).__name__} changes its numbers; use lora_layers=0"
            )


def _refuse_full_disk(folder: Path, needed: int) -> None:
    """A memory map that outgrows its disk kills the process, so ask first."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            f"recipe lora_layers: cached states need {needed / 2**30:.1f} GiB and {folder} has {free / 2**30:.1f}: "
            "make room, choose another folder or use lora_layers=0"
        )


def open_forward(learner: CausalLM, rows: Sequence[Encoded], recipe: Recipe, out: Path) -> Forward:
    """The forward pass a recipe asks for."""
    if recipe.lora_layers:
        return UpperForward(learner.model, rows, recipe.lora_layers, out, learner.device)
    return Forward(learner.model)
