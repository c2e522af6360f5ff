"""Perplexity: the loss as the number of tokens the learner hesitates between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from dataworth.results import Scored
from dataworth.scores.assemble import assemble


class Perplexity:
    """exp of the mean negative log-likelihood of the response's tokens; ranks rows as `loss` does.

    Source: Marion et al. 2023, arXiv 2309.04564, where the middle of the ranking did best (`--pick band`).
    """

    name = "perplexity"
    kinds = frozenset({"sft", "text"})
    needs = frozenset({"losses"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any], *, direction: Literal["high", "low"] = "high") -> Scored:
        """Score every row from `losses` [N] (NaN where there is none); `direction=low` prefers what the learner knows.

        Raises:
            RequestError: Another direction.
        """
        with np.errstate(over="ignore"):  # a loss beyond float64's exp is unscored by `assemble`
            values_N = np.exp(np.asarray(inputs["losses"], dtype=np.float64))
        return assemble(values_N, inputs, "it has no finite perplexity", direction)
