"""The chaos harness itself, on a few kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def chaos(scenario, kills):
    command = [sys.executable, str(Path(__file__).parents[1] / "chaos.py"), "--n", str(kills), "--scenario", scenario]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*command, "--json"], env=env, capture_output=True, text=True, timeout=600)
    (outcome,) = json.loads(done.stdout)["scenarios"]
    assert done.returncode == 0 and outcome["passed"], outcome
    assert sum(outcome["kills"].values()) == kills
    return outcome


def test_a_few_kills_leave_the_same_files():
    assert chaos("toy", 5)["files"] > 100


@pytest.mark.slow
@pytest.mark.lm
def test_a_few_kills_leave_the_same_selection():
    assert chaos("llama", 4)["files"] > 100
