"""The verb `goal`: on the command line and in Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.made_pools import jsonl_file, numbered

import dataworth as dw
from dataworth.errors import RequestError
from dataworth.formats import open_goal


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dataworth.cli", "goal", *words], capture_output=True, text=True, cwd=cwd
    )


def test_the_command_writes_a_goal_that_select_takes(tmp_path: Path) -> None:
    jsonl_file(tmp_path / "mine.jsonl", numbered(100))
    done = run("mine.jsonl", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("mine-goal/goal.yaml: ")
    goal = open_goal(tmp_path / "mine-goal" / "goal.yaml")
    picked = dw.select(
        str(jsonl_file(tmp_path / "pool.jsonl", numbered(30, 500))),
        goal=str(tmp_path / "mine-goal" / "goal.yaml"),
        keep=3,
        run=str(tmp_path / "run"),
    )
    assert len(picked.ids) == 3 and goal.steer_rows() > 20


def test_json_and_python_say_the_same(tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "mine.jsonl", [{"q": r["prompt"], "a": r["completion"]} for r in numbered(100)])
    done = run("mine.jsonl", "-o", "g", "--map", "prompt=q", "completion=a", "--json", cwd=tmp_path)
    said = json.loads(done.stdout)
    result = dw.goal(path, tmp_path / "h", map={"prompt": "q", "completion": "a"})
    assert said["rows"] == dict(result.rows) and said["rejected"] == 0 and said["rejects_path"] is None
    assert (tmp_path / "g" / "goal.yaml").read_text() == (tmp_path / "h" / "goal.yaml").read_text()


def test_wrong_requests_are_one_line(tmp_path: Path) -> None:
    jsonl_file(tmp_path / "few.jsonl", numbered(10))
    for words, message in ((["few.jsonl"], "at least 20 judge rows"), (["gone.jsonl"], "is not here"), ([], "FILE")):
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 2 and message.lower() in done.stderr.lower() and "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    with pytest.raises(RequestError, match="at least 20"):
        dw.goal(tmp_path / "few.jsonl", tmp_path / "g")


def test_many_rejects_exit_3_with_the_goal_written(tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "mine.jsonl", numbered(100))
    path.write_text(path.read_text() + "{\n" * 5)
    done = run("mine.jsonl", "-o", "g", cwd=tmp_path)
    assert done.returncode == 3 and "5 of 105 goal rows were rejected" in done.stderr
    assert "5 rejected" in done.stdout and (tmp_path / "g" / "goal.yaml").is_file()
    assert run("mine.jsonl", "-o", "g", "--max-rejected", "0.1", cwd=tmp_path).returncode == 0
    with pytest.warns(UserWarning, match="5 of 105 goal rows"):
        assert dw.goal(path, tmp_path / "h").rejected == 5
