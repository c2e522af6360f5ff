"""Proofs with a trainer of the user's own: its command is run per trial, and what it leaves is judged or believed."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import trainer_toys
from tests.test_prove import rows, write

import dataworth as dw
from dataworth.errors import RequestError

pytestmark = pytest.mark.lm

POOL = [*rows(24, True, 1), *rows(56, False, 2)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    folder = tmp_path_factory.mktemp("trainers")
    tiny_folder(folder / "model", layers=1)
    write(folder / "pool.jsonl", POOL)
    write(folder / "mine.jsonl", POOL[:16])
    write(folder / "goal.jsonl", rows(70, True, 3))
    (folder / "recipe.yaml").write_text("lr: 2.0e-2\nbatch_size: 8\nepochs: 2\nlora_r: 2\n")
    return folder


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOY_LEDGER", str(tmp_path / "ledger"))
    shutil.copy(trainer_toys.__file__, tmp_path / "train.py")
    (tmp_path / "ledger").touch()
    return tmp_path / "ledger"


def calls(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text().splitlines()]


def fields(place: Path, ledger: Path, flags: str = "", **more: Any) -> dict[str, Any]:
    script = f"{shlex.quote(sys.executable)} {shlex.quote(str(ledger.with_name('train.py')))}"
    return {
        "pool": str(place / "pool.jsonl"),
        "goal": str(place / "goal.jsonl"),
        "model": str(place / "model"),
        "recipe": str(place / "recipe.yaml"),
        "run": str(ledger.with_name("run")),
        "device": "cpu",
        "workers": 0,
        "seeds": 3,
        "curve": False,
        "against": "random",
        "train_command": f"{script} --data {{data}} --seed {{seed}} --out {{out}} {flags}",
        **more,
    }


def metric_fields(place: Path, ledger: Path, **more: Any) -> dict[str, Any]:
    return fields(place, ledger, "--leave metric", goal=None, metric="share:higher", **more)


def by_hand(place: Path, run: Path, model: Path, adapter: Path | None) -> float:
    from dataworth.config import load_recipe
    from dataworth.formats import open_goal
    from dataworth.trial import response_loss

    judge = open_goal(run / "goal" / "goal.yaml").subtasks[0].judge
    assert judge is not None
    recipe = load_recipe(str(place / "recipe.yaml"), {})
    return response_loss(str(model), recipe, adapter, list(judge.open_for("proof").examples())).per_token


def test_a_command_trains_every_trial_and_our_judges_judge_what_it_leaves(
    place: Path, ledger: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    how = fields(place, ledger, against="random,full")
    found = dw.prove(str(place / "mine.jsonl"), **how)
    assert capfd.readouterr().out == ""
    told = calls(ledger)
    mine = hashlib.sha256((place / "mine.jsonl").read_bytes()).hexdigest()
    assert sorted(c["seed"] for c in told if c["sha256"] == mine) == [0, 1, 2], "byte for byte the subset"
    assert sorted(c["rows"] for c in told) == [16] * 9 + [80] * 3
    assert sorted(c["seed"] for c in told) == sorted([0, 1, 2] * 3 + [3, 4, 5]), "random rows are drawn twice a seed"
    assert all(c["found"] == [] for c in told), "each begins with an empty folder"
    second = next(c for c in told if c["sha256"] == mine and c["seed"] == 1)
    assert found.arms[0].costs[1] == pytest.approx(
        by_hand(place, tmp_path / "run", place / "model", Path(second["out"]).parent / "out"), rel=1e-6
    )
    assert found.untouched == pytest.approx(by_hand(place, tmp_path / "run", place / "model", None), rel=1e-6)
    assert [(a.lr, a.tokens) for a in found.arms] == [(None, 0.0)] * 3, "nobody told us"
    assert "as the command trains" in found.explain()
    rests = (tmp_path / "run" / "card.md").read_text().partition("## What it rests on")[2]
    named = f"- Train command: {Path(sys.executable).name} train.py --data {{data}} --seed {{seed}} --out {{out}}\n"
    assert named in rests and "Recipe" not in rests, "the command trains by its own recipe, wherever it lies"
    assert "each arm trains at the command's own" in found.explain()
    registered = json.loads((tmp_path / "run" / "registration.json").read_text())
    assert registered["trainer"]["command"] == how["train_command"]
    again = dw.prove(str(place / "mine.jsonl"), **{**how, "run": str(tmp_path / "margin"), "margin": 0.5})
    assert again.arms[0].costs == found.arms[0].costs
    assert calls(ledger) == told, "everything came from the cache"
    (tmp_path / "train.py").write_text(Path(trainer_toys.__file__).read_text() + "# edited\n")
    with pytest.raises(RequestError, match=r"belongs to another request \(differs in inputs"):
        dw.prove(str(place / "mine.jsonl"), **how)
    dw.prove(str(place / "mine.jsonl"), **{**how, "run": str(tmp_path / "edited"), "against": "random"})
    assert len(calls(ledger)) == len(told) + 3 + 6


@pytest.mark.parametrize("leave", ["checkpoint", "model"])
def test_checkpoints_and_whole_models_are_judged_alike(place: Path, ledger: Path, tmp_path: Path, leave: str) -> None:
    found = dw.prove(str(place / "mine.jsonl"), **fields(place, ledger, f"--leave {leave} --model {{model}}"))
    first = next(c for c in calls(ledger) if c["seed"] == 0)
    assert Path(first["model"]).samefile(place / "model")
    out = Path(first["out"]).parent / "out"
    if leave == "checkpoint":
        expected = by_hand(place, tmp_path / "run", place / "model", out / "checkpoint-8")
        assert found.arms[0].costs[0] == pytest.approx(expected, rel=1e-6)
        return
    whole = shutil.copytree(place / "model", tmp_path / "whole")
    shutil.copy(out / "model.safetensors", whole)
    assert found.arms[0].costs[0] == pytest.approx(by_hand(place, tmp_path / "run", whole, None), rel=1e-6)
    assert found.arms[0].costs == found.arms[1].costs[:3], "the toy looks at its seed alone"
    assert sorted(p.name for p in out.iterdir()) == ["begun", "config.json", "model.safetensors"], "left as it was"


def test_a_metric_of_the_users_own_needs_no_goal(place: Path, ledger: Path, tmp_path: Path) -> None:
    how = metric_fields(place, ledger, against="random,full")
    found = dw.prove(str(place / "mine.jsonl"), **how)
    assert (found.unit, found.higher, found.untouched) == ("share", "better", None)
    assert found.arms[0].costs == pytest.approx([-1.0, -1.001, -1.002])
    all_good = trainer_toys.share_of_good(place / "pool.jsonl")
    assert found.arms[2].costs == pytest.approx([-all_good, -all_good - 0.001, -all_good - 0.002])
    assert found.verdicts[1].word == "better", "more good rows, and higher is better"
    assert not found.retained
    text = found.explain()
    assert "untouched model has none" in text
    assert "untouched model  " not in text, "no row of numbers for it"
    assert "which also judges" in text
    seen = dw.view(tmp_path / "run").explain()
    assert "mine" in seen and "untouched model has none" in seen
    assert dw.prove(str(place / "mine.jsonl"), **how).to_dict() == found.to_dict()
    lower = dw.prove(
        str(place / "mine.jsonl"), **{**how, "metric": "share", "run": str(tmp_path / "lower"), "against": "full"}
    )
    assert lower.verdicts[0].word == "worse"
    assert len(calls(ledger)) == 12, "only judged anew"
    registered = json.loads((tmp_path / "lower" / "registration.json").read_text())
    assert registered["trainer"]["metric"] == {"name": "share", "higher": "worse"}
    with pytest.raises(RequestError, match=r"no number 'loss' \(it has share\)"):
        dw.prove(
            str(place / "mine.jsonl"), **{**how, "metric": "loss", "run": str(tmp_path / "loss"), "against": "full"}
        )


def test_what_a_metric_does_not_go_with(place: Path, ledger: Path, tmp_path: Path) -> None:
    goal = tmp_path / "goal.yaml"
    goal.write_text(
        f"subtasks: [{{name: a, steer: {place / 'goal.jsonl'}}}]\n"
        f"protected: [{{name: b, judge: {place / 'goal.jsonl'}}}]\n"
    )
    with pytest.raises(RequestError, match="protected skills in the goal file"):
        dw.prove(str(place / "mine.jsonl"), **{**metric_fields(place, ledger), "goal": str(goal)})
    with pytest.raises(RequestError, match="expected --train-command"):
        dw.prove(str(place / "mine.jsonl"), **metric_fields(place, ledger) | {"train_command": None})
    with pytest.raises(RequestError, match="prove needs --goal"):
        dw.prove(str(place / "mine.jsonl"), **fields(place, ledger, goal=None))
    assert not calls(ledger)


def test_a_command_that_takes_rate_and_epochs_is_searched_and_told(place: Path, ledger: Path, tmp_path: Path) -> None:
    how = fields(place, ledger, "--lr {lr} --epochs={epochs}")
    found = dw.prove(str(place / "mine.jsonl"), **how)
    assert {c["lr"] for c in calls(ledger)} == {0.01, 0.02, 0.04}
    assert {c["epochs"] for c in calls(ledger)} == {2}
    assert all(a.lr in (0.01, 0.02, 0.04) for a in found.arms)
    ours = dw.prove(
        str(place / "mine.jsonl"),
        **{**how, "train_command": None, "run": str(tmp_path / "ours"), "lr_search": False},
    )
    assert [a.tokens for a in found.arms] == [a.tokens for a in ours.arms], "our own count of the same rows"
    assert "2 epochs each" in found.explain()


def test_equal_tokens_need_a_command_that_takes_them(place: Path, ledger: Path) -> None:
    how = fields(place, ledger, "--tokens {tokens}", protocol="tokens")
    found = dw.prove(str(place / "mine.jsonl"), **how)
    (tokens,) = {c["tokens"] for c in calls(ledger)}
    assert f"{tokens:,} training tokens each" in found.explain()


def test_copies_stand_for_weights(place: Path, ledger: Path) -> None:
    mine = write(ledger.with_name("twice.jsonl"), POOL[:8] * 2)
    dw.prove(str(mine), **metric_fields(place, ledger))
    copied = "".join(json.dumps(row) + "\n" for row in POOL[:8] for _ in range(2)).encode()
    assert [c["sha256"] for c in calls(ledger)].count(hashlib.sha256(copied).hexdigest()) == 3


def test_a_python_function_trains_too(place: Path, ledger: Path) -> None:
    how = metric_fields(place, ledger) | {"train_command": trainer_toys.measure}
    found = dw.prove(str(place / "mine.jsonl"), **how)
    assert found.arms[0].costs == pytest.approx([-1.0, -1.001, -1.002])
    with pytest.raises(RequestError, match="move it there"):
        dw.prove(str(place / "mine.jsonl"), **how | {"train_command": lambda data, seed, out: None})


@pytest.mark.parametrize("workers", [0, 2])
def test_a_command_that_never_worked_stops_the_proof_in_one_line(
    place: Path, ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    how = metric_fields(place, ledger, workers=workers) | {"seeds": 5}
    monkeypatch.setenv("TOY_FAILS", "0")
    with pytest.raises(
        RequestError, match=r"exited with 1: no module named unheard-of .*stops at its first trial"
    ) as said:
        dw.prove(str(place / "mine.jsonl"), **how)
    assert "\n" not in str(said.value)
    assert len(calls(ledger)) <= max(1, workers + 1)
    monkeypatch.setenv("TOY_FAILS", "2")
    found = dw.prove(str(place / "mine.jsonl"), **how)
    assert set(found.failed) == {"mine, trial 2", "random, trial 2"}
    assert "no module named unheard-of" in found.explain()
    before = len(calls(ledger))
    monkeypatch.delenv("TOY_FAILS")
    whole = dw.prove(str(place / "mine.jsonl"), **how | {"run": str(tmp_path / "mended")})
    assert not whole.failed, "what stood in the way may be gone: tried again"
    assert len(calls(ledger)) == before + 2


def test_a_metric_that_is_not_finite_fails_its_trial_alone(
    place: Path, ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        script.read_text().replace("share_of_good(data) +", "(seed and share_of_good(data) or float('nan')) +")
    )
    found = dw.prove(str(place / "mine.jsonl"), **metric_fields(place, ledger))
    assert set(found.failed) == {"mine, trial 0", "random, trial 0"}
    assert "its share is nan" in found.explain()
    dw.prove(str(place / "mine.jsonl"), **metric_fields(place, ledger, margin=0.1) | {"run": str(tmp_path / "again")})
    assert len(calls(ledger)) == 9, "that is what it found: final"


def test_trials_that_came_out_all_the_same_are_told(place: Path, ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import json, sys\nshare = len(open(sys.argv[2]).read())\n"
        "json.dump({'share': share}, open(sys.argv[6] + '/metrics.json', 'w'))"
    )
    found = dw.prove(str(place / "mine.jsonl"), **metric_fields(place, ledger))
    assert "mine: all its trials gave one number" in found.explain()


def test_a_budget_is_counted_in_the_time_of_the_first_trial(place: Path, ledger: Path, tmp_path: Path) -> None:
    how = metric_fields(place, ledger, against="random,full")
    with pytest.raises(RequestError, match="expected at least that"):
        dw.prove(str(place / "mine.jsonl"), **how, budget="0.1s")
    assert [(c["seed"], c["rows"]) for c in calls(ledger)] == [(0, 16)], "the first trial of the subject"
    found = dw.prove(str(place / "mine.jsonl"), **how | {"run": str(tmp_path / "rich")}, budget="1h")
    assert [len(a.costs) for a in found.arms] == [3, 6, 3]
    assert len(calls(ledger)) == 12, "the first trial is part of the proof"


def test_a_dry_run_runs_no_command(place: Path, ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dataworth.cli import app

    how = metric_fields(place, ledger)
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in how.items() if v is not None and k != "curve"]
    app(["prove", str(place / "mine.jsonl"), *flags, "--dry-run"], standalone_mode=False)
    told = capsys.readouterr().out
    assert "as the command trains" in told
    assert "one pass over the rows" in told
    assert not calls(ledger)


def test_weights_that_no_copies_make_are_refused_before_any_training(place: Path, ledger: Path, tmp_path: Path) -> None:
    from dataworth.api import plan_proof
    from dataworth.config import ProveRequest, build
    from dataworth.formats import open_pool

    mine = write(tmp_path / "half.jsonl", POOL[:16])
    beside = tmp_path / "half.jsonl.dataworth"
    beside.mkdir()
    weights = {"id": open_pool(mine).ids, "weight": [0.5, 1.5] * 8}
    pq.write_table(pa.table(weights), beside / "weights.parquet")
    how = metric_fields(place, ledger)
    for refused in (
        lambda: plan_proof(build(ProveRequest, {"subset": [str(mine)], **how})),
        lambda: dw.prove(str(mine), **how),
    ):
        with pytest.raises(RequestError, match=r"half has a row of weight 0\.5: .*without --train-command"):
            refused()
    assert not calls(ledger)


def test_a_killed_proof_leaves_no_orphan_and_trains_only_what_is_unfinished(
    place: Path, ledger: Path, tmp_path: Path
) -> None:
    how = metric_fields(place, ledger, workers=1)
    code = "import json, sys, dataworth as dw; dw.prove(sys.argv[1], **json.loads(sys.argv[2]))"
    driver = subprocess.Popen(
        [sys.executable, "-c", code, str(place / "mine.jsonl"), json.dumps(how)],
        env={**os.environ, "TOY_HANGS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        deadline = time.monotonic() + 120
        while not (hanging := [c for c in calls(ledger) if c["seed"] == 1]):
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert gone(hanging[0]["pid"])
    begun = calls(ledger)
    found = dw.prove(str(place / "mine.jsonl"), **how)
    later = calls(ledger)[len(begun) :]
    assert [len(a.costs) for a in found.arms] == [3, 6]
    assert sorted(c["seed"] for c in later) == [1, 1, 2, 2, 3, 4, 5], "those of seed 0 were finished"
    assert all(c["found"] == [] for c in later), "from an empty folder"
    assert np.isfinite(found.arms[0].costs).all()


def gone(pid: int) -> bool:
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False
