"""From raw numbers to `Scored`: reasons for rows without one, reductions over subtasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.results import Scored

Reduce = Literal["max", "zmax", "mean"]


def assemble(values_N: NDArray[Any], inputs: Mapping[str, Any], missing: str, direction: str = "high") -> Scored:
    """A `Scored` in which every row without a finite number carries a reason.

    Args:
        values_N: One number per row of `inputs["ids"]`; NaN or infinite means none.
        inputs: The score's inputs; `unscored` (id -> reason) holds what probes already know.
        missing: The reason for rows nobody gave one for.
        direction: `low` where an option asks for the low end of a score whose high end is usually kept; its numbers
            stay what they are.

    Raises:
        RequestError: The number of values isn't the number of rows, or another direction.
    """
    if direction not in ("high", "low"):
        raise RequestError(f"direction={direction!r}: expected high or low; correct --option direction")
    ids: Sequence[str] = inputs["ids"]
    values = np.array(values_N, dtype=np.float64)
    if values.shape != (len(ids),):
        raise RequestError(
            f"{values.shape} values for {len(ids)} rows: expected one number per row; recompute the input"
        )
    values[~np.isfinite(values)] = np.nan
    known: Mapping[str, str] = inputs.get("unscored", {})
    unscored = {ids[i]: known.get(ids[i], missing) for i in np.flatnonzero(np.isnan(values)).tolist()}
    return Scored(values, unscored, higher="drop" if direction == "low" else None)


def over_subtasks(values_NG: NDArray[Any], how: Reduce) -> NDArray[np.float64]:
    """One number per row from one per subtask.

    `max`: good for one subtask is good enough. `zmax`: the same after each subtask's column was shifted and scaled
    to mean 0 and standard deviation 1 over the pool's scored rows, so that a small, noisy subtask doesn't win by
    its spread (a constant column becomes 0). `mean`: good for all of them on average.

    Raises:
        RequestError: Another reduction.
    """
    if how not in get_args(Reduce):
        raise RequestError(f"reduce={how!r}: expected one of {', '.join(get_args(Reduce))}; correct --option reduce")
    values_NG = np.asarray(values_NG, dtype=np.float64)
    if how == "mean":
        return values_NG.mean(axis=1)
    if how == "zmax":
        scored = values_NG[np.isfinite(values_NG).all(axis=1)]
        if len(scored):
            spread_G = scored.std(axis=0)
            noise_G = 1e-12 * np.abs(scored).max(axis=0)
            values_NG = (values_NG - scored.mean(axis=0)) / np.where(spread_G > noise_G, spread_G, np.inf)
    return values_NG.max(axis=1)
