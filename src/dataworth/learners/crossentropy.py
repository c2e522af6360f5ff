"""Fused linear cross-entropy: per-token losses of a frozen head without keeping the logits.

The head and the softmax over the vocabulary cost as much as the layers of a small model, so they are evaluated at
supervised positions only, a few rows at a time. The gradient with respect to the hidden states is formed while the
chunk's logits are still warm (as in Liger kernel, Hsu et al. 2024, arXiv 2410.10989) and the head gets none,
because it's frozen. Products run in the hidden states' dtype, the softmax and the losses in fp32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CPU_CHUNK_BYTES = 2**25
"""fp32 logits of one chunk on the CPU: they should stay in the outer cache."""
_CUDA_CHUNK_BYTES = 2**29


def token_losses(hidden_nD: Tensor, head_VD: Tensor, target_n: Tensor, bias_V: Tensor | None = None) -> Tensor:
    """Cross-entropy in nats of every position, differentiable in the hidden states.

    Args:
        hidden_nD: Hidden states after the final norm, at the positions that predict a supervised token.
        head_VD: The frozen output embedding, in the dtype of the hidden states.
        target_n: The token each position has to predict, int64.
        bias_V: The head's bias, if it has one.

    Returns:
        fp32 `[n]`. Its backward gives d hidden; the head and the bias get no gradient.
    """
    return _TokenLosses.apply(hidden_nD, head_VD, target_n, bias_V)


def losses_and_entropies(
    hidden_nD: Tensor, head_VD: Tensor, target_n: Tensor, bias_V: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and entropy of the prediction, in nats, of every position; fp32 `[n]` each, no gradient."""
    losses, entropies = (torch.empty(len(target_n), device=hidden_nD.device) for _ in range(2))
    with torch.no_grad():
        for rows, logits in _chunks(hidden_nD, head_VD, bias_V):
            top = logits.amax(-1, keepdim=True)
            losses[rows] = -logits.gather(1, target_n[rows, None])[:, 0]
            weights = logits.sub(top).exp_()
            mass = weights.sum(-1)
            log_mass = top[:, 0] + mass.log()
            losses[rows] += log_mass
            entropies[rows] = log_mass - weights.mul_(logits).sum(-1) / mass
    return losses, entropies


class _TokenLosses(torch.autograd.Function):
    """Losses and, in the same sweep, their gradient in the hidden states; backward only scales it."""

    @staticmethod
    def forward(ctx: Any, hidden_nD: Tensor, head_VD: Tensor, target_n: Tensor, bias_V: Tensor | None) -> Tensor:
        losses = torch.empty(len(target_n), device=hidden_nD.device)
        wanted = ctx.needs_input_grad[0]
        grad = torch.empty_like(hidden_nD) if wanted else hidden_nD.new_empty(0)
        for rows, logits in _chunks(hidden_nD, head_VD, bias_V):
            target = target_n[rows, None]
            top = logits.amax(-1, keepdim=True)
            picked = logits.gather(1, target)
            weights = logits.sub_(top).exp_()
            mass = weights.sum(-1, keepdim=True)
            losses[rows] = (mass.log() + top - picked)[:, 0]
            if wanted:
                error = weights.div_(mass).scatter_add_(1, target, -torch.ones_like(mass))
                torch.mm(error.to(head_VD.dtype), head_VD, out=grad[rows])
        ctx.save_for_backward(grad)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = ctx.saved_tensors
        return (grad.float() * grads[0][:, None]).to(grad.dtype), None, None, None


def _chunks(hidden_nD: Tensor, head_VD: Tensor, bias_V: Tensor | None) -> Any:
    """Yield `(slice, fp32 logits)` a chunk at a time; the logits may be overwritten."""
    budget = _CPU_CHUNK_BYTES if hidden_nD.device.type == "cpu" else _CUDA_CHUNK_BYTES
    step = max(16, budget // (4 * len(head_VD)))
    for start in range(0, len(hidden_nD), step):
        rows = slice(start, min(start + step, len(hidden_nD)))
        logits = (hidden_nD[rows] @ head_VD.t()).float()
        yield rows, logits if bias_V is None else logits.add_(bias_V.float())
