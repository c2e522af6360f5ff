"""Cartography: how sure of a row's label training is, and how much that moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dataworth.dynamics import Dynamics, mean_of
from dataworth.errors import RequestError
from dataworth.results import Scored
from dataworth.scores.forgetting import counts
from dataworth.scores.nets import scored_by_nets
from dataworth.scores.over_epochs import first_epochs, mean_and_spread, one_of

Measure = Literal["variability", "confidence", "correctness", "forgetfulness", "threshold_closeness"]


class Cartography:
    """A measure of p_y over epochs, mean over nets, oriented so that hard or ambiguous rows come first.

    Source: Swayamdipta et al. 2020, arXiv 2009.10795. `variability` is the standard deviation of p_y, `confidence` its
    mean, `correctness` the number of epochs with the right answer, `forgetfulness` that of `forgetting`,
    `threshold_closeness` confidence * (1 - confidence). Low confidence and correctness come first, so these two are
    given with a minus.
    """

    name = "cartography"
    kinds = frozenset({"classify"})
    needs = frozenset({"dynamics"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any], *, measure: Measure = "variability", epochs: int = 0) -> Scored:
        """Score every row from the first `epochs` of `dynamics` (0: all).

        Raises:
            RequestError: An unknown measure, epochs that weren't recorded, or one epoch for a measure of change.
        """
        found: Dynamics = inputs["dynamics"]
        one_of("measure", measure, get_args(Measure))
        read = first_epochs(found.epochs, epochs, found.epochs)
        if read < 2 and measure in ("variability", "forgetfulness"):
            raise RequestError(f"{measure} of {read} epoch: expected two or more; train longer, or measure=confidence")
        return scored_by_nets(self.name, _measured(found, measure, read), inputs, "too few epochs saw it")


def _measured(found: Dynamics, measure: str, read: int) -> list[NDArray[np.float64]]:
    """The measure `[N]` by each net."""
    p_SEN, correct_SEN = found.p_SEN[:, :read], found.correct_SEN[:, :read]
    if measure == "variability":
        return [mean_and_spread(p_EN)[1] for p_EN in p_SEN]
    if measure == "confidence":
        return [-mean_of(p_EN) for p_EN in p_SEN]
    if measure == "correctness":
        return [-read * mean_of(correct_EN) for correct_EN in correct_SEN]
    if measure == "forgetfulness":
        return counts(correct_SEN, found.error_SEN[:, :read], hardest=True)[0]
    return [mean_N * (1 - mean_N) for mean_N in map(mean_of, p_SEN)]
