"""Least confidence: how little the learner believes in its own answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.results import Scored
from dataworth.scores.assemble import assemble
from dataworth.scores.probabilities import top_two


class LeastConfidence:
    """1 minus the largest class probability; high is uncertain. Labels aren't read.

    Source: Lewis and Gale 1994. DeepCore's code takes the largest logit, which isn't comparable between rows.
    """

    name = "least_confidence"
    kinds = frozenset({"classify"})
    needs = frozenset({"probabilities"})
    higher: Literal["keep", "drop"] = "keep"
    ends = ("most certain", "most uncertain")

    def __call__(self, inputs: Mapping[str, Any]) -> Scored:
        """Score every row from `probabilities` [N, K].

        Raises:
            NonsenseRefused: Numbers that are no probabilities.
        """
        return assemble(1 - top_two(inputs["probabilities"])[:, 0], inputs, "it has no prediction")
