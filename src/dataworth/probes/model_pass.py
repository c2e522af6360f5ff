"""One forward, or one forward and backward, of a frozen learner over a batch of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dataworth.errors import NonsenseRefused
from dataworth.learners.batching import Batch
from dataworth.learners.crossentropy import losses_and_entropies, token_losses
from dataworth.learners.decoder import Decoder, FastDecoder, PlainDecoder, disagreement, supports
from dataworth.learners.products import widened
from dataworth.learners.upper import Split, UpperDecoder
from dataworth.probes.adapters import install
from dataworth.probes.taps import FeatureMap, Sink

_CHECK_TOKENS = 48
_CHECK_ROWS = 2
_CHECK_SHARED = 8


@dataclass(frozen=True)
class RowLosses:
    """Sums over a row's supervised tokens, fp32 `[B]` in nats: cross-entropy and entropy of the prediction."""

    loss_B: Tensor
    entropy_B: Tensor


class ModelPass:
    """A frozen model ready for forward and feature passes.

    Args:
        model: A bare transformers causal LM (adapters merged), frozen, in eval mode.
        features: Taps to install; None for forward passes only.
        fast: Use the fast path where it knows the model and agrees with it.
        split: Where the model is cut, if forward passes are to start there from cached hidden states.

    `path` is "fast" or "plain"; `reason` says why the fast path isn't used.
    """

    def __init__(
        self, model: Any, features: FeatureMap | None = None, *, fast: bool = True, split: Split | None = None
    ) -> None:
        self.features = features
        self.sink: Sink | None = None
        self.reason = (supports(model) or "") if fast else "switched off"
        self.decoder: Decoder = PlainDecoder(model)
        if not self.reason:
            fast_decoder = FastDecoder(model, features.group if features else (lambda names: None))
            self.reason = disagreement(fast_decoder, model, self._check_ids(model)) or ""
            self.decoder = self.decoder if self.reason else fast_decoder
        self.path = "plain" if self.reason else "fast"
        if self.path == "plain":
            self._require_plain_head(model)
            self.sink = install(model, features) if features else None
        if split is not None:
            self.decoder = UpperDecoder(self.decoder, split)

    def _require_plain_head(self, model: Any) -> None:
        wrong = disagreement(self.decoder, model, self._check_ids(model))
        if wrong:
            raise NonsenseRefused(
                f"{type(model).__name__}: its head is not a plain linear over the last hidden states ({wrong}); "
                "expected one, as per-row losses come from it; use a model without logit scaling or capping"
            )

    def _check_ids(self, model: Any) -> Tensor:
        """Fixed token ids for the start-up check, spread over the vocabulary; the rows begin alike."""
        head = self.decoder.head_VD
        steps = torch.arange(_CHECK_ROWS * _CHECK_TOKENS, device=head.device)
        ids = (steps * 7919 + 13).remainder(min(len(head), model.config.vocab_size)).view(_CHECK_ROWS, _CHECK_TOKENS)
        ids[:, :_CHECK_SHARED] = ids[0, :_CHECK_SHARED]
        return ids

    def losses(self, batch: Batch) -> RowLosses:
        """Loss and entropy sums of every row, in one forward."""
        with torch.no_grad(), widened(self.decoder.head_VD):
            hidden_nD = self.decoder.hidden(batch.ids_BT, batch.lengths_B, batch.source_n)
            per_token = losses_and_entropies(hidden_nD, self.decoder.head_VD, batch.target_n, self.decoder.head_bias)
        rows = len(batch.rows)
        return RowLosses(*(torch.zeros(rows, device=t.device).index_add_(0, batch.row_n, t) for t in per_token))

    def embeddings(self, batch: Batch) -> Tensor:
        """Position-weighted mean of the last hidden states, fp32 `[B, D]`: weight i / (1 + ... + length) for token i.

        RDS+ (Ivison et al. 2025, arXiv 2503.01807), after SGPT (Muennighoff 2022, arXiv 2202.08904).
        """
        with torch.no_grad(), widened(self.decoder.head_VD):
            hidden = self.decoder.hidden(batch.ids_BT, batch.lengths_B).float()
        place_T = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
        weight_BT = torch.where(place_T <= batch.lengths_B[:, None], place_T, 0).float()
        weight_BT /= weight_BT.sum(1, keepdim=True)
        return torch.bmm(weight_BT[:, None], hidden)[:, 0]

    def gradients(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features `[B, P]` and loss sums `[B]` of every row, fp32, from one forward and backward."""
        if self.features is None:
            raise ValueError("this pass was opened without features")
        with torch.enable_grad(), widened(self.decoder.head_VD):
            z_BP = self.features.zeros(len(batch.rows))
            if self.sink is not None:
                self.sink.z_BP, self.sink.tokens = z_BP, batch.ids_BT.shape[1]
            hidden_nD = self.decoder.hidden(batch.ids_BT, batch.lengths_B, batch.source_n, z_BP)
            losses_n = token_losses(hidden_nD, self.decoder.head_VD, batch.target_n, self.decoder.head_bias)
            scale_n = 1.0 / batch.count_B[batch.row_n] if self.features.spec.loss == "mean" else 1.0
            (features_BP,) = torch.autograd.grad((losses_n * scale_n).sum(), z_BP)
        if self.sink is not None:
            self.sink.z_BP = None
        return features_BP, torch.zeros(len(batch.rows), device=z_BP.device).index_add_(
            0, batch.row_n, losses_n.detach()
        )
