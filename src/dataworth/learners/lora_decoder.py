"""The fast path of LoRA training: Llama-family layers with a written-out backward for inputs and adapters only.

Linears with one input are one product, and the adapters' A matrices ride along as extra rows of it (`[W; A]`), since
products of rank 8 run far below the machine's peak. The frozen weights get no gradient. Padding isn't computed, and
what all rows of a batch begin with is computed once. The transformers model stays usable: its weights become views of
the joined ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dataworth.learners.llama import (
    LayerShape,
    attend,
    attend_backward,
    final_norm,
    join_heads,
    rms_norm,
    rms_norm_backward,
    split_heads,
    swiglu,
    swiglu_backward,
    unknown_part,
)
from dataworth.learners.packing import Packing

_GROUPS = (
    ("self_attn", ("q_proj", "k_proj", "v_proj")),
    ("self_attn", ("o_proj",)),
    ("mlp", ("gate_proj", "up_proj")),
    ("mlp", ("down_proj",)),
)


def unsupported(base: Any) -> str | None:
    """None if this path can train the model's adapters, else why not, in plain words."""
    return unknown_part(base, _plain, "carries more than plain LoRA on a linear layer")


def _plain(module: Any) -> bool:
    if type(module) is nn.Linear:
        return True
    if type(getattr(module, "base_layer", None)) is not nn.Linear or len(module.active_adapters) != 1:
        return False
    name = module.active_adapters[0]
    still = isinstance(module.lora_dropout[name], nn.Identity) or module.lora_dropout[name].p == 0
    return still and not module.use_dora.get(name) and not module.merged and module.lora_B[name].bias is None


@dataclass(frozen=True)
class _Adapter:
    """One linear's LoRA: columns `start:stop` of the group, fp32 masters, a copy of s B in the model's dtype."""

    start: int
    stop: int
    a_RI: Tensor
    b_OR: Tensor
    scaled_OR: Tensor
    scale: float


class _Group:
    """Linears with one input, and the adapters on some of them, as one product `[W; A]`."""

    def __init__(self, parent: Any, leaves: Sequence[str]) -> None:
        modules = [getattr(parent, leaf) for leaf in leaves]
        linears = [getattr(m, "base_layer", m) for m in modules]
        sizes = [m.out_features for m in linears]
        self.width = sum(sizes)
        self.adapters: list[_Adapter] = []
        parts = [m.weight.detach() for m in linears]
        for stop, size, module in zip(torch.tensor(sizes).cumsum(0).tolist(), sizes, modules, strict=True):
            if not hasattr(module, "lora_A"):
                continue
            name = module.active_adapters[0]
            a, b = module.lora_A[name].weight, module.lora_B[name].weight
            copy = torch.empty_like(b, dtype=parts[0].dtype)
            self.adapters.append(_Adapter(stop - size, stop, a, b, copy, float(module.scaling[name])))
        rows = torch.cat([p.a_RI.detach().to(parts[0].dtype) for p in self.adapters]) if self.adapters else parts[0][:0]
        self.weight = torch.cat([*parts, rows])
        for linear, view in zip(linears, self.weight[: self.width].split(sizes), strict=True):
            linear.weight.data = view
        self.bias = _joined_bias(linears, len(rows))

    @property
    def parameters(self) -> list[Tensor]:
        """A and B of each adapter, the order of `backward`'s gradients."""
        return [t for p in self.adapters for t in (p.a_RI, p.b_OR)]

    def refresh(self) -> None:
        """Copy the adapters' masters into the product's dtype."""
        at = self.width
        for p in self.adapters:
            self.weight[at : at + len(p.a_RI)].copy_(p.a_RI.detach())
            p.scaled_OR.copy_(p.b_OR.detach() * p.scale)
            at += len(p.a_RI)

    def forward(self, x_nI: Tensor) -> tuple[Tensor, Tensor]:
        """Output [n, O], a view, and the low-rank activations [n, sum R]."""
        both = nn.functional.linear(x_nI, self.weight, self.bias)
        y, u = both[:, : self.width], both[:, self.width :].contiguous()
        for p, u_nR in zip(self.adapters, self._ranks(u), strict=True):
            y[:, p.start : p.stop].addmm_(u_nR, p.scaled_OR.t())
        return y, u

    def backward(self, x_nI: Tensor, u: Tensor, g_nO: Tensor, wants_x: bool) -> tuple[Tensor | None, list[Tensor]]:
        """Gradients of the input and of `parameters`."""
        low = torch.empty_like(u)
        grads: list[Tensor] = []
        for p, u_nR, low_nR in zip(self.adapters, self._ranks(u), self._ranks(low), strict=True):
            part = g_nO[:, p.start : p.stop]
            torch.mm(part, p.scaled_OR, out=low_nR)
            grads += [low_nR.t() @ x_nI, (part.t() @ u_nR).float() * p.scale]
        if not wants_x:
            return None, [g.float() for g in grads]
        g_x = g_nO @ self.weight[: self.width]
        if self.adapters:
            g_x.addmm_(low, self.weight[self.width :])
        return g_x, [g.float() for g in grads]

    def _ranks(self, u: Tensor) -> Sequence[Tensor]:
        return u.split([len(p.a_RI) for p in self.adapters], 1) if self.adapters else ()


