"""Frozen decoders: token ids to the last hidden states, with input gradients only.

`FastDecoder` is a hand-written Llama-family layer: q, k, v and gate, up are one product each, attention is plain
batched products for short rows on the CPU (faster there than flash) and `scaled_dot_product_attention` elsewhere,
and the backward is written out, since frozen weights need nothing but d input. Fused weights replace the module's
own storage, so the transformers model stays usable and memory doesn't grow. `PlainDecoder` runs
any transformers decoder as it is. `disagreement` compares either with the model itself; users of this room take the
fast one only after it agreed.

An `Observer` sees the input and the output gradients of a group of linears during the backward and may add to the
gradient of the dummy tensor `z[B, P]`; that is how per-row features leave the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dataworth.learners.crossentropy import token_losses

FAST_FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
_EAGER_ATTENTION_TOKENS = 1024
"""On the CPU, up to this length the T x T scores are formed in memory."""
_TOLERANCE = {torch.float32: (1e-4, 1e-3), torch.bfloat16: (0.02, 0.25), torch.float16: (0.005, 0.06)}
"""Largest relative difference (norms) accepted between the fast path and the model itself, by dtype: losses, and
input gradients, whose rounding errors grow with depth (two bf16 passes of a 30-layer model differ by 0.08)."""


class Observer(Protocol):
    """Sees one group of linears in the backward."""

    def observe(self, x_BTI: Tensor, g_BTO: Tensor, sizes: Sequence[int], out_BP: Tensor) -> None:
        """Add features of inputs and output gradients (the linears' side by side, of `sizes`) to `out_BP`."""
        ...


ObserverOf = Callable[[Sequence[str]], Observer | None]
"""Module names of a fused group -> its observer, or None."""


class Decoder(Protocol):
    """What probes run: hidden states, and the head that turns them into logits."""

    head_VD: Tensor
    head_bias: Tensor | None

    def hidden(self, ids_BT: Tensor, z_BP: Tensor | None = None, embeds_BTD: Tensor | None = None) -> Tensor:
        """Hidden states after the final norm, `[B, T, D]`; given embeddings stand in for those of the ids."""
        ...


class PlainDecoder:
    """Any transformers decoder, run as it is; taps live in its modules, so `z_BP` isn't passed on."""

    def __init__(self, model: Any) -> None:
        self.body = model.base_model
        head = model.get_output_embeddings()
        self.head_VD, self.head_bias = head.weight.detach(), getattr(head, "bias", None)

    def hidden(self, ids_BT: Tensor, z_BP: Tensor | None = None, embeds_BTD: Tensor | None = None) -> Tensor:
        """Hidden states after the final norm, `[B, T, D]`; rows are padded on the right, so no mask is needed."""
        inputs = {"input_ids": ids_BT} if embeds_BTD is None else {"inputs_embeds": embeds_BTD}
        return self.body(**inputs, use_cache=False).last_hidden_state


def supports(model: Any) -> str | None:
    """None if the fast path knows the model, else the reason in plain words."""
    family, config = type(model).__name__, model.config
    if family not in FAST_FAMILIES:
        return f"{family} is not among {', '.join(FAST_FAMILIES)}"
    if config.hidden_act not in ("silu", "swish"):
        return f"activation {config.hidden_act!r} is not silu"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return f"sliding window {config.sliding_window}"
    plain = (nn.Linear,)
    odd = [n for n, m in model.model.layers.named_modules() if n.endswith("_proj") and type(m) not in plain]
    if odd:
        return f"{odd[0]} is a {type(model.model.layers.get_submodule(odd[0])).__name__}, not a plain linear"
    return None


@dataclass(frozen=True)
class _Fused:
    """Linears with one input as one product: weight [sum d_out, d_in], split sizes, and who watches."""

    weight: Tensor
    bias: Tensor | None
    sizes: tuple[int, ...]
    observer: Observer | None

    def __call__(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)

    def observe(self, x: Tensor | None, g: Tensor, out_BP: Tensor | None) -> None:
        if self.observer is not None and out_BP is not None and x is not None:
            self.observer.observe(x, g, self.sizes, out_BP)


def _fuse(parent: Any, prefix: str, leaves: Sequence[str], observer_of: ObserverOf) -> _Fused:
    modules = [parent.get_submodule(leaf) for leaf in leaves]
    sizes = tuple(m.out_features for m in modules)
    weight, bias = _joined(modules, "weight"), _joined(modules, "bias")
    return _Fused(weight, bias, sizes, observer_of([f"{prefix}.{leaf}" for leaf in leaves]))


def _joined(modules: Sequence[Any], what: str) -> Any:
    """The modules' tensors on top of each other; each module keeps a view, so nothing is stored twice."""
    parts = [getattr(m, what) for m in modules]
    if parts[0] is None:
        return None
    if len(parts) == 1:
        return parts[0].detach()
    whole = torch.cat([p.detach() for p in parts])
    for part, view in zip(parts, whole.split([len(p) for p in parts]), strict=True):
        part.data = view
    return whole


@dataclass(frozen=True)
class _Shape:
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    eps: float


@dataclass(frozen=True)
class _Layer:
    """One decoder layer's frozen parts."""

    norm1: Tensor
    norm2: Tensor
    qkv: _Fused
    o: _Fused
    gate_up: _Fused
    down: _Fused
    shape: _Shape


class FastDecoder:
    """A Llama-family decoder with frozen weights and a written-out backward.

    Args:
        model: A bare `*ForCausalLM` that `supports` accepts; its q, k, v and gate, up weights become views of fused
        ones. observer_of: Who watches which group of linears; nobody by default.
    """

    def __init__(self, model: Any, observer_of: ObserverOf = lambda names: None) -> None:
        body, config = model.model, model.config
        self.embed_VD, self.norm_D, self.rotary = (
            body.embed_tokens.weight.detach(),
            body.norm.weight.detach(),
            body.rotary_emb,
        )
        head = model.get_output_embeddings()
        self.head_VD, self.head_bias = head.weight.detach(), getattr(head, "bias", None)
        attention = body.layers[0].self_attn
        shape = _Shape(
            config.num_attention_heads,
            config.num_key_value_heads,
            attention.head_dim,
            attention.scaling,
            config.rms_norm_eps,
        )
        self.eps = config.rms_norm_eps
        self.layers = [_layer(layer, f"model.layers.{i}", shape, observer_of) for i, layer in enumerate(body.layers)]

    def hidden(self, ids_BT: Tensor, z_BP: Tensor | None = None, embeds_BTD: Tensor | None = None) -> Tensor:
        """Hidden states after the final norm, `[B, T, D]`.

        Args:
            ids_BT: Token ids, padded on the right.
            z_BP: Dummy tensor whose gradient will be the observers' features.
            embeds_BTD: Embeddings to start from instead of those of the ids.
        """
        h = nn.functional.embedding(ids_BT, self.embed_VD) if embeds_BTD is None else embeds_BTD
        cos, sin = self.rotary(h, torch.arange(ids_BT.shape[1], device=ids_BT.device)[None])
        for layer in self.layers:
            h = _LayerPass.apply(h, z_BP, layer, cos[0], sin[0])
        return _FinalNorm.apply(h, self.norm_D, self.eps)


def _layer(module: Any, prefix: str, shape: _Shape, observer_of: ObserverOf) -> _Layer:
    attn, mlp = module.self_attn, module.mlp
    return _Layer(
        module.input_layernorm.weight.detach(),
        module.post_attention_layernorm.weight.detach(),
        _fuse(attn, f"{prefix}.self_attn", ("q_proj", "k_proj", "v_proj"), observer_of),
        _fuse(attn, f"{prefix}.self_attn", ("o_proj",), observer_of),
        _fuse(mlp, f"{prefix}.mlp", ("gate_proj", "up_proj"), observer_of),
        _fuse(mlp, f"{prefix}.mlp", ("down_proj",), observer_of),
        shape,
    )


class _LayerPass(torch.autograd.Function):
    """One layer. Kept for the backward: its input, rotated q and k, v, attention, and the gate-up product."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, z_BP: Tensor | None, layer: _Layer, cos: Tensor, sin: Tensor) -> Tensor:
        shape = layer.shape
        qkv = layer.qkv(rms_norm(h, layer.norm1, shape.eps))
        q, k, v = split_heads(qkv, cos, sin, shape)
        keep = any(ctx.needs_input_grad[:2])
        mixed, attended = attend(q, k, v, shape, keep)
        middle = h + layer.o(mixed)
        gate_up = layer.gate_up(rms_norm(middle, layer.norm2, shape.eps))
        out = middle + layer.down(swiglu(gate_up))
        if keep:
            ctx.layer, ctx.attended, ctx.features = layer, attended, None if z_BP is None else z_BP.shape
            ctx.save_for_backward(h, mixed, middle, gate_up, cos, sin)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        h, mixed, middle, gate_up, cos, sin = ctx.saved_tensors
        layer, g = ctx.layer, grads[0]
        shape = layer.shape
        out_BP = None if ctx.features is None else torch.zeros(ctx.features, device=g.device)
        g_act = g @ layer.down.weight
        act, g_gate_up = swiglu_backward(gate_up, g_act, out_BP is not None and layer.down.observer is not None)
        layer.down.observe(act, g, out_BP)
        g_middle = g_gate_up @ layer.gate_up.weight
        if layer.gate_up.observer is not None and out_BP is not None:
            layer.gate_up.observe(rms_norm(middle, layer.norm2, shape.eps), g_gate_up, out_BP)
        g_middle = rms_norm_backward(middle, layer.norm2, shape.eps, g_middle).add_(g)
        layer.o.observe(mixed, g_middle, out_BP)
        g_qkv = join_heads(attend_backward(ctx.attended, g_middle @ layer.o.weight, shape), cos, sin)
        if layer.qkv.observer is not None and out_BP is not None:
            layer.qkv.observe(rms_norm(h, layer.norm1, shape.eps), g_qkv, out_BP)
        if not ctx.needs_input_grad[0]:
            return None, out_BP, None, None, None
        g_h = rms_norm_backward(h, layer.norm1, shape.eps, g_qkv @ layer.qkv.weight).add_(g_middle)
        return g_h, out_BP, None, None, None


class _FinalNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(h, weight)
        ctx.eps = eps
        return rms_norm(h, weight, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        h, weight = ctx.saved_tensors
        return rms_norm_backward(h, weight, ctx.eps, grads[0]), None, None


def rms_norm(h: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm as transformers computes it: normalised in fp32, rounded, then scaled."""
    wide = h.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(h.dtype) * weight


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


def swiglu_backward(gate_up: Tensor, g: Tensor, want_act: bool) -> tuple[Tensor | None, Tensor]:
    """The activation again, if wanted, and d gate_up."""
    gate, up = gate_up.chunk(2, -1)
    silu = nn.functional.silu(gate)
    out = torch.empty_like(gate_up)
    g_gate, g_up = out.chunk(2, -1)
    torch.mul(g, silu, out=g_up)
    torch.ops.aten.silu_backward.grad_input(g * up, gate, grad_input=g_gate)
    return silu.mul_(up) if want_act else None, out


def split_heads(qkv: Tensor, cos: Tensor, sin: Tensor, shape: _Shape) -> tuple[Tensor, Tensor, Tensor]:
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


def attend(q: Tensor, k: Tensor, v: Tensor, shape: _Shape, keep: bool) -> tuple[Tensor, tuple[Any, ...]]:
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


def attend_backward(kept: tuple[Any, ...], g: Tensor, shape: _Shape) -> tuple[Tensor, Tensor, Tensor]:
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


def disagreement(ours: Decoder, model: Any, ids_BT: Tensor) -> str | None:
    """Compare losses and input gradients with the model's own forward; None, or how they differ.

    Every token of `ids_BT` [B, T >= 2] is a target of the one before it.
    """
    width = ours.head_VD.shape[1]
    limits = _TOLERANCE[ours.head_VD.dtype]
    with torch.enable_grad():
        embeds = model.get_input_embeddings()(ids_BT).detach().requires_grad_()
        hidden = ours.hidden(ids_BT, embeds_BTD=embeds)
        ours_n = token_losses(
            hidden[:, :-1].reshape(-1, width), ours.head_VD, ids_BT[:, 1:].reshape(-1), ours.head_bias
        )
        ours_g = torch.autograd.grad(ours_n.sum(), embeds)[0].float()
        logits = model(inputs_embeds=embeds, use_cache=False).logits[:, :-1].float()
        theirs_n = nn.functional.cross_entropy(logits.flatten(0, 1), ids_BT[:, 1:].reshape(-1), reduction="none")
        theirs_g = torch.autograd.grad(theirs_n.sum(), embeds)[0].float()
    pairs = (("losses", ours_n, theirs_n), ("input gradients", ours_g, theirs_g))
    for limit, (what, a, b) in zip(limits, pairs, strict=True):
        error = float((a - b).detach().norm() / b.detach().norm())
        if not error <= limit:
            return f"{what} differ from the model's own by {error:.2g} (relative; at most {limit:g} is accepted)"
    return None
