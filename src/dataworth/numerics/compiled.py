"""Loops over arrays, compiled where numba is installed and interpreted where it isn't; the numbers are the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

Kernel = Callable[..., Any]


@cache
def compiled(kernel: Kernel) -> Kernel:
    """`kernel`, compiled by numba if it is installed (seconds at the first call, then kept on disk).

    Kernels take arrays and numbers, and call nothing of ours. No floating-point shortcut is allowed to the compiler.
    """
    try:
        import numba
    except ImportError:
        return kernel
    try:
        return numba.njit(cache=True)(kernel)
    except RuntimeError:  # nowhere to keep the compiled code
        return numba.njit(kernel)
