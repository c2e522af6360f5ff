"""LESS: cosine of a row's gradient with the goal's gradients, summed over checkpoints of a short warm-up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from dataworth.errors import RequestError
from dataworth.results import Scored, Similarity
from dataworth.scores.assemble import Reduce, assemble, over_subtasks


class Less:
    """sum_c w_c * cos(pool gradient, goal gradient) at checkpoint c, reduced over goal rows and subtasks.

    Source: Xia et al. 2024, arXiv 2402.04333, and its repository. `variant=mean` averages the cosines of a
    subtask's goal rows (repository); `centroid` is the cosine with their mean gradient (the paper's Eq. 2). Weights
    are the checkpoints' mean learning rates, normalised. Absolute values mean nothing; only differences within one
    goal and learner do.
    """

    name = "less"
    kinds = frozenset({"sft", "text"})
    needs = frozenset({"similarity"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(
        self,
        inputs: Mapping[str, Any],
        *,
        variant: Literal["mean", "centroid"] = "mean",
        reduce: Reduce = "max",
    ) -> Scored:
        """Score every row from `similarity`.

        Raises:
            RequestError: An unknown variant or reduction.
        """
        if variant not in ("mean", "centroid"):
            raise RequestError(f"variant={variant!r}: expected mean or centroid; correct --option variant")
        found: Similarity = inputs["similarity"]
        table_CNG = found.mean_CNG if variant == "mean" else found.centroid_CNG
        influence_NG = np.zeros(table_CNG.shape[1:], dtype=np.float64)
        for weight, table_NG in zip(found.weight_C, table_CNG, strict=True):
            influence_NG += weight * table_NG
        known = {"ids": inputs["ids"], "unscored": {**inputs.get("unscored", {}), **found.unscored}}
        return assemble(over_subtasks(influence_NG, reduce), known, "it has no gradient features")
