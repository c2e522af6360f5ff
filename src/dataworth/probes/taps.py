"""Taps: per-row features of linear layers as the gradient of a dummy input.

A linear's weight is frozen, so a backward pass computes only input gradients, and a row's weight gradient is the
product of two things that pass by anyway: the input x and the output gradient g (Goodfellow 2015, arXiv
1510.01799). `TapLinear` returns that product, projected, as the gradient of a zero tensor `z[B, P]`: no hooks,
nothing to append to, so gradient checkpointing and modules that share z just work, and autograd adds up the modules
of a row.

LoRA adapters are merged first (W' = W + s B A). Then dA = s (g B)^T x and dB = s g^T (x A^T): exact gradients
without an adapter in the graph. `onesided` is the same with A a matrix of random signs and only the second product.

Padding stands on the right of causal rows and carries no loss, so its g is exactly zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dataworth.errors import RequestError
from dataworth.learners.decoder import Products
from dataworth.numerics.projection import Projection
from dataworth.probes.fold import ModuleFold, module_signs, verify_device
from dataworth.probes.preconditioner import Moments, Preconditioner
from dataworth.probes.spec import FeatureSpec


@dataclass(frozen=True)
class Tap:
    """One linear that is observed: inputs_kI [k, d_in]; outputs_Ok [d_out, k] or None (`onesided`)."""

    name: str
    inputs_kI: Tensor
    outputs_Ok: Tensor | None
    d_out: int
    scale: float

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the gradients it gives, as they are known to the projection."""
        k, d_in = self.inputs_kI.shape
        if self.outputs_Ok is None:
            return {f"{self.name}.weight": (self.d_out, k)}
        return {f"{self.name}.lora_A.weight": (k, d_in), f"{self.name}.lora_B.weight": (self.d_out, k)}


def onesided_tap(name: str, d_in: int, d_out: int, k: int, seed: int, device: torch.device | str) -> Tap:
    """A tap that projects inputs to `k` columns by a matrix of signs over sqrt(k), drawn for this module."""
    signs = module_signs(seed, f"{name}|inputs", d_in * k, device)
    return Tap(name, signs.view(d_in, k).t().float(), None, d_out, k**-0.5)


class FeatureMap:
    """All taps of a model under one spec: the projection they share and the gradients they write.

    Raises:
        NonsenseRefused, FingerprintMismatch: Moments of another adapter, or a device that projects differently.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        taps: Sequence[Tap],
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        moments: Moments | None = None,
    ) -> None:
        self.spec, self.device, self.dtype = spec, device, dtype
        self.taps = {tap.name: tap for tap in taps}
        shapes = {n: s for tap in taps for n, s in tap.parameters().items()}
        self.projection = Projection(tuple((n, s[0] * s[1]) for n, s in shapes.items()), spec.width, spec.seed)
        verify_device(self.projection, device)
        self._maps: dict[str, Preconditioner] = {}
        if spec.optimizer != "sgd":
            if moments is None:
                raise RequestError(
                    f"feature optimizer {spec.optimizer!r} needs Adam moments: expected a checkpoint with them; use sgd"
                )
            moments.require(shapes)
            self._maps = {n: Preconditioner(spec, moments, n, device) for n in shapes}
        self._folds = {n: ModuleFold(self.projection, n, device) for n in shapes}

    def zeros(self, rows: int) -> Tensor:
        """The dummy input of a batch, `[rows, P]` fp32; its gradient is the features."""
        return torch.zeros(rows, self.spec.width, device=self.device, requires_grad=True)

    def group(self, names: Sequence[str]) -> Group | None:
        """The observer of linears that share an input (their outputs stand side by side), or None if none is tapped."""
        taps = [self.taps.get(name) for name in names]
        return Group(self, taps) if any(taps) else None

    def write(self, parameter: str, grads_BL: Tensor, out_BP: Tensor) -> None:
        """Map one parameter's per-row gradients and add their fold to `out_BP`."""
        self._folds[parameter].add_to(out_BP, grads_BL.flatten(1), self._maps.get(parameter))


