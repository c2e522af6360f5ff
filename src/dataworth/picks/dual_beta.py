"""DUAL's Beta sampling: uncertain rows, and the easier ones of them the more is pruned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.dynamics import Dynamics
from dataworth.errors import RequestError
from dataworth.picks.ledger import Ballot, within
from dataworth.picks.shares import kept_share
from dataworth.records import Budget, hash_unit
from dataworth.results import Selection

_SUM, _ANCHORS, _EDGE = 16.0, 10, 1e-6
_TEXTS = {
    "kept-drawn": "kept: drawn by its score and how likely its label was in training",
    "no-dynamics": "dropped: no training was recorded for it",
}


class DualBeta:
    """Rows drawn without replacement by score * BetaPDF(mean p_y; a, b), where a grows with the pruned share.

    Source: Cho et al. 2025 (see the score `dual`) and its repository: with r the pruned share and mu the mean p_y of
    the 10 highest scores, b = 15 (1 - mu) (1 - r^4) and a = 16 - b. Made for `dual`, whose scores are never negative.
    """

    name = "dual_beta"
    needs = frozenset({"score", "dynamics"})
    both_ends = False
    shares = frozenset({"epochs"})

    def __call__(
        self, inputs: Mapping[str, Any], budget: Budget, *, seed: int = 0, epochs: int = 30, power: float = 4.0
    ) -> Selection:
        """Pick; p_y is its mean over nets and the first `epochs` recorded; draws are by hash of id and seed.

        Rows with a score of 0 or below have no chance until all others are kept; if all have, the density alone
        decides.

        Raises:
            RequestError: A score whose low end is kept, no epoch, or a power that isn't positive.
        """
        if inputs.get("higher", "keep") == "drop":
            raise RequestError(
                "dual_beta multiplies by the score: expected one whose high end is kept; use --method dual"
            )
        if epochs < 1 or not power > 0:
            raise RequestError(f"epochs={epochs}, power={power}: expected 1 or more and above 0; correct --option")
        whole = Ballot.of(inputs)
        p_N = _mean_p(inputs["dynamics"], epochs)
        unseen = np.flatnonzero(~np.isnan(whole.value_N) & np.isnan(p_N))
        ballot = whole.without(unseen, "no-dynamics")
        by_score = ballot.ranking()
        pruned = 1.0 - kept_share(budget, by_score, inputs)
        a, b = beta_parameters(float(p_N[by_score[:_ANCHORS]].mean()) if len(by_score) else 0.0, pruned, power)
        chance_R = _log_chance(p_N[by_score], ballot.value_N[by_score], a, b)
        draw_R = hash_unit([ballot.ids[i] for i in by_score.tolist()], seed, "pick:dual_beta")
        order = _drawn(chance_R, draw_R, ballot.rank_N[by_score])
        kept, next_in_line, notes = within(budget, by_score[order], inputs)
        return ballot.select(
            kept,
            {"over-budget": next_in_line},
            kept_code="kept-drawn",
            rest_code="not-drawn",
            notes=notes,
            boundary={"beta_a": a, "beta_b": b},
            texts=_TEXTS,
        )


def beta_parameters(mu: float, pruned: float, power: float = 4.0) -> tuple[float, float]:
    """A and b of the density from the anchors' mean p_y and the pruned share; a / 16 is its mean."""
    b = 15.0 * (1.0 - mu) * (1.0 - pruned**power)
    return _SUM - b, b


def _mean_p(dynamics: Dynamics, epochs: int) -> NDArray[np.float64]:
    """Mean p_y over what nets and epochs saw of a row, one epoch at a time."""
    total_N = np.zeros(dynamics.p_SEN.shape[2])
    seen_N = np.zeros(len(total_N))
    for p_EN in dynamics.p_SEN:
        for each in p_EN[:epochs]:
            there = ~np.isnan(each)
            total_N += np.where(there, each, 0.0)
            seen_N += there
    return np.divide(total_N, seen_N, out=np.full(len(total_N), np.nan), where=seen_N > 0)


def _log_chance(p_R: NDArray[np.float64], score_R: NDArray[np.float64], a: float, b: float) -> NDArray[np.float64]:
    """Log of what a row's chance is proportional to; minus infinity without a positive score."""
    p_R = np.clip(p_R, _EDGE, 1 - _EDGE)  # the density may be infinite at the edges
    density_R = (a - 1) * np.log(p_R) + (b - 1) * np.log1p(-p_R)
    positive = score_R > 0
    if not positive.any():
        return density_R
    return np.where(positive, density_R + np.log(np.where(positive, score_R, 1.0)), -np.inf)


def _drawn(chance_R: NDArray[np.float64], draw_R: NDArray[np.float64], rank_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draws one after another in proportion to exp(chance), by Gumbel keys; without a chance last, by draw."""
    uniform_R = np.clip(draw_R, 1e-300, None)
    with np.errstate(divide="ignore"):
        key_R = chance_R - np.log(-np.log(uniform_R))
    return np.lexsort((rank_R, -uniform_R, -key_R))
