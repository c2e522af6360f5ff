"""From a batch to the loss of every supervised token, on the fastest path that gives the model's own numbers.

    fast   hand-written layers with adapters (`lora_decoder`), the head at supervised positions only, fused
    fused  transformers' own layers, then the same
    plain  the model's own logits: for models that do something else between the last hidden state and the loss

Which one is decided at the start, by comparison with the model itself.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dataworth.learners.adapter import trainable
from dataworth.learners.batching import Batch, collate
from dataworth.learners.crossentropy import token_losses
from dataworth.learners.lora_decoder import LoraDecoder, unsupported
from dataworth.learners.packing import Packing
from dataworth.learners.render import Encoded

EAGER_LENGTH = 512
"""Up to this length attention by plain matrix products beats the flash kernel on CPUs."""
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}
"""Largest relative difference of losses and adapter gradients accepted from the fast path, by dtype."""
_LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def choose_attention(base: Any, length: int) -> None:
    """Let transformers' layers use what is fastest for rows of this length on the model's device."""
    wanted = "eager" if base.device.type == "cpu" and length <= EAGER_LENGTH else "sdpa"
    if base.config._attn_implementation != wanted:
        base.set_attn_implementation(wanted)


def some_ids(embedding_VD: Tensor) -> Tensor:
    """Two rows of tokens spread over the vocabulary that begin alike, `[2, 16]`."""
    row = torch.linspace(0, len(embedding_VD) - 1, 16, device=embedding_VD.device).long()
    return torch.stack([row, torch.cat([row[:5], row[5:].flip(0)])])


class Forward:
    """Token losses of a causal LM inside its PEFT wrapper.

    Args:
        model: The PEFT model; where it takes the fast path, its weights become views of joined ones.
        fast: False leaves the fast path out.
    """

    def __init__(self, model: Any, fast: bool = True) -> None:
        self.model = model
        self.base = model.get_base_model()
        self.body = self.base.get_decoder()
        head = self.base.get_output_embeddings()
        self.head, self.bias = head.weight.detach(), getattr(head, "bias", None)
        self.path: Literal["fast", "fused", "plain"] = "fused" if self._head_agrees() else "plain"
        self.decoder: LoraDecoder | None = None
        if fast and self.path == "fused" and unsupported(self.base) is None:
            self._try_fast()

    def losses(self, batch: Batch) -> Tensor:
        """Cross-entropy in nats of every supervised token, fp32 `[n]`, differentiable in the adapter."""
        if self.path == "plain":
            choose_attention(self.base, batch.ids_BT.shape[1])
            logits = self.base(input_ids=batch.ids_BT, use_cache=False).logits
            picked = logits.flatten(0, 1)[batch.source_n].float()
            return functional.cross_entropy(picked, batch.target_n, reduction="none")
        if self.decoder is not None:
            packing = Packing.of(batch.ids_BT, batch.lengths_B)
            hidden = self.decoder.run(self.decoder.embed(batch.ids_BT, packing), packing)
            return self._losses(hidden[packing.index_BT.flatten()[batch.source_n]], batch)
        choose_attention(self.base, batch.ids_BT.shape[1])
        hidden = self.body(input_ids=batch.ids_BT, use_cache=False).last_hidden_state
        return self._losses(hidden.flatten(0, 1)[batch.source_n], batch)

    def _losses(self, hidden_nD: Tensor, batch: Batch) -> Tensor:
        """Token losses from the last hidden states that predict them."""
        return token_losses(hidden_nD, self.head, batch.target_n, self.bias)

    def close(self) -> None:
        """Let go of what was opened: nothing here."""

    @torch.no_grad()
    def _head_agrees(self) -> bool:
        """Whether hidden states times the head give the model's own logits (in bf16 a soft cap could hide in noise)."""
        if any(getattr(self.base.config, name, None) not in (None, 1, 1.0) for name in _LOGIT_CHANGES):
            return False
        ids = some_ids(self.head)
        own = self.base(input_ids=ids, use_cache=False).logits.float()
        hidden = self.body(input_ids=ids, use_cache=False).last_hidden_state
        if hidden.shape[-1] != self.head.shape[1]:
            return False
        ours = functional.linear(hidden, self.head, self.bias).float()
        tolerance = 1e-5 if self.head.dtype == torch.float32 else 1e-2
        return bool((own - ours).abs().max() <= tolerance * own.abs().max().clamp_min(1e-6))

    def _try_fast(self) -> None:
        """Take the fast path if its losses and adapter gradients are those of transformers and PEFT."""
        theirs = self._probe()
        self.decoder = LoraDecoder(self.base)
        limit = _TOLERANCE[self.head.dtype]
        if all(float((a - b).norm()) <= limit * float(b.norm()) for a, b in zip(self._probe(), theirs, strict=True)):
            self.path = "fast"
        else:
            self.decoder = None

    def _probe(self) -> tuple[Tensor, Tensor]:
        """Losses and adapter gradients of a few tokens on the present path, flat, fp32."""
        ids = some_ids(self.head).cpu().numpy().astype(np.int32)
        rows = [Encoded(str(k), row[: 16 - 3 * k], np.arange(16 - 3 * k) > 0) for k, row in enumerate(ids)]
        with torch.enable_grad():
            losses = Forward.losses(self, collate(rows, (0, 1), self.head.device))
            grads = torch.autograd.grad(losses.sum(), list(trainable(self.model).values()), materialize_grads=True)
        return losses.detach(), torch.cat([g.flatten().float() for g in grads])
