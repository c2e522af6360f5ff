"""Length: the baseline that many scores turn out to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from dataworth.results import Scored
from dataworth.scores.assemble import assemble


class Length:
    """Characters of the row's text; longer is higher.

    Source: Zhao et al. 2024, arXiv 2402.04833 ("Long Is More for Alignment"), which ranks responses; here it is all the
    text a learner reads.
    """

    name = "length"
    kinds = frozenset({"sft", "text", "preference", "rl", "classify"})
    needs = frozenset({"text:pool"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any]) -> Scored:
        """Score every row; rows without text are unscored."""
        values = np.fromiter(map(len, inputs["text:pool"]), dtype=np.float64)
        values[values == 0] = np.nan
        return assemble(values, inputs, "it is empty")
