"""The source and its floor, the arms' tokens, and what follows from runs of a known law."""

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from dataworth.laws.power import PowerLaw
from dataworth.laws.repeated import effective_data

pytest.importorskip("torch")
from reproductions.repeated_epochs import Cell, Source, beside_fresh, harmful, held_out, r_star, summary, trained, up_to

from reproductions import repeated_epochs

pytestmark = pytest.mark.lm
COMMITTED = Path(repeated_epochs.__file__).parent / "results" / "repeated_epochs.json"
LAW = PowerLaw(2.0, 8.0, 0.3)


def runs_of(r_star, noise=0.0, seeds=3, law=LAW):
    out = []
    for seed, total, epochs in product(range(seeds), (500, 1000, 2000, 4000, 8000), (1, 2, 4, 8, 16)):
        loss = law.at(effective_data(total / epochs, epochs, r_star))
        loss *= math.exp(noise * np.random.default_rng([seed, total, epochs]).standard_normal())
        out.append({"total": total, "epochs": epochs, "seed": seed, "unique": total / epochs, "loss": loss})
    return out


def test_fewer_sequences_are_the_beginning_of_more_and_seeds_differ():
    source = Source()
    np.testing.assert_array_equal(source.sequences(30, 1), source.sequences(200, 1)[:30])
    assert (source.sequences(30, 1) != source.sequences(30, 2)).any(axis=1).all()


def test_the_floor_is_the_sum_over_all_paths_of_states():
    """Two tokens, one sequence: the forward algorithm against a plain sum over pairs of states."""
    source = Source()
    moves, says = source.tables
    tokens = source.sequences(5, 0)[:, :2]
    first = np.full(len(moves), 1 / len(moves)) @ moves
    naive = [-math.log((first * says[:, a]) @ moves @ says[:, b]) for a, b in tokens]
    assert source.floor(tokens) == pytest.approx(np.mean(naive) / 2)
    np.testing.assert_allclose(moves.sum(axis=1), 1)


def test_a_run_learns_and_is_the_same_again():
    cell = Cell(400, 2, 0, 16, 50)
    found = trained(cell)
    assert cell.unique == 200 and found["loss"] < math.log(64) and trained(cell) == found


@pytest.mark.parametrize("truth", [3.0, 15.0])
def test_r_star_and_the_largest_total_come_back_from_a_known_law(truth):
    found = r_star(runs_of(truth, noise=0.002))
    assert found["low"] < truth < found["high"] and found["value"] == pytest.approx(truth, rel=0.25) and found["n"] == 3
    assert set(r_star(runs_of(truth, seeds=1))) == {"value", "n"}
    clean = runs_of(truth)
    held = held_out(clean)
    assert held["r_star"] == pytest.approx(truth, rel=1e-3) and held["error"]["fitted"] < 1e-3
    assert min(held["error"][n] for n in repeated_epochs.FIXED) > 1e-3
    assert held["error"]["C4's"] < held["error"]["worth nothing"]
    assert [u["r_star"]["value"] for u in up_to(clean)] == pytest.approx([truth] * 4, rel=1e-2)
    assert harmful(clean) == []
    assert all(p["gap"]["value"] > 0 for p in beside_fresh(clean))


def test_repeats_that_harm_are_named():
    runs = runs_of(5.0)
    for p in runs:
        p["loss"] += 0.5 * (p["epochs"] == 16)
    assert {p["epochs"] for p in harmful(runs)} == {16}


def test_a_tiny_run_says_that_it_is_none_and_goes_on(tmp_path, capsys):
    tiny = ["--width", "8", "--unseen", "20", "--totals", "32", "64", "128", "256", "--epochs", "1", "2"]
    ledger = tmp_path / "r.jsonl"
    repeated_epochs.main([*tiny, "--seeds", "1", "--ledger", str(ledger), "--json"])
    one, lines = json.loads(capsys.readouterr().out), ledger.read_text().splitlines()
    assert len(lines) == len(one["runs"]) == 8
    assert one["floor"] < min(p["loss"] for p in one["runs"])
    assert one == json.loads(ledger.with_suffix(".json").read_text())
    repeated_epochs.main([*tiny, "--seeds", "2", "--ledger", str(ledger)])
    told = capsys.readouterr().out
    assert told.startswith("not reproduced: below the stated sizes (seeds, width, unseen, totals, epochs)")
    assert "2 seeds" in told and "held out" in told and "C4's" in told
    again = ledger.read_text().splitlines()
    assert again[:8] == lines and len(again) == 16


@pytest.mark.skipif(not COMMITTED.exists(), reason="no committed result")
def test_verdicts_follow_from_the_committed_runs():
    result = json.loads(COMMITTED.read_text())
    again = json.loads(json.dumps(summary(result["runs"])))
    for name in ("beside_fresh", "harmful"):
        assert again[name] == result[name]
    assert again["r_star"]["value"] == pytest.approx(result["r_star"]["value"], rel=1e-3)
    assert again["held_out"]["error"] == pytest.approx(result["held_out"]["error"], rel=1e-2)
    assert min(p["loss"] for p in result["runs"]) > result["floor"]
