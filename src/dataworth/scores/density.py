"""Density: how far a row is from its nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from dataworth.errors import RequestError
from dataworth.results import Scored
from dataworth.scores.assemble import assemble


class Density:
    """Mean of 1 - cosine over the k nearest neighbours: high is isolated (rare, or broken), 0 is a row with k copies.

    Source: the usual k-nearest-neighbour isolation score (Ramaswamy et al. 2000 rank by the k-th distance; the mean is
    steadier). A row with fewer than k neighbours takes those it has.
    """

    name = "density"
    kinds = frozenset({"sft", "text", "classify"})
    needs = frozenset({"neighbours"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(
        self, inputs: Mapping[str, Any], *, nearest: int = 5, direction: Literal["high", "low"] = "high"
    ) -> Scored:
        """Score every row that has neighbours; `direction=low` prefers rows in crowds.

        Raises:
            RequestError: `nearest` that isn't 1 to the number of neighbours there are, or another direction.
        """
        cosine_Nk = inputs["neighbours"].cosine_Nk
        if not 1 <= nearest <= cosine_Nk.shape[1]:
            raise RequestError(
                f"nearest={nearest}: expected 1 to {cosine_Nk.shape[1]} neighbours; correct --option nearest"
            )
        near_Nk = cosine_Nk[:, :nearest].astype(np.float64)
        there_N = (~np.isnan(near_Nk)).sum(axis=1)
        # Rounded: cosines of copies are 1 up to float32, and a mean adds in whatever order numpy likes.
        far_N = np.round(1.0 - np.nansum(near_Nk, axis=1) / np.where(there_N > 0, there_N, np.nan), 9)
        return assemble(far_N, inputs, "it has no neighbours", direction)
