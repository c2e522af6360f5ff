"""A heap for compiled kernels: rows by a bound, largest first, of equal bounds the first row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sink(item: NDArray[np.int64], bound: NDArray[np.float64], size: int) -> None:
    """Move the root of a heap of `size` down to where it belongs, after its bound fell or it was replaced."""
    at, down = 0, 1
    while down < size:
        right = down + 1
        if right < size and (bound[right] > bound[down] or (bound[right] == bound[down] and item[right] < item[down])):
            down = right
        if bound[at] > bound[down] or (bound[at] == bound[down] and item[at] < item[down]):
            return
        item[at], item[down] = item[down], item[at]
        bound[at], bound[down] = bound[down], bound[at]
        at, down = down, 2 * down + 1