class Group:
    """Observer of a fused group of linears with one input, e.g. q, k, v.

    Args:
        features: Where gradients go.
        taps: One per linear in the order of the outputs; None where a linear isn't tapped.
    """

    def __init__(self, features: FeatureMap, taps: Sequence[Tap | None]) -> None:
        self.features = features
        self.tapped = [i for i, tap in enumerate(taps) if tap is not None]
        self.taps = [tap for tap in taps if tap is not None]
        device, dtype = features.device, features.dtype
        self.inputs_KI = torch.cat([tap.inputs_kI * tap.scale for tap in self.taps]).to(device, dtype)
        self.outputs = [None if t.outputs_Ok is None else (t.outputs_Ok * t.scale).to(device, dtype) for t in self.taps]

    def observe(self, x: Tensor, g: Tensor, sizes: Sequence[int], products: Products, out_BP: Tensor) -> None:
        """Add the features of inputs `x` and output gradients `g` (side by side, of these sizes) to `out_BP`.

        g^T u is formed for the whole group and its diagonal blocks are kept: cheaper than copying slices of g.
        """
        up_BOK = products(g, x @ self.inputs_KI.t())
        grads, ups = g.split(sizes, -1), up_BOK.split(sizes, 1)
        ranks = [len(tap.inputs_kI) for tap in self.taps]
        down, column = [], 0
        for i, tap, outputs in zip(self.tapped, self.taps, self.outputs, strict=True):
            names = list(tap.parameters())
            self.features.write(names[-1], ups[i][:, :, column : column + len(tap.inputs_kI)], out_BP)
            column += len(tap.inputs_kI)
            if outputs is not None:
                down.append((names[0], grads[i] @ outputs))
        if down:
            both = products(torch.cat([h for _, h in down], -1), x)
            for (name, _), part in zip(down, both.split(ranks, 1), strict=True):
                self.features.write(name, part, out_BP)


def padded_products(g_BTO: Tensor, x_BTI: Tensor) -> Tensor:
    """Sum over each row's tokens of gradient times input, `[B, O, I]`."""
    return torch.bmm(g_BTO.transpose(1, 2), x_BTI)


class Sink:
    """The dummy tensor `[B, P]` and the padded length of the batch in flight; no tensor switches the taps off."""

    def __init__(self) -> None:
        self.z_BP: Tensor | None = None
        self.tokens = 0


class TapLinear(nn.Module):
    """A frozen linear whose backward also returns features, for any architecture.

    Args:
        weight_OI: Frozen (merged) weight; `bias` beside it or None.
        group: Its observer, a group of one.
        sink: Where the batch's dummy tensor is found.
    """

    def __init__(self, weight_OI: Tensor, bias: Tensor | None, group: Group, sink: Sink) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight_OI, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.out_features, self.in_features = weight_OI.shape
        self.group, self.sink = group, sink

    def forward(self, x: Tensor) -> Tensor:
        """X W'^T + b."""
        if self.sink.z_BP is None or not torch.is_grad_enabled():
            return nn.functional.linear(x, self.weight, self.bias)
        return _Tapped.apply(x, self.sink.z_BP, self.weight, self.bias, self.group, self.sink.tokens)


class _Tapped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, z_BP: Tensor, weight: Tensor, bias: Tensor | None, group: Group, tokens: int
    ) -> Tensor:
        ctx.group, ctx.rows, ctx.tokens = group, len(z_BP), tokens
        ctx.save_for_backward(x, weight)
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None, None, None, None]:
        x, weight = ctx.saved_tensors
        g = grads[0]
        features = ctx.group.features
        out = torch.zeros(ctx.rows, features.spec.width, device=g.device)
        shape = (ctx.rows, ctx.tokens)
        ctx.group.observe(_per_row(x, *shape), _per_row(g, *shape), (g.shape[-1],), padded_products, out)
        return (g @ weight if ctx.needs_input_grad[0] else None), out, None, None, None, None


def _per_row(x: Tensor, rows: int, tokens: int) -> Tensor:
    """[rows, T, d] from [rows, T, d] or [rows * T, d]; anything else (experts, say) can't be told apart by row."""
    if x.shape[:-1] == (rows, tokens):
        return x
    if x.shape[:-1] == (rows * tokens,):
        return x.reshape(rows, tokens, x.shape[-1])
    raise RequestError(
        f"a tapped linear saw inputs {tuple(x.shape)} for {rows} rows of {tokens} tokens: expected every token of "
        "every row; leave the layer out of the adapter's targets"
    )
