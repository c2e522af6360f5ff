"""Entropy: how undecided the learner is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.results import Scored
from dataworth.scores.assemble import assemble


class Entropy:
    """Entropy (nats) of the learner's prediction, of a class or in the mean of a response's tokens; high is uncertain.

    Source: uncertainty sampling, e.g. Settles 2009. DeepCore's code keeps the most certain rows in its unbalanced
    branch; here the most uncertain ones are kept.
    """

    name = "entropy"
    kinds = frozenset({"classify", "sft", "text"})
    needs = frozenset({"entropies"})
    higher: Literal["keep", "drop"] = "keep"
    ends = ("most certain", "most uncertain")

    def __call__(self, inputs: Mapping[str, Any]) -> Scored:
        """Score every row from `entropies` [N] (NaN where there is none)."""
        return assemble(inputs["entropies"], inputs, "it has no prediction")
