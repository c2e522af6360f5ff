"""AUM: the margin of a row's label over the other classes, all through training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.dynamics import Dynamics, mean_of
from dataworth.results import Scored
from dataworth.scores.nets import scored_by_nets


class AUM:
    """Mean over epochs and nets of the label's logit minus the largest other one; low is hard, negative mislabelled.

    Source: Pleiss et al. 2020, arXiv 2001.10528. The low end is kept, as "keep hard" has it in data pruning; in a pool
    with wrong labels take `--pick bottom_k`, `threshold` or `stratified`, or the score `aum_threshold`.
    """

    name = "aum"
    kinds = frozenset({"classify"})
    needs = frozenset({"dynamics"})
    higher: Literal["keep", "drop"] = "drop"
    ends = ("hardest", "easiest")
    doubt = "a label that lost to another class over the training"
    """What a value below 0 says."""

    def __call__(self, inputs: Mapping[str, Any]) -> Scored:
        """Score every row from `dynamics`; epochs that didn't see a row are left out for it."""
        found: Dynamics = inputs["dynamics"]
        per_net = [mean_of(margin_EN) for margin_EN in found.margin_SEN]
        return scored_by_nets(self.name, per_net, inputs, "no net saw it")
