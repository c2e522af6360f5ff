"""Labels that a score itself speaks against, where a pick gathers them: wrong labels lie at the hard end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth import artefacts
from dataworth.results import Pick, Score, Scored, Selection
from dataworth.scores.aum import AUM
from dataworth.session import Session

_CHANCE = 0.01
"""How likely as many random rows may hold as many such labels for the pick to be said to gather them."""
_CUT, _MOST = 0.1, 0.5
"""Least and largest share of the hardest to advise leaving out: a net that knows its rows by heart doubts too few, and
one that doubts most of them has learnt too little to tell."""


def warnings_of(session: Session, method: Score, pick: Pick, scored: Scored, selection: Selection) -> list[str]:
    """One line where the pick keeps more labels that the score speaks against than chance would; else none."""
    found = _against_labels(session, method, scored) if "score" in pick.needs else None
    if found is None:
        return []
    values_N, what = found
    known_N = ~np.isnan(values_N)
    doubted_N = known_N & (values_N < 0)
    rows, kept = int(known_N.sum()), int((known_N & selection.kept_N).sum())
    doubted, gathered = int(doubted_N.sum()), int((doubted_N & selection.kept_N).sum())
    if not gathered or _chance_of(gathered, rows, doubted, kept) > _CHANCE:
        return []
    share, cut = doubted / rows, max(_CUT, math.ceil(100 * doubted / rows) / 100)
    warning = (
        f"warning: {gathered:,} of the {kept:,} kept rows ({100 * gathered / kept:.0f} %, of all rows {100 * share:.0f}"
        f" %) have {what}, as wrong labels do: "
    )
    if pick.name == "bottom_k" or selection.turned or "easiest" not in getattr(method, "ends", ()):
        # Its other end may be no easier: rows that are surely wrong are as stable as those that are surely right.
        return [
            f"{warning}{pick.name} by {method.name} gathers those. To keep rows whose labels were believed: "
            "--method aum --pick bottom_k"
        ]
    return [
        f"{warning}{pick.name} keeps hard rows by {method.name}, where those gather. "
        "To keep the easiest instead: --pick bottom_k"
        + (f"; to leave out only the hardest: --pick stratified --option cut={cut:g}" if share <= _MOST else "")
    ]


def _chance_of(gathered: int, rows: int, doubted: int, kept: int) -> float:
    """How likely `kept` random rows hold `gathered` of the doubted ones or more."""
    from scipy import stats  # not above: every verb would wait a second for it

    return float(stats.hypergeom.sf(gathered - 1, rows, doubted, kept))


def _against_labels(session: Session, method: Score, scored: Scored) -> tuple[NDArray[np.float64], str] | None:
    """A number per row, negative where it speaks against the row's label, and what that means; None where none does.

    Scores that don't say it of themselves (`doubt`) are asked by the margins of the trainings that they read.
    """
    if hasattr(method, "doubt"):
        return scored.values_N, str(method.doubt)
    if "dynamics" not in method.needs:
        return None
    inputs: dict[str, Any] = artefacts.resolve(session, AUM.needs)
    return AUM()(inputs).values_N, AUM.doubt
