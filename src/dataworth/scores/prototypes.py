"""Prototypes: how unlike a row is to the center of its cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from dataworth.results import Scored
from dataworth.scores.assemble import assemble


class Prototypes:
    """1 - cosine with the nearest k-means centroid: far is hard, near is typical. Label-free given the encoder.

    Source: the self-supervised prototypes of Sorscher et al. 2022, arXiv 2206.14486. No label of the pool is read, but
    those the encoder was trained with are in its vectors: the features of a net that `--model` names make it a
    supervised score, and `--encoder ssl`, which sees images alone, a label-free one.
    """

    name = "prototypes"
    kinds = frozenset({"sft", "text", "classify"})
    needs = frozenset({"clusters"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any], *, direction: Literal["high", "low"] = "high") -> Scored:
        """Score every row of a cluster; `direction=low` prefers the typical rows (scarce data).

        Raises:
            RequestError: Another direction.
        """
        distance_N = 1.0 - inputs["clusters"].cosine_N.astype(np.float64)
        return assemble(distance_N, inputs, "it has no usable vector", direction)
