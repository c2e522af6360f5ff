import argparse
import json

import numpy as np
import pytest
from reproductions.less_fidelity import Ledger
from reproductions.perceptron import Cell, exponents, filled, slopes

from reproductions import perceptron

TINY = ["--width", "20", "--repetitions", "2", "--curve-repetitions", "2", "--alphas", "1", "4", "--degrees", "0", "30"]
TINY += ["--initial", "2", "4", "--kept", "1", "2"]


def test_a_tiny_run_says_that_it_is_none_and_resumes(tmp_path, capsys):
    ledger = tmp_path / "p.jsonl"
    perceptron.main([*TINY, "--ledger", str(ledger)])
    told = capsys.readouterr().out
    small = "width, repetitions, curve_repetitions, alphas, initial, kept"
    assert told.startswith(f"not reproduced: below the stated sizes ({small})")
    for part in ("probe at 30 degrees, alpha    4: hard", "crossover by theory at alpha 5.05", "exponent pruned:"):
        assert part in told
    lines = ledger.read_text().splitlines()
    perceptron.main([*TINY, "--ledger", str(ledger), "--json"])
    again = json.loads(capsys.readouterr().out)
    assert ledger.read_text().splitlines() == lines
    assert again == json.loads(ledger.with_suffix(".json").read_text())
    hard = next(p for p in again["table"] if (p["alpha"], p["degrees"], p["keep"]) == (4, 0, "hard"))
    cell = Cell(20, 4.0, 0.5, "hard", 0.0, 2)
    assert hard["error"] == pytest.approx(np.mean(perceptron.errors(cell)))
    assert hard["expected"] == pytest.approx(0.136, abs=1e-3)


def test_ways_of_keeping_share_their_draws_and_jobs_change_nothing(tmp_path):
    cells = [Cell(15, 2.0, 1.0, keep, 0.0, 2) for keep in perceptron.KEEP]
    one = filled(cells, Ledger(tmp_path / "one.jsonl"), 1)
    two = filled(cells, Ledger(tmp_path / "two.jsonl"), 2)
    assert one == two
    np.testing.assert_allclose(one[cells[0]], one[cells[1]])
    np.testing.assert_allclose(one[cells[0]], one[cells[2]])


def test_exponents_of_known_curves():
    kept = [1.0, 2.0, 4.0, 8.0]
    errors = {("unpruned", k): 0.3 * k**-0.75 for k in kept}
    errors |= {("16", k): 0.4 * k**-1.5 for k in kept}
    assert slopes({key: e for key, e in errors.items() if key[0] == "unpruned"}, kept)["pruned - unpruned"] == 0
    errors |= {("16", k): 0.2 * k**-1.5 for k in kept}
    got = slopes(errors, kept)
    assert got == pytest.approx({"unpruned": 0.75, "pruned": 1.5, "pruned - unpruned": 0.75})
    noise = np.random.default_rng(0).normal(1, 0.05, size=(2, 4, 20))
    draws = {(n, k): errors[n, k] * noise[i, j] for i, n in enumerate(("unpruned", "16")) for j, k in enumerate(kept)}
    found = exponents(draws, kept, resamples=200)
    for name, value in got.items():
        assert found[name]["low"] - 0.05 < value < found[name]["high"] + 0.05


def test_the_switch_names_theory_s_side(tmp_path):
    args = argparse.Namespace(alphas=[1.0, 16.0], width=40, repetitions=4, jobs=1)
    lines = perceptron.switch(args, Ledger(tmp_path / "p.jsonl"))
    assert [(s["alpha"], s["side"], s["draws"]) for s in lines] == [(1.0, "easy", 4), (16.0, "hard", 4)]
    assert lines[0]["right"] == 4
