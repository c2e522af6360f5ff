"""Forgetting: how often a row that was right came out wrong in the next epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.dynamics import Dynamics, mean_of
from dataworth.errors import RequestError
from dataworth.results import Scored
from dataworth.scores.assemble import assemble
from dataworth.scores.over_epochs import forgotten, mean_over_nets, one_of


class Forgetting:
    """Transitions from right to wrong between successive epochs, mean over nets; high is hard, or mislabelled.

    Source: Toneva et al. 2019, arXiv 1812.05159. A row that no net ever gets right has no transition, yet isn't easy:
    it is kept apart.
    """

    name = "forgetting"
    kinds = frozenset({"classify"})
    needs = frozenset({"dynamics"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any], *, never: Literal["hardest", "unscored"] = "hardest") -> Scored:
        """Score every row from `dynamics`.

        `never=hardest` puts rows that no net ever got right above all others, by their mean error among themselves;
        `unscored` leaves them out. A net that never got a row right which others did counts with the number of
        epochs, or isn't counted.

        Raises:
            RequestError: Fewer than two epochs, or another word for `never`.
        """
        found: Dynamics = inputs["dynamics"]
        one_of("never", never, ("hardest", "unscored"))
        if found.epochs < 2:
            raise RequestError(f"{found.epochs} epoch recorded: expected two or more to forget between; train longer")
        values_N, never_N = counts(found.correct_SEN, found.error_SEN, hardest=never == "hardest")
        ids, known = inputs["ids"], inputs.get("unscored", {})
        unlearned = {ids[i]: "no net ever got it right" for i in np.flatnonzero(never_N).tolist()}
        return assemble(values_N, {"ids": ids, "unscored": {**unlearned, **known}}, "no net saw it")


def counts(
    correct_SEN: NDArray[np.floating], error_SEN: NDArray[np.floating], *, hardest: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean transitions `[N]`, and which rows were seen but never right in any net.

    If `hardest`, those have the number of epochs plus half their mean error, which is above what any other row can
    have.
    """
    _, epochs, rows = correct_SEN.shape
    per_net, learned_N = [], np.zeros(rows, dtype=bool)
    for correct_EN in correct_SEN:
        count_N, right_N = forgotten(correct_EN)
        unlearned = float(epochs) if hardest else np.nan
        per_net.append(np.where(right_N | np.isnan(count_N), count_N, unlearned))
        learned_N |= right_N
    never_N = ~learned_N & ~np.isnan(mean_over_nets(correct_SEN, mean_of))
    more_N = np.where(never_N & hardest, np.nan_to_num(mean_over_nets(error_SEN, mean_of)) / 2, 0.0)
    return mean_of(per_net) + more_N, never_N
