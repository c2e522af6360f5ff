"""Frozen decoders: token ids to the last hidden states, with input gradients only.

`FastDecoder` is hand-written Llama-family layers: q, k, v and gate, up are one product each, nothing is computed that
no wanted state depends on, and the backward is written out, since frozen weights need nothing but d input. Fused
weights replace the module's own storage, so the transformers model stays usable and memory doesn't grow.
`PlainDecoder` runs any transformers decoder as it is. `disagreement` compares either with the model itself; users of
this room take the fast one only after it agreed.

An `Observer` sees the input and the output gradients of a group of linears during the backward and may add to the
gradient of the dummy tensor `z[B, P]`; that is how per-row features leave the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dataworth.learners.crossentropy import token_losses
from dataworth.learners.llama import (
    LayerShape,
    attend,
    attend_backward,
    join_heads,
    rms_norm,
    rms_norm_backward,
    split_heads,
    swiglu,
    swiglu_backward,
    unknown_part,
)
from dataworth.learners.packing import Packing, RowTokens

_TOLERANCE = {torch.float32: (1e-4, 1e-3), torch.bfloat16: (0.02, 0.25), torch.float16: (0.005, 0.06)}
"""Largest relative difference (norms) accepted between the fast path and the model itself, by dtype: losses, and
input gradients, whose rounding errors grow with depth (two bf16 passes of a 30-layer model differ by 0.08)."""


Products = Callable[[Tensor, Tensor], Tensor]
"""Gradients [..., O] and inputs [..., I] -> the sum over each row's tokens of their products, [B, O, I]."""


class Observer(Protocol):
    """Sees one group of linears in the backward."""

    def observe(self, x: Tensor, g: Tensor, sizes: Sequence[int], products: Products, out_BP: Tensor) -> None:
        """Add features of inputs and output gradients (the linears' side by side, of `sizes`) to `out_BP`.

        The token axes of `x` and `g` are only for `products` to understand: rows may share tokens of `x`.
        """
        ...


ObserverOf = Callable[[Sequence[str]], Observer | None]
"""Module names of a fused group -> its observer, or None."""


