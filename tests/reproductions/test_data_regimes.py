import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from reproductions.relu_students import Students

from reproductions import data_regimes

LEDGER = Path(data_regimes.__file__).parent / "results" / "data_regimes.jsonl"
TINY = ["--teacher", "60", "--seeds", "2", "--narrow", "10", "--draws", "2", "--wide", "120", "--width", "16"]
TINY += ["--student-seeds", "2", "--repetitions", "20", "--dimensions", "2", "4", "--many-rows", "80", "160", "320"]
TINY += ["--few-rows", "10", "20", "40", "--student-dimensions", "2", "--student-rows", "16", "64", "256"]
TINY += ["--steps", "20", "400", "--features", "20", "40", "80", "--rows", "20", "40", "80"]


@pytest.mark.lm
def test_a_tiny_run_says_that_it_is_none_and_resumes(tmp_path, capsys):
    pytest.importorskip("torch")
    ledger = tmp_path / "d.jsonl"
    data_regimes.main([*TINY, "--ledger", str(ledger)])
    told = capsys.readouterr().out
    assert told.startswith("not reproduced: below the stated sizes (teacher, seeds, narrow,")
    for part in ("limited by variance:", "falls from 2 to 4 by", "in fewer or more steps:", "peak in rows:"):
        assert part in told
    lines = ledger.read_text().splitlines()
    data_regimes.main([*TINY, "--ledger", str(ledger), "--json"])
    again = json.loads(capsys.readouterr().out)
    assert ledger.read_text().splitlines() == lines
    assert again == json.loads(ledger.with_suffix(".json").read_text())
    few, many = again["steps"]
    assert (few["steps"], many["steps"]) == (20, 400)
    assert many["exponent"]["value"] > few["exponent"]["value"]
    assert many["divided by"] == pytest.approx(np.array(few["test"]) / many["test"])
    at_peak = {p["features"]: p for p in again["peak"]["features"]}
    assert at_peak[40]["theory"] is None and at_peak[80]["theory"] == pytest.approx(1.98, abs=0.01)


@pytest.mark.lm
def test_students_of_a_chain_start_alike_and_more_steps_fit_their_rows():
    pytest.importorskip("torch")
    chain = Students(2, 16, (16, 64), 0)
    few, many, again = chain.train(10), chain.train(300), chain.train(300)
    assert many == again
    assert max(many["train"]) < 0.2 * min(few["train"])
    # The sizes are told apart by rows alone: their own rows fit better than others', most of all the fewest.
    gap = np.array(many["test"]) / many["train"]
    assert gap[0] > gap[1] and gap[0] > 2
    assert Students(2, 16, (16, 64), 1).train(10) != few
    assert all(1 <= step <= 300 for step in many["step"])


def figures(low=1.0, high=1.1, fall=0.2, few=0.3, many=1.2, worst=40, mean=2.0):
    """A result as `claims` reads it."""
    peak = [
        {
            "rows": 40,
            "features": p,
            "median": 9.0 if p == worst else 1.0,
            "mean": {"value": mean},
            "theory": None if p == 40 else 2.0,
        }
        for p in (20, 40, 80)
    ]
    turned = [{**p, "rows": p["features"], "features": p["rows"]} for p in peak]
    steps = [{"dimensions": 2, "exponent": {"low": e - 0.05, "high": e + 0.05}} for e in (few, many)]
    return {
        "variance": [{"exponent": {"low": low, "high": high}}],
        "resolution": {
            "falls": [{"to": 3, "by": {"low": 0.4}}, {"to": 4, "by": {"low": fall}}, {"to": 6, "by": {"low": -1.0}}]
        },
        "steps": steps,
        "peak": {"features": peak, "rows": turned},
    }


def test_each_claim_follows_from_its_own_figures():
    assert list(data_regimes.claims(figures()).values()) == [True] * 5
    wrong = [{"low": 0.8}, {"fall": -0.1}, {"few": 0.7}, {"worst": 80}, {"mean": 2.5}]
    for n, changed in enumerate(wrong):
        held = list(data_regimes.claims(figures(**changed)).values())
        assert held == [m != n for m in range(5)], changed
    assert not next(iter(data_regimes.claims(figures(high=1.4)).values()))


def test_the_exponent_of_a_known_curve():
    sizes = [10, 20, 40, 80]
    assert data_regimes.exponent(sizes, 3.0 * np.array(sizes) ** -0.7) == pytest.approx(0.7)


def test_the_committed_figures_follow_from_the_committed_ledger(tmp_path, capsys):
    ledger = tmp_path / LEDGER.name
    shutil.copy(LEDGER, ledger)
    data_regimes.main(["--ledger", str(ledger), "--json"])
    again = json.loads(capsys.readouterr().out)
    kept = json.loads(LEDGER.with_suffix(".json").read_text())
    assert ledger.read_bytes() == LEDGER.read_bytes()  # every cell was there
    assert again["verdict"] == kept["verdict"] == "at the stated sizes"
    assert again["claims"] == kept["claims"] == data_regimes.claims(kept)
    assert all(kept["claims"].values())
    for now, then in zip(again["variance"], kept["variance"], strict=True):
        assert now["exponent"] == pytest.approx(then["exponent"], abs=1e-6)
        assert now["with a fitted floor"] == pytest.approx(then["with a fitted floor"], abs=1e-2)