def _joined_bias(linears: Sequence[nn.Linear], extra: int) -> Tensor | None:
    if linears[0].bias is None:
        return None
    parts = [m.bias.detach() for m in linears]
    return torch.cat([*parts, parts[0].new_zeros(extra)])


class _Layer:
    """One decoder layer: norms, the four groups, and the shape of its attention."""

    def __init__(self, module: Any, shape: LayerShape) -> None:
        self.norm1, self.norm2 = module.input_layernorm.weight.detach(), module.post_attention_layernorm.weight.detach()
        self.groups = [_Group(getattr(module, part), leaves) for part, leaves in _GROUPS]
        self.parameters = [p for g in self.groups for p in g.parameters]
        self.shape = shape


class LoraDecoder:
    """Token ids or hidden states to hidden states, differentiable in the adapters and in the hidden states.

    Args:
        base: The base model inside a PEFT model that `unsupported` accepts.
    """

    def __init__(self, base: Any) -> None:
        body = base.model
        shape = LayerShape.of(base)
        self.embed_VD, self.norm_D = body.embed_tokens.weight.detach(), body.norm.weight.detach()
        self.rotary, self.eps = body.rotary_emb, shape.eps
        self.layers = [_Layer(layer, shape) for layer in body.layers]

    def embed(self, ids_BT: Tensor, packing: Packing) -> Tensor:
        """Embeddings of the packed tokens, `[n, D]`."""
        return nn.functional.embedding(ids_BT.flatten()[packing.place_n], self.embed_VD)

    def run(self, hidden_nD: Tensor, packing: Packing, first: int = 0, last: int | None = None) -> Tensor:
        """Packed hidden states after layers `first` to `last` (exclusive; all, and the final norm, if None)."""
        length = packing.index_BT.shape[1]
        cos, sin = self.rotary(hidden_nD, torch.arange(length, device=hidden_nD.device)[None])
        h = hidden_nD
        for layer in self.layers[first:last]:
            for group in layer.groups:
                group.refresh()
            h = _LoraLayerPass.apply(h, packing, layer, cos[0], sin[0], *layer.parameters)
        return final_norm(h, self.norm_D, self.eps) if last is None else h


class _LoraLayerPass(torch.autograd.Function):
    """One layer over packed tokens; only attention sees the padded batch.

    Kept: its input, the groups' inputs and low-rank activations, attention, and the gate-up product.
    """

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, packing: Packing, layer: _Layer, cos: Tensor, sin: Tensor, *parameters: Tensor
    ) -> Tensor:
        shape = layer.shape
        qkv, o, gate_up, down = layer.groups
        x1 = rms_norm(h, layer.norm1, shape.eps)
        turned, u1 = qkv.forward(x1)
        q, k, v = split_heads(packing.unpack(turned), cos, sin, shape)
        keep = any(ctx.needs_input_grad)
        mixed, attended = attend(q, k, v, shape, keep)
        mixed = packing.pack(mixed)
        delta, u2 = o.forward(mixed)
        middle = h + delta
        x2 = rms_norm(middle, layer.norm2, shape.eps)
        gates, u3 = gate_up.forward(x2)
        delta, u4 = down.forward(swiglu(gates))
        out = middle + delta
        if keep:
            ctx.packing, ctx.layer, ctx.attended = packing, layer, attended
            ctx.save_for_backward(h, x1, u1, mixed, u2, middle, x2 if gate_up.adapters else u3, gates, u3, u4, cos, sin)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        h, x1, u1, mixed, u2, middle, x2, gates, u3, u4, cos, sin = ctx.saved_tensors
        packing, layer, g = ctx.packing, ctx.layer, grads[0]
        shape = layer.shape
        qkv, o, gate_up, down = layer.groups
        g_act, d_down = down.backward(swiglu(gates) if down.adapters else gates, u4, g, True)
        g_gates = swiglu_backward(gates, g_act, False)[1]
        g_x2, d_gate_up = gate_up.backward(x2, u3, g_gates, True)
        g_middle = rms_norm_backward(middle, layer.norm2, shape.eps, g_x2).add_(g)
        g_mixed, d_o = o.backward(mixed, u2, g_middle, True)
        g_heads = attend_backward(ctx.attended, packing.unpack_grad(g_mixed), shape)
        g_qkv = packing.pack_grad(join_heads(g_heads, cos, sin))
        g_x1, d_qkv = qkv.backward(x1, u1, g_qkv, ctx.needs_input_grad[0])
        g_h = None
        if g_x1 is not None:
            g_h = rms_norm_backward(h, layer.norm1, shape.eps, g_x1).add_(g_middle)
        return (g_h, None, None, None, None, *d_qkv, *d_o, *d_gate_up, *d_down)
