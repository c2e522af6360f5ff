"""Forecasts in the verbs: told by plan and select, carried with the subset, scored by a proof, learned from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.made_proofs import SIZES, proof_result

import dataworth as dw
from dataworth.errors import FormatError
from dataworth.forecasts import LEDGER, is_about, keep_outcome, known_outcomes, score_forecasts
from dataworth.proof.forecast import Forecast, Outcome, top_differential


def rows(path: Path, count: int, seed: int = 0) -> Path:
    rng, words = np.random.default_rng(seed), "red blue green stone river cloud pump gate".split()
    made = []
    for n in range(count):
        made.append({"prompt": f"{n} " + " ".join(rng.choice(words, 4)), "completion": str(rng.choice(words))})
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_pick_carries_its_forecast_and_plan_foretells_the_same(tmp_path: Path, cache: Path) -> None:
    pool, goal = rows(tmp_path / "pool.jsonl", 200), rows(tmp_path / "goal.jsonl", 10, seed=1)
    how = {"goal": str(goal), "method": "bm25", "keep": 20}
    found = dw.select(str(pool), **how, run=str(tmp_path / "run"), out=tmp_path / "picked.jsonl")
    assert "forecast of worth: 20 [" in found.explain() and "(0 proofs of bm25 so far)" in found.explain()
    beside = json.loads((tmp_path / "picked.jsonl.dataworth" / "origin.json").read_text())
    assert beside == json.loads((tmp_path / "run" / "origin.json").read_text())
    told = Forecast.from_dict(beside["forecast"])
    # Ties share their ranks, so the differential of a pick is at most that of distinct scores.
    assert 0.8 * top_differential(20, 200) < told.differential <= top_differential(20, 200) + 1e-9
    planned = dw.plan(str(pool), **how, calibrate=False)
    assert any(note.startswith("forecast of the pick's worth: 20 [") for note in planned.notes)
    for n, more in enumerate(({"method": "bm25", "pick": "random"}, {"method": "random"})):
        drawn = dw.select(str(pool), goal=str(goal), keep=20, run=str(tmp_path / f"drawn{n}"), **more)
        assert "forecast of worth: 20 [10 .. 42] random rows (0 proofs of random so far)" in drawn.explain()
    assert "forecast" not in dw.select(str(pool), method="length", keep=20, run=str(tmp_path / "no-goal")).explain()


def test_a_proof_scores_its_forecasts_once_and_the_next_forecast_knows(tmp_path: Path, cache: Path) -> None:
    from dataclasses import replace

    proof = proof_result(tmp_path / "run", subjects=("mine",))
    rows_of = next(int(a.rows) for a in proof.arms if a.name == "mine")
    told = Forecast("bm25", rows_of, 2.0, float(rows_of), 1.0, float(SIZES[-1]), 0.9, 0)
    proof = replace(proof, sizes=replace(proof.sizes, forecast={"mine": told}))
    assert f"mine: foretold was {told}: it held" in proof.explain()
    for _ in range(2):
        told_so_far = score_forecasts(cache, proof, {"mine": "key"})
        assert told_so_far == ["1 of 1 forecasts so far held what 90% of them should"]
    (outcome,) = known_outcomes(cache)
    value = proof.sizes.worth["mine"].value
    assert value is not None and outcome.y == pytest.approx(np.log2(value / rows_of)) and outcome.method == "bm25"
    assert score_forecasts(cache, replace(proof, sizes=replace(proof.sizes, forecast={})), {}) == []
    pool, goal = rows(tmp_path / "pool.jsonl", 200), rows(tmp_path / "goal.jsonl", 10, seed=1)
    again = dw.select(str(pool), goal=str(goal), method="bm25", keep=20, run=str(tmp_path / "taught"))
    assert "(1 proof of bm25 so far)" in again.explain()


def test_a_torn_line_is_left_behind_and_a_damaged_one_is_told(cache: Path) -> None:
    keep_outcome(cache, "a", Outcome("less", 2.0, 1.0, True))
    path = cache / LEDGER
    path.write_text(path.read_text() + '{"key": "b", "meth')
    assert len(known_outcomes(cache)) == 1
    keep_outcome(cache, "c", Outcome("less", 2.0, 0.5, False))
    assert [o.y for o in known_outcomes(cache)] == [1.0, 0.5]
    whole = path.read_text()
    for bad in ("{}\n", "\xff\n", '{"key": "d", "method": "less", "differential": "x", "y": 1, "held": true}\n'):
        path.write_bytes(bad.encode("latin-1") + whole.encode())
        with pytest.raises(FormatError, match=r"forecasts\.jsonl line 1 is no outcome"):
            known_outcomes(cache)


def test_a_forecast_is_scored_only_by_proofs_of_what_it_is_about() -> None:
    of = {"pool": "p", "goal": "g", "picked": "r", "learner": None}
    proved = {"pool": "p", "goal": "g", "picked": "r", "learner": "l"}
    assert is_about(of, proved) and is_about({**of, "learner": "l"}, proved)
    assert not is_about(None, proved) and not is_about({**of, "learner": "other"}, proved)
    assert not any(is_about({**of, key: "other"}, proved) for key in ("pool", "goal", "picked"))
