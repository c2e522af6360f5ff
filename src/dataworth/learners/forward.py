"""From a batch to the loss of every supervised token, on the fastest path that gives the model's own numbers.

The fast path takes the decoder's last hidden states, keeps the supervised positions and hands them to the fused
cross-entropy, so the vocabulary head never sees a prompt token. Models that do something else between the last hidden
state and the loss (soft caps, scaled logits) take the plain path; which one is decided by a comparison at the start.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dataworth.learners.batching import Batch
from dataworth.learners.crossentropy import token_losses

EAGER_LENGTH = 512
"""Up to this length attention by plain matrix products beats the flash kernel on CPUs."""


class Forward:
    """Token losses of a causal LM, with or without a PEFT adapter.

    Args:
        model: The bare model or its PEFT wrapper.
    """

    def __init__(self, model: Any) -> None:
        self.base = model.get_base_model() if hasattr(model, "peft_config") else model
        self.decoder = self.base.get_decoder()
        head = self.base.get_output_embeddings()
        self.head, self.bias = head.weight.detach(), getattr(head, "bias", None)
        self.fused = self._agrees()

    def losses(self, batch: Batch) -> Tensor:
        """Cross-entropy in nats of every supervised token, fp32 `[n]`, differentiable in the adapter."""
        self._choose_attention(batch.ids_BT.shape[1])
        if self.fused:
            return self.losses_from(self.hidden(batch.ids_BT), batch)
        logits = self.base(input_ids=batch.ids_BT, use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1)[batch.source_n].float(), batch.target_n, reduction="none")

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """Last hidden states after the final norm, `[B, T, D]`."""
        return self.decoder(input_ids=ids_BT, use_cache=False).last_hidden_state

    def losses_from(self, hidden_BTD: Tensor, batch: Batch) -> Tensor:
        """Token losses from the last hidden states."""
        return token_losses(hidden_BTD.flatten(0, 1)[batch.source_n], self.head, batch.target_n, self.bias)

    def _choose_attention(self, length: int) -> None:
        wanted = "eager" if self.head.device.type == "cpu" and length <= EAGER_LENGTH else "sdpa"
        if self.base.config._attn_implementation != wanted:
            self.base.set_attn_implementation(wanted)

    @torch.no_grad()
    def _agrees(self) -> bool:
        """Whether hidden states times the head give the model's own logits, on a few tokens."""
        ids = torch.linspace(0, len(self.head) - 1, 8, device=self.head.device).long()[None]
        own = self.base(input_ids=ids, use_cache=False).logits.float()
        hidden = self.hidden(ids)
        if hidden.shape[-1] != self.head.shape[1]:
            return False
        ours = functional.linear(hidden, self.head, self.bias).float()
        tolerance = 1e-5 if self.head.dtype == torch.float32 else 1e-2
        return bool((own - ours).abs().max() <= tolerance * own.abs().max().clamp_min(1e-6))
