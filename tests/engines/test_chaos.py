"""The chaos harness itself, on a few kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_a_few_kills_leave_the_same_files():
    command = [sys.executable, str(Path(__file__).parents[1] / "chaos.py"), "--n", "5", "--scenario", "toy", "--json"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    (toy,) = json.loads(done.stdout)["scenarios"]
    assert done.returncode == 0 and toy["passed"], toy
    assert sum(toy["kills"].values()) == 5 and toy["files"] > 100
