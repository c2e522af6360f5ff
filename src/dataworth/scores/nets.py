"""What several nets say of a row: their mean as the score, and a note on how far they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.dynamics import mean_of
from dataworth.results import Scored
from dataworth.scores.assemble import assemble

_NOISE = 0.5


def scored_by_nets(
    name: str, per_net: Sequence[NDArray[np.floating]], inputs: Mapping[str, Any], missing: str
) -> Scored:
    """The mean over nets of `[N]` arrays, with a note: seeds change what is hard, and a user should see how much."""
    scored = assemble(mean_of(per_net), inputs, missing)
    if len(per_net) == 1:
        return replace(scored, notes=(f"{name}: one net alone; another seed may rank otherwise: train five or more",))
    rho = agreement(per_net)
    if rho is None:
        return scored
    noise = f", so the score is mostly the seed's (below {_NOISE}): train more" if rho < _NOISE else ""
    return replace(
        scored, notes=(f"{name}: {len(per_net)} nets agree with a mean rank correlation of {rho:.2f}{noise}",)
    )


def agreement(per_net: Sequence[NDArray[np.floating]]) -> float | None:
    """Mean rank correlation of all pairs of nets over the rows that all have; None if that says nothing."""
    table_SN = np.asarray(per_net, dtype=np.float64)
    table_SN = table_SN[:, np.isfinite(table_SN).all(axis=0)]
    if table_SN.shape[1] < 3 or not np.ptp(table_SN, axis=1).all():
        return None
    from scipy import stats  # not above: every verb would wait a second for it

    rank_SN = np.stack([stats.rankdata(row_N) for row_N in table_SN])
    pairs = np.triu_indices(len(rank_SN), k=1)
    return float(np.corrcoef(rank_SN)[pairs].mean())
