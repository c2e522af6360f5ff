"""Torch twin of the signed block fold in `numerics/projection.py`: same signs, same columns, on every device.

Signs come from the same 32-bit hash, computed in int64 with masks, so the CPU and a GPU agree bit for bit;
`device_image` proves it on the projection's fixed vector.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dataworth.numerics.projection import MASK32, MIX_1, MIX_2, Projection, sign_keys


def module_signs(seed: int, module: str, entries: int, device: torch.device | str = "cpu") -> Tensor:
    """The signs (+1 or -1) of a module's first `entries` entries, int8 on `device`."""
    k1, k2 = sign_keys(seed, module)
    counters = (torch.arange(-(-entries // 32), dtype=torch.int64, device=device) + k1) & MASK32
    words = _mix(_mix(counters) ^ k2)
    bits = (words[:, None] >> torch.arange(32, device=device)) & 1
    return (2 * bits.reshape(-1)[:entries] - 1).to(torch.int8)


def _mix(x: Tensor) -> Tensor:
    """MurmurHash3's 32-bit finaliser; products wrap in int64 and keep their low 32 bits exact."""
    x = x ^ (x >> 16)
    x = (x * MIX_1) & MASK32
    x = x ^ (x >> 13)
    x = (x * MIX_2) & MASK32
    return x ^ (x >> 16)


class ModuleFold:
    """The fold of one module: its signs and its place among the columns.

    Args:
        projection: Names, sizes, width and seed.
        module: Name of the module within it.
        device: Where rows will be folded.
    """

    def __init__(self, projection: Projection, module: str, device: torch.device | str) -> None:
        self.width = projection.width
        self.start = projection.offsets[module]
        self.entries = dict(projection.modules)[module]
        self.signs_L = module_signs(projection.seed, module, self.entries, device)

    def add_to(self, out_BP: Tensor, rows_BL: Tensor, mapped: Callable[[Tensor, slice], Tensor] | None = None) -> None:
        """Add the fold of rows `[B, L]` to `out_BP` in place, a block of at most P entries at a time.

        Args:
            out_BP: fp32 (or int64, for integers).
            rows_BL: Rows of any dtype; each block is cast to that of `out_BP` while it is in cache.
            mapped: Applied to each block, with the entries it holds, before the signs.
        """
        done, column = 0, self.start
        while done < self.entries:
            count = min(self.entries - done, self.width - column)
            part = slice(done, done + count)
            block = rows_BL[:, part].to(out_BP.dtype)
            block = block if mapped is None else mapped(block, part)
            out_BP[:, column : column + count].addcmul_(block, self.signs_L[part].to(out_BP.dtype))
            done, column = done + count, 0


def verify_device(projection: Projection, device: torch.device | str) -> None:
    """Compare this device's fold of the projection's fixed vector with the reference, entry for entry.

    Raises:
        FingerprintMismatch: The device projects differently.
    """
    image = torch.zeros(1, projection.width, dtype=torch.int64, device=device)
    for name, entries in projection.modules:
        probe = torch.zeros(1, entries, dtype=torch.int64, device=device)
        head = torch.from_numpy(projection.probe(name, entries)).to(device)
        probe[0, : len(head)] = head
        ModuleFold(projection, name, device).add_to(image, probe)
    projection.verify(image.cpu().numpy(), str(device))