class Decoder(Protocol):
    """What probes run: hidden states, and the head that turns them into logits."""

    head_VD: Tensor
    head_bias: Tensor | None

    def hidden(
        self,
        ids_BT: Tensor,
        lengths_B: Tensor | None = None,
        at_n: Tensor | None = None,
        z_BP: Tensor | None = None,
        embeds_BTD: Tensor | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, `[n, D]`, or `[B, T, D]` without `at_n`.

        Args:
            ids_BT: Token ids, padded on the right.
            lengths_B: Tokens of each row; without it every place counts.
            at_n: Flat places in the batch, rising, whose states are wanted; without it those of all tokens.
            z_BP: Dummy tensor whose gradient will be the observers' features.
            embeds_BTD: The ids' embeddings, to differentiate in; rows that begin alike must do so here, too.
        """
        ...


class PlainDecoder:
    """Any transformers decoder, run as it is; taps live in its modules, so `z_BP` isn't passed on."""

    def __init__(self, model: Any) -> None:
        self.body = model.base_model
        head = model.get_output_embeddings()
        self.head_VD, self.head_bias = head.weight.detach(), getattr(head, "bias", None)

    def hidden(
        self,
        ids_BT: Tensor,
        lengths_B: Tensor | None = None,
        at_n: Tensor | None = None,
        z_BP: Tensor | None = None,
        embeds_BTD: Tensor | None = None,
    ) -> Tensor:
        """As `Decoder.hidden`; rows are padded on the right, so no mask is needed."""
        inputs = {"input_ids": ids_BT} if embeds_BTD is None else {"inputs_embeds": embeds_BTD}
        hidden = self.body(**inputs, use_cache=False).last_hidden_state
        return hidden if at_n is None else hidden.flatten(0, 1).index_select(0, at_n)


def supports(model: Any) -> str | None:
    """None if the fast path knows the model, else the reason in plain words."""
    return unknown_part(model, lambda module: type(module) is nn.Linear, "is not a plain linear")


@dataclass(frozen=True)
class _Fused:
    """Linears with one input as one product: weight [sum d_out, d_in], split sizes, and who watches."""

    weight: Tensor
    bias: Tensor | None
    sizes: tuple[int, ...]
    observer: Observer | None

    def __call__(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


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
class _Layer:
    """One decoder layer's frozen parts."""

    norm1: Tensor
    norm2: Tensor
    qkv: _Fused
    o: _Fused
    gate_up: _Fused
    down: _Fused

    @property
    def groups(self) -> tuple[_Fused, ...]:
        """The fused linears."""
        return self.qkv, self.o, self.gate_up, self.down


class FastDecoder:
    """A Llama-family decoder with frozen weights and a written-out backward.

    Padding isn't computed, nor is anything after a row's last wanted state. What all rows of a batch begin with is
    computed once in the forward; its gradients differ from row to row. The last layer makes only wanted states.

    Args:
        model: A bare `*ForCausalLM` that `supports` accepts; its q, k, v and gate, up weights become views of fused
        ones. observer_of: Who watches which group of linears; nobody by default.
    """

    def __init__(self, model: Any, observer_of: ObserverOf = lambda names: None) -> None:
        body, head = model.model, model.get_output_embeddings()
        self.embed_VD, self.norm_D = body.embed_tokens.weight.detach(), body.norm.weight.detach()
        self.rotary = body.rotary_emb
        self.head_VD, self.head_bias = head.weight.detach(), getattr(head, "bias", None)
        self.shape = LayerShape.of(model)
        self.layers = [_layer(layer, f"model.layers.{i}", observer_of) for i, layer in enumerate(body.layers)]
        watched = [i for i, layer in enumerate(self.layers) if any(g.observer for g in layer.groups)]
        self.lowest_watched = min(watched, default=len(self.layers))

    def hidden(
        self,
        ids_BT: Tensor,
        lengths_B: Tensor | None = None,
        at_n: Tensor | None = None,
        z_BP: Tensor | None = None,
        embeds_BTD: Tensor | None = None,
    ) -> Tensor:
        """As `Decoder.hidden`."""
        rows, width = ids_BT.shape
        place_T = torch.arange(width, device=ids_BT.device)
        if at_n is None:
            real_BT = place_T < (lengths_B[:, None] if lengths_B is not None else torch.full_like(ids_BT[:, :1], width))
            at_n = real_BT.flatten().nonzero()[:, 0]
            found = self.hidden(ids_BT, lengths_B, at_n, z_BP, embeds_BTD)
            return found.new_zeros(rows * width, found.shape[1]).index_copy(0, at_n, found).view(rows, width, -1)
        needed_B = torch.zeros(rows, dtype=torch.long, device=ids_BT.device)
        needed_B = needed_B.scatter_reduce(0, at_n // width, at_n % width + 1, "amax")
        packing = Packing.of(ids_BT, needed_B)
        if embeds_BTD is None:
            h_nD = nn.functional.embedding(ids_BT.flatten()[packing.place_n], self.embed_VD)
        else:
            h_nD = packing.pack(embeds_BTD.detach())
        cos, sin = self.rotary(h_nD, place_T[None])
        tokens = RowTokens.of(packing)
        floor = 0 if embeds_BTD is not None and embeds_BTD.requires_grad else self.lowest_watched
        batch = _BatchPlan(packing, tokens, RowTokens.at(at_n, rows, width), cos[0], sin[0], floor)
        return _Pass.apply(embeds_BTD, z_BP, h_nD, self, batch)


def _layer(module: Any, prefix: str, observer_of: ObserverOf) -> _Layer:
    attn, mlp = module.self_attn, module.mlp
    return _Layer(
        module.input_layernorm.weight.detach(),
        module.post_attention_layernorm.weight.detach(),
        _fuse(attn, f"{prefix}.self_attn", ("q_proj", "k_proj", "v_proj"), observer_of),
        _fuse(attn, f"{prefix}.self_attn", ("o_proj",), observer_of),
        _fuse(mlp, f"{prefix}.mlp", ("gate_proj", "up_proj"), observer_of),
        _fuse(mlp, f"{prefix}.mlp", ("down_proj",), observer_of),
    )


@dataclass(frozen=True)
class _BatchPlan:
    """What is computed of a batch: all its tokens, the wanted ones, rotations, and the lowest layer of the backward."""

    packing: Packing
    tokens: RowTokens
    wanted: RowTokens
    cos: Tensor
    sin: Tensor
    floor: int

    @property
    def wanted_index(self) -> Tensor:
        """The wanted tokens among the packed ones."""
        return self.packing.index_BT.flatten()[self.wanted.place_m]


@dataclass(frozen=True)
class _Kept:
    """What a layer's backward needs: the stream at its start and middle, both normed, attention, gate-up."""

    h: Tensor
    normed: Tensor
    attended: tuple[Any, ...]
    mixed: Tensor
    middle: Tensor
    middle_normed: Tensor
    gate_up: Tensor


class _Pass(torch.autograd.Function):
    """Embeddings to wanted states; one function for all layers, as packed states and gradients differ in shape."""

    @staticmethod
    def forward(
        ctx: Any, embeds_BTD: Tensor | None, z_BP: Tensor | None, h: Tensor, decoder: FastDecoder, batch: _BatchPlan
    ) -> Tensor:
        keep = any(ctx.needs_input_grad)
        ctx.kept = []
        for i, layer in enumerate(decoder.layers):
            kept = _forward(layer, h, decoder.shape, batch, i == len(decoder.layers) - 1, keep and i >= batch.floor)
            h, state = kept
            if keep and i >= batch.floor:
                ctx.kept.append(state)
        ctx.decoder, ctx.batch, ctx.last = decoder, batch, h
        ctx.features = None if z_BP is None else z_BP.shape
        return rms_norm(h, decoder.norm_D, decoder.shape.eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        decoder, batch = ctx.decoder, ctx.batch
        watch = _Watch(None if ctx.features is None else torch.zeros(ctx.features, device=grads[0].device))
        g = rms_norm_backward(ctx.last, decoder.norm_D, decoder.shape.eps, grads[0])
        to_input = ctx.needs_input_grad[0]
        for i in range(len(decoder.layers) - 1, batch.floor - 1, -1):
            last = i == len(decoder.layers) - 1
            g = _backward(
                decoder.layers[i], ctx.kept.pop(), g, decoder.shape, batch, last, watch, to_input or i > batch.floor
            )
        return (batch.tokens.to_batch(g) if to_input else None), watch.out_BP, None, None, None


def _forward(
    layer: _Layer, h: Tensor, shape: LayerShape, batch: _BatchPlan, last: bool, keep: bool
) -> tuple[Tensor, _Kept | None]:
    """One layer over packed tokens, its end over the wanted ones if it is the last; only attention sees padding."""
    normed = rms_norm(h, layer.norm1, shape.eps)
    q, k, v = split_heads(batch.packing.unpack(layer.qkv(normed)), batch.cos, batch.sin, shape)
    mixed_BTX, attended = attend(q, k, v, shape, keep)
    place, stream = (batch.wanted.place_m, h[batch.wanted_index]) if last else (batch.packing.place_n, h)
    mixed = mixed_BTX.flatten(0, 1).index_select(0, place)
    middle = layer.o(mixed).add_(stream)
    middle_normed = rms_norm(middle, layer.norm2, shape.eps)
    gate_up = layer.gate_up(middle_normed)
    out = layer.down(swiglu(gate_up)).add_(middle)
    return out, _Kept(h, normed, attended, mixed, middle, middle_normed, gate_up) if keep else None


@dataclass(frozen=True)
class _Watch:
    """Shows observers their linears' inputs and output gradients; without features nobody looks."""

    out_BP: Tensor | None

    def sees(self, group: _Fused) -> bool:
        return self.out_BP is not None and group.observer is not None

    def show(self, group: _Fused, x: Tensor, g: Tensor, tokens: RowTokens) -> None:
        if self.out_BP is not None and group.observer is not None:
            group.observer.observe(x, g, group.sizes, tokens.products, self.out_BP)


def _backward(
    layer: _Layer,
    kept: _Kept,
    g: Tensor,
    shape: LayerShape,
    batch: _BatchPlan,
    last: bool,
    watch: _Watch,
    to_input: bool,
) -> Tensor:
    """D input `[m, D]` of one layer from d output, and what observers see on the way."""
    tokens = batch.wanted if last else batch.tokens
    g_act = g @ layer.down.weight
    g_gate_up = g_act.new_empty(len(g), kept.gate_up.shape[1])
    parts = zip(tokens.kept(kept.gate_up), tokens.grads(g_act), tokens.grads(g_gate_up), strict=True)
    wants_act = watch.sees(layer.down)
    acts = [swiglu_backward(kept_part, g_part, wants_act, out)[0] for kept_part, g_part, out in parts]
    if wants_act:
        whole = [act for act in acts if act is not None]
        watch.show(layer.down, torch.cat(whole) if len(whole) > 1 else whole[0], g, tokens)
    watch.show(layer.gate_up, kept.middle_normed, g_gate_up, tokens)
    g_middle = _norm_backward(tokens, kept.middle, layer.norm2, shape.eps, g_gate_up @ layer.gate_up.weight).add_(g)
    watch.show(layer.o, kept.mixed, g_middle, tokens)
    g_heads = attend_backward(kept.attended, tokens.to_batch(g_middle @ layer.o.weight), shape)
    g_qkv = batch.tokens.from_batch(join_heads(g_heads, batch.cos, batch.sin))
    watch.show(layer.qkv, kept.normed, g_qkv, batch.tokens)
    if not to_input:
        return g_qkv
    g_h = _norm_backward(batch.tokens, kept.h, layer.norm1, shape.eps, g_qkv @ layer.qkv.weight)
    return g_h.add_(batch.tokens.from_batch(tokens.to_batch(g_middle)) if last else g_middle)


def _norm_backward(tokens: RowTokens, kept: Tensor, weight: Tensor, eps: float, g: Tensor) -> Tensor:
    """`rms_norm_backward` in place of `g`."""
    for h, part in zip(tokens.kept(kept), tokens.grads(g), strict=True):
        part.copy_(rms_norm_backward(h, weight, eps, part))
    return g


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
