"""The calibration's spreads are those of the ledger, and a small run says that it is one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reproductions.less_fidelity import Ledger

from dataworth.laws.worth import RandomCurve
from reproductions import proof_calibration


def ledger(path: Path, draws: int = 12, seeds: int = 5) -> Path:
    rng = np.random.default_rng(0)
    keys = [f"trial uniform-{n:02d} 0" for n in range(draws)] + [f"trial uniform-00 {s}" for s in range(1, seeds)]
    keys += [f"trial weighted-{n:02d} 0" for n in range(3)]
    lines = []
    for key in keys:
        far = 1.0 if "weighted" in key else 0.0
        value = {f"{g} judge": 1.3 + far + 0.01 * rng.standard_normal() for g in ("gsm8k", "arc_easy")}
        lines.append(json.dumps({"key": key, "value": value}))
    untouched = {f"{g} judge": 1.9 for g in ("gsm8k", "arc_easy")}
    lines.append(json.dumps({"key": "untouched", "value": untouched}))
    path.write_text("\n".join([*lines, json.dumps({"key": "scores gsm8k less", "value": [1.0]})]) + "\n")
    return path


def test_spreads_come_from_uniform_draws_and_reseeded_trainings(tmp_path: Path) -> None:
    parts, about = proof_calibration.components(Ledger(ledger(tmp_path / "l.jsonl")), "gsm8k judge")
    assert (about["seeds"], about["draws"]) == (5, 12)
    assert 0.003 < np.hypot(parts.seed_sd, parts.draw_sd) < 0.02
    assert (np.diff(parts.curve_K) < 0).all()


def test_too_few_trials_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"run reproductions\.less_fidelity first"):
        proof_calibration.components(Ledger(ledger(tmp_path / "l.jsonl", seeds=1)), "gsm8k judge")


def test_a_small_run_claims_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    found = ledger(tmp_path / "l.jsonl")
    proof_calibration.main(["--ledger", str(found), "--out", str(out), "--proofs", "40", "--real", str(tmp_path)])
    told = json.loads(out.read_text())
    assert told["verdict"].startswith("not reproduced: below the stated sizes (proofs")
    assert set(told["goals"]) == {"gsm8k judge", "arc_easy judge"}
    shown = capsys.readouterr().out
    assert "worth at 5 seeds: covered" in shown and "half widths" in shown
    cell = told["goals"]["gsm8k judge"]
    assert cell["looks 5"]["equal arms"]["false"]["of"] == 40


def test_spreads_of_a_finished_proof_are_those_of_its_arms() -> None:
    def arm(role: str, costs: list[float], rows: int = 100) -> dict[str, object]:
        return {"role": role, "costs": costs, "rows": rows}

    rng = np.random.default_rng(0)
    subjects = [arm("subject", (1.0 + k + 0.01 * rng.standard_normal(50)).tolist()) for k in range(4)]
    others = [
        arm("random", (1.5 + 0.05 * rng.standard_normal(200)).tolist()),
        arm("full", (1.1 + 0.03 * rng.standard_normal(200)).tolist(), 800),
    ]
    curve = [arm("curve", [cost, cost + 0.01], rows) for rows, cost in ((50, 1.6), (100, 1.5), (200, 1.52), (800, 1.1))]
    told = {"epochs": {"arms": [*subjects, *others, *curve], "untouched": 2.0}}
    parts, about = proof_calibration.components_of_proof(told)
    assert parts.seed_sd == pytest.approx(0.01, rel=0.15), "subsets differ by more than seeds do"
    assert np.hypot(parts.seed_sd, parts.draw_sd) == pytest.approx(0.05, rel=0.15)
    assert parts.full_sd == pytest.approx(0.03, rel=0.15)
    assert (np.diff(parts.curve_K) <= 0).all() and about["seeds"] == 200


def test_a_left_out_chain_is_one_more_draw_and_a_shifted_one_is_noticed() -> None:
    rng, sizes = np.random.default_rng(0), np.array([88.0, 175.0, 350.0, 700.0])
    mean = 1 + sizes**-0.4
    curves = [RandomCurve(sizes, mean + 0.002 * rng.standard_normal((5, 4))) for _ in range(300)]
    found = [proof_calibration.left_out(curve) for curve in curves]
    assert all(f["of"] == 20 for f in found)
    assert 0.885 < sum(f["held"] for f in found) / (20 * len(found)) < 0.915
    assert 1 < np.median([f["median_high_over_low"] for f in found]) < 2
    moved = curves[0].cost_CK.copy()
    moved[0] += 0.1
    assert proof_calibration.left_out(RandomCurve(sizes, moved))["held"] <= 16


def test_what_was_said_of_random_draws_is_told(tmp_path: Path) -> None:
    arms = [
        {"name": f"random-{n}", "role": "curve", "rows": n, "numbers": [0, 1, 2], "costs": [1.0, 1.1 + 1 / n, 0.9]}
        for n in (10, 20)
    ]
    said = {"subject": "first", "comparator": "random", "sentence": "first: no difference shown", "gain": None}
    same = {
        "verdicts": [said],
        "worth": {"first": {"value": 15.0, "spans": [[10.0, None]], "measured": [10.0, 20.0], "level": 0.9}},
        "arms": [{"name": "first", "rows": 12}],
    }
    told = {"verdict": "at the stated sizes", "epochs": {"arms": arms}, "random draws": same}
    (tmp_path / "gsm8k.json").write_text(json.dumps(told))
    found = proof_calibration.for_real(tmp_path)["gsm8k"]
    assert found["chains left out"]["of"] == 6
    lines = proof_calibration.report({"verdict": "", "goals": {}, "real": {"gsm8k": found}})
    assert "first: no difference shown" in lines
    assert "first: 12 random rows worth 15 [at least 10]" in lines
