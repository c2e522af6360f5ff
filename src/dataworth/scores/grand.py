"""GraNd: the length of a row's gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dataworth.results import Scored
from dataworth.scores.nets import scored_by_nets


class GraNd:
    """Mean over nets of the norm of the gradient of a row's loss; high is hard, or mislabelled.

    Source: Paul et al. 2021, arXiv 2107.07075. Their claim that it works at initialisation was withdrawn. For the last
    layer with bias the norm is EL2N * sqrt(1 + ||h||^2), h being the layer's input.
    """

    name = "grand"
    kinds = frozenset({"classify"})
    needs = frozenset({"grad_norms"})
    higher: Literal["keep", "drop"] = "keep"
    ends = ("easiest", "hardest")

    def __call__(self, inputs: Mapping[str, Any]) -> Scored:
        """Score every row from `grad_norms` [S, N]; a net without a row's gradient is left out for it."""
        return scored_by_nets(self.name, list(inputs["grad_norms"]), inputs, "it has no gradient")
