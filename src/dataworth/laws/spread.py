"""Intervals of any quantity of a fitted curve, with the chain as the unit.

A chain is one nested series of random subsets, so its points are not independent: whole chains are compared or
resampled, never runs. Axes: `C` chains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from dataworth.errors import RequestError
from dataworth.numerics.ranks import Estimate

# From this many chains on, chains are resampled; below, the t interval over the chains' own fits is used.
RESAMPLE_FROM = 10


def over_chains(value: float, by_chain_C: Sequence[float], level: float) -> Estimate:
    """`value` of the pooled fit, with a t interval from the spread of the chains' own fits about it (df = C - 1).

    Raises:
        RequestError: Fewer than 2 chains, a number that is not finite, or a level outside (0, 1).
    """
    own_C = _checked(value, by_chain_C, level)
    C = len(own_C)
    half = float(stats.t.ppf((1 + level) / 2, C - 1) * math.sqrt(((own_C - value) ** 2).sum() / (C - 1) / C))
    return Estimate(value, value - half, value + half, C, level)


def over_resamples(value: float, resampled: Sequence[float], chains: int, level: float) -> Estimate:
    """`value` of the pooled fit, with the expanded percentile interval over refits to resampled chains.

    The percentiles are moved outwards so that few chains don't make the interval short (Hesterberg 2015, The American
    Statistician 69:371).

    Raises:
        RequestError: Fewer than 2 resamples, a number that is not finite, or a level outside (0, 1).
    """
    refits = _checked(value, resampled, level)
    wide = math.sqrt(chains / (chains - 1)) * float(stats.t.ppf((1 + level) / 2, chains - 1))
    low, high = np.quantile(refits, [stats.norm.cdf(-wide), stats.norm.cdf(wide)])
    return Estimate(value, min(float(low), value), max(float(high), value), chains, level)


def _checked(value: float, others: Sequence[float], level: float) -> np.ndarray:
    array = np.asarray(others, dtype=np.float64)
    if len(array) < 2 or not (np.isfinite(array).all() and math.isfinite(value)):
        raise RequestError(
            f"an interval of {value} over {len(array)} fits: expected a finite quantity in at least 2; ask for another"
        )
    if not 0 < level < 1:
        raise RequestError(f"level {level} of an interval: expected between 0 and 1; say 0.9")
    return array
