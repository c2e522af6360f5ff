"""Loss: how badly the learner predicts a row's response before any training on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.results import Scored
from dataworth.scores.assemble import assemble


class Loss:
    """Mean negative log-likelihood of the response's tokens under the untouched learner (nats a token).

    Source: perplexity selection as in Marion et al. 2023, arXiv 2309.04564. The right direction depends on the pool:
    high-loss rows are new to the learner, or noise.
    """

    name = "loss"
    kinds = frozenset({"sft", "text"})
    needs = frozenset({"losses"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any], *, direction: Literal["high", "low"] = "high") -> Scored:
        """Score every row from `losses` [N] (NaN where there is none); `direction=low` prefers what the learner knows.

        Raises:
            RequestError: Another direction.
        """
        return assemble(inputs["losses"], inputs, "it has no loss", direction)
