"""EL2N: how far a net's probabilities are from the label early in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.dynamics import Dynamics, mean_of
from dataworth.results import Scored
from dataworth.scores.nets import scored_by_nets
from dataworth.scores.over_epochs import first_epochs, one_of

_EPOCH, _SUMMED = 20, 10
_SHARE = 2 / 3
"""Where in a shorter training the error is read: at the end the learning rate is near 0 and the net knows its rows."""


class EL2N:
    """Mean over nets of ||softmax(z) - onehot(y)||_2 at one epoch, in [0, sqrt 2]; high is hard, or mislabelled.

    Source: Paul et al. 2021, arXiv 2107.07075. `variant=ccs` sums the norm over the first epochs, as Zheng et al. 2023
    (arXiv 2210.15809) do. One net's numbers differ much from another's: use five or more.
    """

    name = "el2n"
    kinds = frozenset({"classify"})
    needs = frozenset({"dynamics"})
    higher: Literal["keep", "drop"] = "keep"
    ends = ("easiest", "hardest")

    def __call__(
        self, inputs: Mapping[str, Any], *, epoch: int = 0, variant: Literal["norm", "ccs"] = "norm"
    ) -> Scored:
        """Score every row from `dynamics`.

        `epoch` counts from 1 and says which epoch is read, or with `variant=ccs` how many are summed. 0 is the earlier
        of epoch 20 and two thirds of those recorded; with `ccs` it is 10, or all where there are fewer. In a sum, an
        epoch that didn't see a row counts as the row's mean.

        Raises:
            RequestError: An epoch that wasn't recorded, or an unknown variant.
        """
        found: Dynamics = inputs["dynamics"]
        if one_of("variant", variant, ("norm", "ccs")) == "norm":
            at = first_epochs(found.epochs, epoch, _early(found.epochs)) - 1
            per_net = [error_EN[at] for error_EN in found.error_SEN]
        else:
            summed = first_epochs(found.epochs, epoch, _SUMMED)
            per_net = [mean_of(error_EN[:summed]) * summed for error_EN in found.error_SEN]
        return scored_by_nets(self.name, per_net, inputs, "no net saw it in the epoch that is read")


def _early(recorded: int) -> int:
    """The epoch that is read unless another is asked for."""
    return min(_EPOCH, max(1, round(_SHARE * recorded)))
