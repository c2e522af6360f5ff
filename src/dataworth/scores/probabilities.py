"""The two largest probabilities of each row: what scores of a classifier's uncertainty read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import NonsenseRefused, RequestError

_ROWS = 65_536
_OFF = 0.02
"""How far from 1 a row may sum: half-precision softmaxes are that far off."""


def top_two(probabilities_NK: NDArray[np.floating]) -> NDArray[np.float64]:
    """The largest and second largest of each row `[N, 2]`, NaN where a row has any NaN; read in blocks.

    Raises:
        RequestError: Fewer than two classes.
        NonsenseRefused: Numbers that are no probabilities, such as logits.
    """
    if probabilities_NK.ndim != 2 or probabilities_NK.shape[1] < 2:
        raise RequestError(
            f"probabilities {probabilities_NK.shape}: expected [rows, 2 or more classes]; recompute them"
        )
    out_N2 = np.empty((len(probabilities_NK), 2))
    for a in range(0, len(out_N2), _ROWS):
        block = np.array(probabilities_NK[a : a + _ROWS], dtype=np.float64)
        known = block[~np.isnan(block).any(axis=1)]
        if len(known) and (known.min() < 0 or np.abs(known.sum(axis=1) - 1).max() > _OFF):
            raise NonsenseRefused(
                "a row's probabilities are negative or don't sum to 1: expected a softmax, not logits"
            )
        block[np.isnan(block).any(axis=1)] = np.nan
        out_N2[a : a + _ROWS] = np.sort(block, axis=1)[:, :-3:-1]
    return out_N2
