"""Wrong labels at a tiny size: every method's figures, resumption, and figures by hand."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from reproductions import label_noise

pytestmark = [pytest.mark.lm, pytest.mark.data]
TINY = "--rows 200 --epochs 1 --width 2 --seeds 2 --folds 2 --goal-rows 30 --device cpu".split()


def test_all_methods_are_judged_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in_for_cleanlab(monkeypatch)
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "cache"))
    where = ["--work", str(tmp_path / "w"), "--ledger", str(tmp_path / "l.jsonl"), "--out", str(tmp_path / "o.json")]
    label_noise.main([*TINY, *where])
    told = capsys.readouterr().out
    assert told.startswith("not reproduced: below the stated sizes (rows, epochs, width, seeds, folds, goal_rows)")
    found = json.loads((tmp_path / "o.json").read_text())
    methods = {m["method"]: m for m in found["methods"]}
    ours = {"aum", "aum_threshold", "el2n", "pvi", "knn_shapley", "knn_shapley, clean goal"}
    assert set(methods) == {*ours, "cleanlab"}
    assert 0.3 < found["wrong"] < 0.5 and all(m["unscored"] == 0 for m in methods.values())
    assert all(0 <= m["hits"]["value"] <= 1 and 0 <= m["auroc"]["value"] <= 1 for m in methods.values())
    assert "minus_peer" in methods["aum"] and "minus_peer" not in methods["cleanlab"]
    monkeypatch.setattr(label_noise.Case, "net", None)  # everything is there
    label_noise.main([*TINY, *where])
    assert capsys.readouterr().out == told


def _stand_in_for_cleanlab(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer isn't among the project's dependencies."""

    def quality(labels, p):
        return p[np.arange(len(labels)), labels]

    found = types.ModuleType("cleanlab.filter"), types.ModuleType("cleanlab.rank")
    found[0].find_label_issues = lambda labels, p, n_jobs: quality(labels, p) < 0.1
    found[1].get_label_quality_scores = quality
    for module in (types.ModuleType("cleanlab"), *found):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_figures_by_hand() -> None:
    wrong_N = np.array([True, False, True, False])
    found = label_noise.figures(np.array([4.0, 3.0, np.nan, 1.0]), wrong_N, np.array([True, True, False, False]))
    assert found["hits"] == 0.5 and found["unscored"] == 1
    assert found["auroc"] == pytest.approx(0.5), "the unscored row is below all others"
    assert (found["flagged"], found["precision"], found["recall"]) == (2, 0.5, 0.5)


def test_the_noise_is_the_published_one() -> None:
    import argparse

    case = label_noise.Case(argparse.Namespace(rows=50_000, goal_rows=0), 0)
    assert case.wrong_N.mean() == pytest.approx(0.402, abs=5e-4)
