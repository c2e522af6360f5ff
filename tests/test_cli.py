"""The command line: exit codes, JSON purity, config files, what a terminal shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dataworth

EXAMPLE = Path(dataworth.__file__).parent / "data" / "example"
POOL, GOAL = str(EXAMPLE / "pool.jsonl"), str(EXAMPLE / "goal.jsonl")


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "dataworth.cli", *words], capture_output=True, text=True, cwd=cwd)


def test_select_prints_reasons_and_exits_0(tmp_path: Path) -> None:
    done = run("select", POOL, "--goal", GOAL, "--keep", "5", "-o", "picked.jsonl", cwd=tmp_path)
    assert done.returncode == 0
    assert "kept 5 of 200 rows" in done.stdout
    assert "dropped, for example" in done.stdout
    assert len((tmp_path / "picked.jsonl").read_text().splitlines()) == 5
    assert "«" in done.stderr, "the preview marks what carries loss"


def test_json_is_one_object_and_nothing_else(tmp_path: Path) -> None:
    done = run("select", POOL, "--goal", GOAL, "--keep", "5", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["kept"] == 5
    assert done.stdout.count("\n") == 1


def test_a_config_file_holds_the_flags_and_flags_win(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"goal: {GOAL}\nkeep: 7\n")
    done = run("select", POOL, "--config", "c.yaml", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["kept"] == 7
    done = run("select", POOL, "--config", "c.yaml", "--keep", "6", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["kept"] == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["select"], "no pool"),
        (["select", "absent.jsonl", "--goal", GOAL], "absent.jsonl"),
        (["select", POOL, "--goal", "absent.jsonl"], "absent.jsonl"),
        (["select", POOL, "--goal", GOAL, "--keep", "lots"], "keep"),
        (["select", POOL, "--goal", GOAL, "--method", "less"], "--model"),
        (["selct"], "select"),
        (["select", "--kep", "3"], "--keep"),
        (["replay", "nowhere"], "nowhere"),
        (["cache"], "exactly one"),
        (["select", POOL, "--goal", GOAL, "--device", "tpu"], "device"),
    ],
)
def test_a_wrong_request_exits_2_with_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_too_many_rejects_exit_3(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text((EXAMPLE / "pool.jsonl").read_text() + "{\n" * 9)
    done = run("select", "p.jsonl", "--goal", GOAL, "--keep", "5", "-o", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 3
    assert (tmp_path / "out.jsonl").exists()


def test_dry_run_prices_and_writes_nothing(tmp_path: Path) -> None:
    done = run("select", POOL, "--goal", GOAL, "--keep", "5", "-o", "picked.jsonl", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert not list(tmp_path.glob("picked*"))
    assert not (tmp_path / "runs").exists()


def test_control_characters_of_data_do_not_reach_the_terminal(tmp_path: Path) -> None:
    rows = [{"prompt": f"\u001b[31mred {i} \u202e bike" + "x" * i, "completion": "\u0007" + "y" * i} for i in range(20)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = run("select", "p.jsonl", "--method", "length", "--keep", "5", cwd=tmp_path)
    assert done.returncode == 0
    assert not {"\u001b", "\u202e", "\u0007"} & set(done.stdout + done.stderr)


def test_replay_exits_0_when_the_ids_are_the_same(tmp_path: Path) -> None:
    run("select", POOL, "--goal", GOAL, "--keep", "5", "--run", "r", cwd=tmp_path)
    done = run("replay", "r", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["identical"] is True


def test_ctrl_c_exits_130_with_the_line_that_resumes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pool.jsonl")  # reading it waits for ever
    words = ["select", "pool.jsonl", "--method", "length", "--run", "r"]
    command = [sys.executable, "-m", "dataworth.cli", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        while not (tmp_path / "r" / "lock").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"dataworth {' '.join(words)}" in error
    assert "Traceback" not in error
    assert not (tmp_path / "r" / "lock").exists()


def test_too_many_rejects_still_print_the_one_json_object(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text((EXAMPLE / "pool.jsonl").read_text() + "{\n" * 9)
    done = run("select", "p.jsonl", "--goal", GOAL, "--keep", "5", "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert json.loads(done.stdout)["kept"] == 5


def test_the_recipe_in_force_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("lora_r: 4\n")
    done = run("plan", "--show-recipe", "--recipe", "recipe.yaml", cwd=tmp_path)
    assert "lora_r: 4" in done.stdout
    (tmp_path / "recipe.yaml").write_text("lora_rank: 4\n")
    done = run("plan", "--show-recipe", "--recipe", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "lora_r" in done.stderr
