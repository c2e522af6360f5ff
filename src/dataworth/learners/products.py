"""Products in bf16 on CPUs that have no instructions for them.

There PyTorch's own bf16 products are several times slower than fp32 ones. A product of two bf16 numbers is exact in
fp32, and machines with such instructions sum in fp32, too; so the same operands widened, multiplied in fp32 and rounded
once give what those machines give, up to the order of the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = frozenset((torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm))
_IN_PLACE: Mapping[Any, Callable[..., Tensor]] = {
    torch.ops.aten.addmm_: torch.ops.aten.addmm,
    torch.ops.aten.baddbmm_: torch.ops.aten.baddbmm,
}


def has_bf16() -> bool:
    """Whether this CPU has instructions for products in bf16 (AVX512-BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def widened(weight: Tensor) -> AbstractContextManager[object]:
    """The context in which a model with this weight computes: bf16 on a CPU without instructions for it goes by fp32.

    Forward and backward must both run inside. Attention kernels (`scaled_dot_product_attention`) are left as they are.
    """
    if weight.dtype is torch.bfloat16 and weight.device.type == "cpu" and not has_bf16():
        return _Widened()
    return nullcontext()


class _Widened(TorchDispatchMode):
    """Matrix products of bf16 tensors with fp32 operands, rounded once; anything else as it is."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs, kind = dict(kwargs or {}), func.overloadpacket
        inside = kind in _IN_PLACE
        if not (inside or kind in _PRODUCTS) or args[0].dtype is not torch.bfloat16:
            return func(*args, **kwargs)
        out = args[0] if inside else kwargs.pop("out", None)
        wide = [a.float() if isinstance(a, Tensor) else a for a in args]
        found = _IN_PLACE.get(kind, kind)(*wide, **kwargs)
        return found.bfloat16() if out is None else out.copy_(found)
