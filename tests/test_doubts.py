"""The warning where a pick gathers labels that its score speaks against."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.picks.ballots import scored

import dataworth as dw
from dataworth import artefacts, plugins
from dataworth.doubts import warnings_of
from dataworth.records import Budget


def warned(
    values: np.ndarray, keep: int, method: str = "aum", pick: str = "top_k", session: Any = None, **given: Any
) -> list[str]:
    score, rule = plugins.load("scores", method), plugins.load("picks", pick)
    inputs = scored(values, score.higher, ends=getattr(score, "ends", ("lowest", "highest")))
    chosen = rule(inputs, Budget("rows", keep), seed=0, **given)
    return warnings_of(session, score, rule, inputs["score:x"], chosen)


MARGINS = np.concatenate([np.linspace(-2, -0.1, 15), np.linspace(0.1, 3, 85)])


def test_the_hard_end_gathers_wrong_labels_and_says_what_to_type() -> None:
    (line,) = warned(MARGINS, 30)
    assert line.startswith("warning: 15 of the 30 kept rows (50 %, of all rows 15 %) have a label that lost")
    assert "top_k keeps hard rows by aum" in line
    assert line.endswith("--pick bottom_k; to leave out only the hardest: --pick stratified --option cut=0.15")
    assert len(warned(MARGINS, 70)) == 1 and not warned(MARGINS, 95), "95 random rows may well hold all of them"
    assert len(warned(MARGINS, 30, "pvi")) == 1


def test_what_is_advised_takes_the_warning_away() -> None:
    assert warned(MARGINS, 30, pick="bottom_k") == []
    assert warned(MARGINS, 30, pick="stratified", cut=0.15) == []
    assert warned(MARGINS, 30, pick="random") == []
    assert warned(MARGINS, 100) == [], "all rows gather nothing"


def test_nothing_is_said_without_doubted_labels_and_no_share_is_advised_where_most_are() -> None:
    assert warned(MARGINS + 3, 30) == []
    assert warned(MARGINS, 30, "margin") == [], "labels aren't read"
    (line,) = warned(MARGINS - 1.5, 30)
    assert "bottom_k" in line and "stratified" not in line
    (line,) = warned(np.where(np.arange(100) < 8, -1, abs(MARGINS)), 30)
    assert line.endswith("cut=0.1"), "no less than the pick's own"


def test_rows_without_a_score_are_no_part_of_it() -> None:
    values = np.concatenate([MARGINS, np.full(900, np.nan)])
    (line,) = warned(values, 30)
    assert "of all rows 15 %" in line


def test_other_scores_of_trainings_are_asked_by_their_margins(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimpleNamespace(margin_SEN=MARGINS[None, None])
    ids = scored(MARGINS)["ids"]
    monkeypatch.setattr(artefacts, "resolve", lambda session, needs: {"ids": ids, **dict.fromkeys(needs, made)})
    (line,) = warned(-MARGINS, 30, "el2n")
    assert "15 of the 30" in line and "top_k keeps hard rows by el2n" in line
    assert warned(-MARGINS, 30, "grand") == [], "no training is made for a warning"


@pytest.mark.lm
def test_a_selection_tells_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    right_N, wrong_N = rng.integers(0, 2, 120), np.arange(120) < 15
    x_ND = (4 * np.eye(2, 5)[right_N] + rng.normal(size=(120, 5))).astype(np.float32)
    np.savez("pool.npz", x=x_ND, y=np.where(wrong_N, 1 - right_N, right_N))
    asked: dict[str, Any] = {"model": "linear", "keep": "30%", "workers": 0, "device": "cpu"}
    found = dw.select("pool.npz", method="forgetting", **asked)
    assert found.explain().count("warning: ") == 1
    assert "kept: among the hardest by forgetting" in found.explain()
    easy = dw.select("pool.npz", method="forgetting", pick="bottom_k", **asked)
    assert "warning: " not in easy.explain() and "kept: among the easiest by forgetting" in easy.explain()
