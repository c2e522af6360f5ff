"""Batches without padding and with what all rows begin with there once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

_ROW_BY_ROW = ("cpu",)
"""Devices where a product per row is cheaper than gathering the padded batch for one batched product."""


@dataclass(frozen=True)
class Packing:
    """Where the tokens of a padded batch [B, T] lie among the n tokens that are really computed.

    Padding is left out, and what all rows begin with (a system prompt, few-shot examples) is there once: causal
    attention gives it the same hidden states in every row. `index_BT` leads from a place in the batch to its token,
    `place_n` from a token to its (first) place, flat. The first `shared` tokens stand for every row.
    """

    index_BT: Tensor
    place_n: Tensor
    shared: int

    @classmethod
    def of(cls, ids_BT: Tensor, lengths_B: Tensor) -> Packing:
        """Pack a batch padded on the right."""
        rows, width = ids_BT.shape
        at = torch.arange(width, device=ids_BT.device)
        same = (ids_BT == ids_BT[0]).all(0) & (at < lengths_B.min())
        shared = int(same.long().cumprod(0).sum()) if rows > 1 else 0
        own = (at >= shared) & (at < lengths_B[:, None])
        own[0] = at < lengths_B[0]
        index = (own.flatten().long().cumsum(0) - 1).view(rows, width) * own
        index[:, :shared] = at[:shared]
        return cls(index, own.flatten().nonzero()[:, 0], shared)

    def pack(self, padded_BTX: Tensor) -> Tensor:
        """The computed tokens of a padded batch, `[n, X]`."""
        return padded_BTX.flatten(0, 1).index_select(0, self.place_n)

    def unpack(self, packed_nX: Tensor) -> Tensor:
        """The padded batch `[B, T, X]`; padding repeats the first token, which no real token attends to."""
        return packed_nX.index_select(0, self.index_BT.flatten()).view(*self.index_BT.shape, -1)

    def pack_grad(self, grad_BTX: Tensor) -> Tensor:
        """Gradient of `unpack`: the rows' gradients of shared tokens are summed."""
        packed = self.pack(grad_BTX)
        if self.shared:
            packed[: self.shared] = grad_BTX[:, : self.shared].float().sum(0)
        return packed

    def unpack_grad(self, grad_nX: Tensor) -> Tensor:
        """Gradient of `pack`: each token's gradient at its place, zero elsewhere."""
        rows, width = self.index_BT.shape
        flat = grad_nX.new_zeros(rows * width, grad_nX.shape[1])
        return flat.index_copy_(0, self.place_n, grad_nX).view(rows, width, -1)


@dataclass(frozen=True)
class RowTokens:
    """Tokens of the forward, where the first `shared` stand for every row, against their gradients row by row.

    Kept tensors have axis `n`: the shared tokens, then each row's own, row after row. Gradients have axis `m`: the
    shared tokens of every row [B * shared], then the own ones. `place_m` is a gradient's flat place in the padded
    batch [B, T], `index_BT` leads from a place to its kept token, `bounds` are where rows begin and end among the own.
    """

    rows: int
    shared: int
    place_m: Tensor
    index_BT: Tensor
    bounds: tuple[int, ...]

    @classmethod
    def of(cls, packing: Packing) -> RowTokens:
        """All tokens of a packed batch."""
        rows, width = packing.index_BT.shape
        shared, own = packing.shared, packing.place_n[packing.shared :]
        starts = torch.arange(rows, device=own.device)[:, None] * width
        first = (starts + torch.arange(shared, device=own.device)).flatten()
        return cls(rows, shared, torch.cat([first, own]), packing.index_BT, _bounds(own, rows, width))

    @classmethod
    def at(cls, place_n: Tensor, rows: int, width: int) -> RowTokens:
        """Tokens at some places of the padded batch, in order; none is shared."""
        index = torch.zeros(rows * width, dtype=torch.long, device=place_n.device)
        index[place_n] = torch.arange(len(place_n), device=place_n.device)
        return cls(rows, 0, place_n, index.view(rows, width), _bounds(place_n, rows, width))

    def kept(self, kept_nX: Tensor) -> Sequence[Tensor]:
        """Views: shared tokens [S, X], if any, and own ones."""
        return (kept_nX[: self.shared], kept_nX[self.shared :]) if self.shared else (kept_nX,)

    def grads(self, grad_mX: Tensor) -> Sequence[Tensor]:
        """Views that go with those of `kept`: [B, S, X], if any are shared, and own ones."""
        split = self.rows * self.shared
        return (grad_mX[:split].view(self.rows, self.shared, -1), grad_mX[split:]) if split else (grad_mX,)

    def to_batch(self, grad_mX: Tensor) -> Tensor:
        """Gradients at their places in the padded batch [B, T, X], zero elsewhere."""
        rows, width = self.index_BT.shape
        flat = grad_mX.new_zeros(rows * width, grad_mX.shape[1])
        return flat.index_copy_(0, self.place_m, grad_mX).view(rows, width, -1)

    def from_batch(self, grad_BTX: Tensor) -> Tensor:
        """Gradients `[m, X]` out of the padded batch."""
        return grad_BTX.flatten(0, 1).index_select(0, self.place_m)

    def products(self, grad_mO: Tensor, kept_nI: Tensor) -> Tensor:
        """Sum over each row's tokens of gradient times kept, `[B, O, I]`."""
        if grad_mO.device.type not in _ROW_BY_ROW:
            return torch.bmm(self.to_batch(grad_mO).transpose(1, 2), kept_nI[self.index_BT])
        out = grad_mO.new_empty(self.rows, grad_mO.shape[1], kept_nI.shape[1])
        own_g, own_x = self.grads(grad_mO)[-1], self.kept(kept_nI)[-1]
        for b, (start, stop) in enumerate(pairwise(self.bounds)):
            torch.mm(own_g[start:stop].t(), own_x[start:stop], out=out[b])
        if self.shared:
            first = kept_nI[: self.shared].expand(self.rows, -1, -1)
            out.baddbmm_(self.grads(grad_mO)[0].transpose(1, 2), first)
        return out


def _bounds(place_n: Tensor, rows: int, width: int) -> tuple[int, ...]:
    counts = torch.bincount(place_n // width, minlength=rows)
    return (0, *counts.cumsum(0).tolist())
