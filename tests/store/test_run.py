from __future__ import annotations

import numpy as np
import pytest

from dataworth.errors import FormatError, RequestError
from dataworth.store import DEFAULT_RUNS, RunFolder, digests

CONFIG = {"verb": "select", "keep": "5%", "recipe": {"lr": 2e-4, "seed": 0}, "pools": ("a.jsonl",)}


def test_the_same_request_opens_the_same_run(tmp_path):
    assert DEFAULT_RUNS == "runs"
    path = tmp_path / "runs" / "select"
    RunFolder(path, CONFIG)
    assert RunFolder(path, CONFIG).config == RunFolder.existing(path).config


def test_another_request_is_refused_by_its_keys(tmp_path):
    RunFolder(tmp_path / "r", CONFIG)
    other = {**CONFIG, "keep": "6%", "recipe": {"lr": 1e-4, "seed": 0}, "goal": "g"}
    with pytest.raises(RequestError, match=r"differs in goal, keep, recipe\.lr"):
        RunFolder(tmp_path / "r", other)


def test_an_option_that_a_release_adds_leaves_old_runs_theirs_until_it_is_used(tmp_path):
    RunFolder(tmp_path / "r", CONFIG)
    RunFolder(tmp_path / "r", {**CONFIG, "encoder": None, "dynamics": [], "rewarm": False})
    for value in (0, 0.0, "", "m", [0]):
        with pytest.raises(RequestError, match="differs in encoder"):
            RunFolder(tmp_path / "r", {**CONFIG, "encoder": value})


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RequestError, match=r"thesis\.tex"):
        RunFolder(tmp_path, CONFIG)
    with pytest.raises(RequestError, match=r"no config\.yaml"):
        RunFolder.existing(tmp_path)


def test_tables_come_back_as_they_went(tmp_path):
    run = RunFolder(tmp_path / "r", CONFIG)
    values = np.array([1.5, np.nan, -0.0])
    run.write_table("scores/less", {"id": ["a", "b", "c"], "value": values, "reason": [None, "empty", None]})
    back = run.read_table("scores/less")
    assert back["id"] == ["a", "b", "c"] and back["reason"] == [None, "empty", None]
    np.testing.assert_array_equal(back["value"], values)
    with pytest.raises(RequestError, match="lengths"):
        run.write_table("t", {"a": [1], "b": [1, 2]})
    with pytest.raises(RequestError, match="does not exist"):
        run.read_table("selection")
    (run.path / "selection.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(FormatError, match="damaged"):
        run.read_table("selection")


def test_finished_means_the_files_are_those_of_that_moment(tmp_path):
    run = RunFolder(tmp_path / "r", CONFIG)
    run.write_record({"seed": 0}, {"seconds": 1.0})
    run.write_table("selection", {"id": ["a"]})
    assert not run.finished
    run.finish()
    assert RunFolder(run.path, CONFIG).finished
    run.write_record({"seed": 0}, {"seconds": 2.0})
    assert run.finished and run.read_record() == {"content": {"seed": 0}, "timings": {"seconds": 2.0}}
    run.write_table("selection", {"id": ["b"]})
    assert not run.finished


def test_digests_leave_out_exactly_what_may_differ(tmp_path):
    runs = []
    for n in range(2):
        run = RunFolder(tmp_path / str(n), CONFIG)
        run.write_record({"seed": 0}, {"seconds": float(n)})
        (run.path / "run.log").write_text(str(n))
        run.finish()
        runs.append(run)
    assert digests(runs[0].path) == digests(runs[1].path)
    runs[1].write_record({"seed": 1}, {"seconds": 0.0})
    assert [k for k, v in digests(runs[0].path).items() if v != digests(runs[1].path)[k]] == ["record.json"]


def test_a_record_refuses_what_json_cannot_say(tmp_path):
    with pytest.raises(RequestError, match=r"content\.loss"):
        RunFolder(tmp_path / "r", CONFIG).write_record({"loss": float("nan")}, {})
