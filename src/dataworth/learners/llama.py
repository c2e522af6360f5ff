"""The arithmetic of Llama-family layers, forward and backward, for the decoders written on top of it.

Attention is plain batched products for short rows on the CPU (faster there than flash) and
`scaled_dot_product_attention` elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

FAST_FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
_EAGER_ATTENTION_TOKENS = 1024
"""On the CPU, up to this length the T x T scores are formed in memory."""


def unknown_part(model: Any, fits: Callable[[nn.Module], bool], complaint: str) -> str | None:
    """None if hand-written layers can stand for the model's own, else the reason in plain words.

    Args:
        model: A transformers causal LM.
        fits: Whether a projection module is of the kind the caller has written out.
        complaint: What to say after the name of one that isn't.
    """
    family, config = type(model).__name__, model.config
    if family not in FAST_FAMILIES:
        return f"{family} is not among {', '.join(FAST_FAMILIES)}"
    if config.hidden_act not in ("silu", "swish"):
        return f"activation {config.hidden_act!r} is not silu"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return f"sliding window {config.sliding_window}"
    odd = [n for n, m in model.model.layers.named_modules() if n.endswith("_proj") and not fits(m)]
    return f"{odd[0]} {complaint}" if odd else None


@dataclass(frozen=True)
class LayerShape:
    """Sizes and constants that all layers of a model share."""

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    eps: float

    @classmethod
    def of(cls, model: Any) -> LayerShape:
        """Those of a model without `unknown_part`."""
        config, attention = model.config, model.model.layers[0].self_attn
        return cls(
            config.num_attention_heads,
            config.num_key_value_heads,
            attention.head_dim,
            attention.scaling,
            config.rms_norm_eps,
        )


def rms_norm(h: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm as transformers computes it: normalised in fp32, rounded, then scaled."""
    wide = h.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(h.dtype) * weight


def final_norm(h: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`rms_norm` by a frozen weight, differentiable in the hidden states."""
    return _RMSNorm.apply(h, weight, eps)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(h, weight)
        ctx.eps = eps
        return rms_norm(h, weight, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        h, weight = ctx.saved_tensors
        return rms_norm_backward(h, weight, ctx.eps, grads[0]), None, None


def rms_norm_backward(h: Tensor, weight: Tensor, eps: float, g: Tensor) -> Tensor:
    """D input of `rms_norm`."""
    wide = h.float()
    r = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    scaled = g.float() * weight
    return ((scaled - wide * ((scaled * wide).mean(-1, keepdim=True) * r * r)) * r).to(h.dtype)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of the fused product."""
    gate, up = gate_up.chunk(2, -1)
    return nn.functional.silu(gate) * up


def swiglu_backward(
    gate_up: Tensor, g: Tensor, want_act: bool, out: Tensor | None = None
) -> tuple[Tensor | None, Tensor]:
    """The activation again, if wanted, and d gate_up (in `out`, if given); several gradients may share a gate_up."""
    gate, up = gate_up.chunk(2, -1)
    silu = nn.functional.silu(gate)
    out = torch.empty_like(gate_up) if out is None else out
    g_gate, g_up = out.chunk(2, -1)
    torch.mul(g, silu, out=g_up)
    torch.ops.aten.silu_backward.grad_input(g * up, gate, grad_input=g_gate)
    return silu.mul_(up) if want_act else None, out


def split_heads(qkv: Tensor, cos: Tensor, sin: Tensor, shape: LayerShape) -> tuple[Tensor, Tensor, Tensor]:
    """Q [B, H, T, d] and k [B, KV, T, d] rotated, v [B, KV, T, d], from the fused product."""
    rows, tokens, _ = qkv.shape
    heads = qkv.view(rows, tokens, -1, shape.head_dim).transpose(1, 2)
    turned = shape.heads + shape.kv_heads
    qk = heads[:, :turned]
    half = shape.head_dim // 2
    turn = torch.cat([-qk[..., half:], qk[..., :half]], -1)
    qk = qk * cos + turn * sin
    return (
        qk[:, : shape.heads].contiguous(),
        qk[:, shape.heads :].contiguous(),
        heads[:, turned:].contiguous(),
    )


def join_heads(grads: tuple[Tensor, Tensor, Tensor], cos: Tensor, sin: Tensor) -> Tensor:
    """D qkv [B, T, ...] from d q, d k (turned back) and d v."""
    qk = torch.cat(grads[:2], 1)
    side = qk * sin
    half = side.shape[-1] // 2
    qk = qk * cos + torch.cat([side[..., half:], -side[..., :half]], -1)
    joined = torch.cat([qk, grads[2]], 1).transpose(1, 2)
    return joined.reshape(joined.shape[0], joined.shape[1], -1)


def attend(q: Tensor, k: Tensor, v: Tensor, shape: LayerShape, keep: bool) -> tuple[Tensor, tuple[Any, ...]]:
    """Causal attention [B, T, H d], and what its backward needs."""
    rows, _, tokens, width = q.shape
    if q.device.type == "cpu" and tokens <= _EAGER_ATTENTION_TOKENS:
        groups = (rows * shape.kv_heads, -1, width)
        q3, k3, v3 = q.view(groups), k.view(groups), v.view(groups)
        ahead = (
            torch.full((tokens, tokens), float("-inf"), dtype=q.dtype).triu_(1).repeat(shape.heads // shape.kv_heads, 1)
        )
        weights = torch.baddbmm(ahead, q3, k3.transpose(1, 2), alpha=shape.scale).softmax(-1)
        mixed = torch.bmm(weights, v3).view(q.shape)
        kept: tuple[Any, ...] = (q3, k3, v3, weights)
    else:
        with torch.set_grad_enabled(keep):
            q, k, v = (t.detach().requires_grad_(keep) for t in (q, k, v))
            gqa = shape.heads != shape.kv_heads
            mixed = nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=shape.scale, enable_gqa=gqa
            )
        kept = ((q, k, v), mixed)
        mixed = mixed.detach()
    return mixed.transpose(1, 2).reshape(rows, tokens, -1), kept


def attend_backward(kept: tuple[Any, ...], g: Tensor, shape: LayerShape) -> tuple[Tensor, Tensor, Tensor]:
    """D q, d k, d v (shaped like q, k, v) from d attention [B, T, H d]."""
    rows, tokens, _ = g.shape
    g = g.view(rows, tokens, shape.heads, shape.head_dim).transpose(1, 2)
    if len(kept) == 2:
        inputs, mixed = kept
        return torch.autograd.grad(mixed, inputs, g)
    q3, k3, v3, weights = kept
    g3 = g.reshape(q3.shape)
    g_v = torch.bmm(weights.transpose(1, 2), g3)
    g_scores = torch._softmax_backward_data(torch.bmm(g3, v3.transpose(1, 2)), weights, -1, weights.dtype)
    g_q = torch.bmm(g_scores, k3).mul_(shape.scale)
    g_k = torch.bmm(g_scores.transpose(1, 2), q3).mul_(shape.scale)
    by_head = (rows, -1, tokens, shape.head_dim)
    return g_q.view(by_head), g_k.view(by_head), g_v.view(by_head)
