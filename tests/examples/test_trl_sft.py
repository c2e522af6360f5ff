"""The TRL script of `examples/`, run by a proof as its README says."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.test_prove import rows, write

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "trl_sft"

pytestmark = [
    pytest.mark.lm,
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("trl"), reason="needs trl"),
]


def turns(listed: list[dict[str, str]]) -> list[dict[str, object]]:
    asked = [{"role": "user", "content": r["prompt"]} for r in listed]
    told = [{"role": "assistant", "content": r["completion"]} for r in listed]
    return [{"messages": list(pair)} for pair in zip(asked, told, strict=True)]


def the_command(python: str) -> str:
    """`--train-command` of the README, with this Python and the script where it is."""
    found = re.search(r'--train-command "python (\S+) (.*)"', (EXAMPLE / "README.md").read_text())
    assert found is not None and found[1] == "examples/trl_sft/train.py"
    return f"{shlex.quote(python)} {shlex.quote(str(EXAMPLE / 'train.py'))} {found[2]}"


def test_a_trl_script_trains_the_trials_of_a_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    from dataworth.cli import app

    tiny_folder(tmp_path / "model")
    pool = turns([*rows(24, True, 1), *rows(56, False, 2)])
    write(tmp_path / "pool.jsonl", pool)
    write(tmp_path / "mine.jsonl", pool[:16])
    write(tmp_path / "goal.jsonl", turns(rows(70, True, 3)))
    (tmp_path / "recipe.yaml").write_text("lr: 2.0e-2\nepochs: 4\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    words = ["prove", "mine.jsonl", "--pool", "pool.jsonl", "--model", "model"]
    words += ["--goal", "goal.jsonl", "--recipe", "recipe.yaml", "--train-command", the_command(sys.executable)]
    words += ["--against", "random", "--seeds", "3", "--no-curve", "--no-lr-search", "--device", "cpu", "--json"]
    capsys.readouterr()
    app([*words, "--workers", "0", "--run", "run"], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    mine, random = told["arms"]
    assert [len(a["costs"]) for a in (mine, random)] == [3, 6] and not told["failed"]
    assert len(set(mine["costs"])) == 3, "each seed trains another adapter"
    assert np.mean(mine["costs"]) < told["untouched"], "training helps"
    assert np.mean(mine["costs"]) < np.mean(random["costs"]), "good rows teach the goal, others don't"
    assert mine["lr"] == 0.02 and mine["tokens"] > 0 and told["protocol"] == "4 epochs each"
    adapters = list((Path(os.environ["DATAWORTH_CACHE"]) / "trainings").glob("*/out/adapter_config.json"))
    assert len(adapters) == 9 and json.loads(adapters[0].read_text())["r"] == 16
