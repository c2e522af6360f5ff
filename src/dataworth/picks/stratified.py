"""Stratified: all of the score's range, without its hardest end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.dynamics import Dynamics, mean_of
from dataworth.errors import RequestError
from dataworth.picks.ledger import Ballot, within
from dataworth.picks.shares import passed_over
from dataworth.records import Budget, hash_unit
from dataworth.results import Selection

_TEXTS = {
    "kept-stratified": "kept: drawn at random within its stratum of the score",
    "cut-hardest": "dropped: among the hardest, which are cut as likely mislabelled",
    "cut-top": "dropped: among the {best} by {score}, which are cut as asked",
    "not-drawn": "dropped: not drawn",
    "no-dynamics": "dropped: no training was recorded for it",
}


AS_SCORED = -1.0
"""The default of `cut`: by which end of the score is kept."""


class Stratified:
    """Coverage-centric selection: cut the hardest, then draw evenly from strata of equal width of the score.

    Source: CCS, Zheng et al. 2023, arXiv 2210.15809, and its repository: 50 strata between the smallest and the largest
    score that are left; each, the smallest first, gives min(its size, an equal share of what is still wanted). Here the
    last stratum is closed on the right, where the repository multiplies the maximum by 1.0001.
    """

    name = "stratified"
    needs = frozenset({"score"})
    needs_by: ClassVar[Mapping[tuple[str, str], frozenset[str]]] = {("cut_by", "aum"): frozenset({"dynamics"})}

    def __call__(
        self,
        inputs: Mapping[str, Any],
        budget: Budget,
        *,
        seed: int = 0,
        cut: float = AS_SCORED,
        strata: int = 50,
        cut_by: Literal["score", "aum"] = "score",
    ) -> Selection:
        """Pick; `cut` is the share (from 1: number) of eligible rows dropped from the top of the ranking.

        Without it that is a tenth where the score calls that end the hardest, as CCS does, and else none: the best of
        another score are no wrong labels. With `cut_by=aum` it is a tenth of the lowest AUM in `dynamics` (the mean
        margin of their label), and rows without one are dropped. A budget of rows that what is left can't
        fill cuts fewer. Within a stratum rows are drawn by hash of id and seed.

        Raises:
            RequestError: No stratum, another word for `cut_by`, a negative cut, or one that leaves no row of a token
                budget.
        """
        if strata < 1 or cut_by not in ("score", "aum"):
            raise RequestError(
                f"strata={strata}, cut_by={cut_by!r}: expected at least 1, and score or aum; correct --option"
            )
        ballot = Ballot.of(inputs)
        ranking = ballot.ranking()
        if cut_by == "aum":
            aum_N = _aum(inputs["dynamics"])
            ballot = ballot.without(ranking[np.isnan(aum_N[ranking])], "no-dynamics")
            ranking = ballot.ranking()
            ranking = ranking[np.lexsort((ballot.rank_N[ranking], aum_N[ranking]))]
        hard = cut_by == "aum" or ballot.words["best"] == "hardest"
        if cut == AS_SCORED:
            cut = 0.1 if hard else 0.0
        hardest = passed_over("cut", cut, ranking, budget, inputs)
        rows = ranking[hardest:]
        draw_R = hash_unit([ballot.ids[i] for i in rows.tolist()], seed, "pick:stratified")
        order = _level(_strata(ballot.value_N[rows], strata), draw_R, ballot.rank_N[rows])
        kept, next_in_line, notes = within(budget, rows[order], inputs)
        return ballot.select(
            kept,
            {"cut-hardest" if hard else "cut-top": ranking[:hardest], "over-budget": next_in_line},
            kept_code="kept-stratified",
            rest_code="not-drawn",
            notes=notes,
            texts=_TEXTS,
        )


def _aum(dynamics: Dynamics) -> NDArray[np.float64]:
    """AUM of each row, as the score `aum` has it."""
    return mean_of(mean_of(margin_EN) for margin_EN in dynamics.margin_SEN)


def _strata(value_R: NDArray[np.float64], strata: int) -> NDArray[np.int64]:
    """The stratum of each value, the last one closed on the right; one stratum if all are equal."""
    low, width = (value_R.min(), np.ptp(value_R)) if len(value_R) else (0.0, 0.0)
    if not width > 0:
        return np.zeros(len(value_R), dtype=np.int64)
    return np.minimum(((value_R - low) / width * strata).astype(np.int64), strata - 1)


def _level(stratum_R: NDArray[np.int64], draw_R: NDArray[np.float64], rank_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """An order of which every beginning is the allotment by water-filling.

    Strata take turns, each giving its next row by draw, larger strata first (so that what an equal share leaves over
    comes from them, as it does when the smallest are served first and each gets the floor of an equal share).
    """
    size = np.bincount(stratum_R)
    by_draw = np.lexsort((rank_R, draw_R, stratum_R))
    starts = np.concatenate([[0], np.cumsum(size)])[:-1]
    turn_R = np.empty(len(stratum_R), dtype=np.int64)
    turn_R[by_draw] = np.arange(len(stratum_R)) - starts[stratum_R[by_draw]]
    return np.lexsort((-stratum_R, -size[stratum_R], turn_R))
