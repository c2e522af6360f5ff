"""Margin: by how much the learner prefers its first answer to its second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.results import Scored
from dataworth.scores.assemble import assemble
from dataworth.scores.probabilities import top_two


class Margin:
    """The largest class probability minus the second largest; low is uncertain and kept. Labels aren't read.

    Source: Scheffer et al. 2001; for the margin of the given label all through training see `aum`.
    """

    name = "margin"
    kinds = frozenset({"classify"})
    needs = frozenset({"probabilities"})
    higher: Literal["keep", "drop"] = "drop"
    ends = ("most uncertain", "most certain")

    def __call__(self, inputs: Mapping[str, Any]) -> Scored:
        """Score every row from `probabilities` [N, K].

        Raises:
            NonsenseRefused: Numbers that are no probabilities.
        """
        top_N2 = top_two(inputs["probabilities"])
        return assemble(top_N2[:, 0] - top_N2[:, 1], inputs, "it has no prediction")
