"""Loops over arrays, compiled where numba is installed and interpreted where it isn't; the numbers are the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

Kernel = Callable[..., Any]


@cache
def compiled(kernel: Kernel) -> Kernel:
    """`kernel`, compiled by numba if it is installed (a second or two at the first call of a process).

    Kernels take arrays, numbers and other kernels. No floating-point shortcut is allowed to the compiler, and nothing
    is kept on disk, where numba wouldn't notice that a kernel handed to another one has changed.
    """
    try:
        import numba
    except ImportError:
        return kernel
    return numba.njit(kernel)
