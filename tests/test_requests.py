"""What makes two requests one run, and what a second process or a second look at a finished run may do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import dataworth as dw
from dataworth import api, config
from dataworth.errors import RequestError, TooManyRejects
from dataworth.runs import identity, open_run

ROWS = [{"prompt": f"question {i}", "completion": "word " * (i + 1)} for i in range(20)]


def lines(path: Path, rows: list[dict]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


@pytest.fixture(autouse=True)
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return lines(tmp_path / "pool.jsonl", ROWS)


def inputs_of(**fields: object) -> dict:
    return identity("select", config.build(config.SelectRequest, {"pool": "pool.jsonl", **fields}))["inputs"]


def test_every_file_of_goal_and_model_counts(tmp_path: Path) -> None:
    lines(tmp_path / "goals/a.jsonl", ROWS[:3])
    lines(tmp_path / "parts/b.jsonl", ROWS[:3])
    (tmp_path / "goal.YAML").write_text("subtasks: [{name: a, steer: 'goals/a.jsonl:0-2', judge: parts}]")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(b"1")
    assert set(inputs_of(goal="goals")) == {"pool.jsonl", "goals/a.jsonl"}
    found = inputs_of(goal="goal.YAML", model="model")
    assert {"goal.YAML", "goals/a.jsonl", "parts/b.jsonl", "model/model.safetensors"} < set(found)
    (tmp_path / "model/model.safetensors").write_bytes(b"22")
    assert inputs_of(goal="goal.YAML", model="model") != found


@pytest.mark.parametrize("content", [None, "subtasks: [", "- a"])
def test_a_goal_that_is_no_goal_is_one_line(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "goal.yaml").write_text(content)
    with pytest.raises(RequestError, match=r"goal\.yaml"):
        dw.select("pool.jsonl", goal="goal.yaml")


def test_the_folder_name_is_plain_whatever_the_pool_is_called(tmp_path: Path) -> None:
    name = "a\x1b[31m b'$\udcff.jsonl"
    Path(name).write_bytes(Path("pool.jsonl").read_bytes())
    run = dw.select(name, method="length", keep=3).run
    assert run.name.startswith("select-a-31m-b-")
    assert dw.replay(run).identical


def test_an_output_inside_the_run_folder_leaves_it_finished() -> None:
    first = dw.select("pool.jsonl", method="length", keep=3, run="r", out="r/picked.jsonl")
    stamp = (first.run / "selection.parquet").stat().st_mtime_ns
    dw.select("pool.jsonl", method="length", keep=3, run="r", out="r/picked.jsonl")
    assert (first.run / "selection.parquet").stat().st_mtime_ns == stamp
    assert dw.replay("r").identical


def test_a_run_that_another_process_writes_is_refused() -> None:
    request = config.build(config.SelectRequest, {"pool": "pool.jsonl", "method": "length", "keep": 3})
    with open_run("select", request).lock, pytest.raises(RequestError, match=f"process {os.getpid()}"):
        dw.select("pool.jsonl", method="length", keep=3)


@pytest.mark.parametrize(("given", "out"), [("data", "data/picked.jsonl"), ("data/*.jsonl", "data/picked.jsonl")])
def test_an_output_that_would_join_the_pool_is_refused(given: str, out: str, tmp_path: Path) -> None:
    lines(tmp_path / "data/a.jsonl", ROWS)
    with pytest.raises(RequestError, match="join the pool"):
        dw.select(given, method="length", keep=3, out=out)
    assert dw.select(given, method="length", keep=3, out="picked.jsonl").written


def test_rejected_goal_rows_are_told_and_recorded(tmp_path: Path) -> None:
    goal = tmp_path / "goal.jsonl"
    goal.write_text('{"prompt": "word", "completion": "words"}\n{broken\n')
    result = dw.select("pool.jsonl", goal=str(goal), keep=3)
    assert any("1 rows of goal 'goal' were rejected" in note for note in result.record["notes"])
    assert "were rejected" in result.explain()


def test_too_many_rejects_carry_the_result() -> None:
    with Path("pool.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(TooManyRejects) as caught:
        api.run_select(config.build(config.SelectRequest, {"pool": "pool.jsonl", "method": "length", "keep": 3}))
    assert len(caught.value.result.ids) == 3


def test_a_subset_without_its_sidecar_is_written_again() -> None:
    dw.select("pool.jsonl", method="length", keep=3, out="p.jsonl")
    sidecar = Path("p.jsonl.dataworth")
    for file in sidecar.iterdir():
        file.unlink()
    sidecar.rmdir()
    dw.select("pool.jsonl", method="length", keep=3, out="p.jsonl")
    assert (sidecar / "reasons.parquet").is_file()


def test_a_touched_or_copied_input_replays_and_a_changed_one_does_not(tmp_path: Path) -> None:
    goal = lines(tmp_path / "goal.jsonl", [{"prompt": "word", "completion": "question 3 5"}])
    run = dw.select("pool.jsonl", goal=goal, keep=3).run
    os.utime("pool.jsonl", (1, 1))
    os.utime(goal, (1, 1))
    assert dw.replay(run).identical
    lines(Path(goal), [{"prompt": "word", "completion": "question 4 5"}])
    with pytest.raises(RequestError, match=r"inputs changed since \(goal\)"):
        dw.replay(run)


def test_shown_ranks_break_ties_as_the_pick_does(tmp_path: Path) -> None:
    tied = lines(tmp_path / "tied.jsonl", [{"prompt": f"{i:02}", "completion": "same"} for i in range(9)] + ROWS[5:6])
    result = dw.select(tied, method="length", keep=4)
    assert [f"rank {n} of 10" in row.why for n, row in enumerate(result.kept_sample, 1)] == [True] * 3
    assert "rank 5 of 10" in result.dropped_sample[0].why
