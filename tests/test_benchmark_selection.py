import json

import pytest
from benchmarks import selection


def run(capsys, *more):
    selection.main(["--rows", "240", "--width", "16", "--goal", "5", "--in-process", *more])
    return capsys.readouterr().out


def test_every_task_is_measured_and_absent_libraries_are_named(capsys):
    report = json.loads(run(capsys, "--json"))
    ours = {r["task"]: r for r in report["results"] if r["way"] == "dataworth"}
    assert set(ours) == set(selection.TASKS)
    assert all(r["cpu_seconds"] >= 0 and r["peak_rss_gib"] > 0 for r in ours.values())
    assert ours["neighbours"]["value"] == 1 and ours["shapley"]["value"] == 0
    values = {r["way"]: r["value"] for r in report["results"] if r["task"] == "facility" and "value" in r}
    assert values["dataworth"] >= 0.99 * values["dataworth-dense"] > 0
    assert values["dataworth-stochastic"] >= 0.95 * values["dataworth-dense"]
    for r in report["results"]:
        assert ("value" in r) != ("skipped" in r or "failed" in r)
    assert {"numpy", "numba", "faiss-cpu"} <= set(report["versions"]) and report["commit"] and report["hardware"]


def test_a_library_that_fails_is_a_line_and_ours_is_an_error(capsys, monkeypatch):
    def broken(case):
        raise ValueError("no\nluck")

    ways = [("dataworth", None, selection.our_herding, False), ("peer", "numpy", broken, False)]
    ways += [("absent", "no_such_package", broken, False), ("dense", None, broken, True)]
    monkeypatch.setitem(selection.TASKS, "herding", (selection.mean_gap, ways))
    monkeypatch.setattr(selection, "DENSE_LIMIT", 100)
    out = run(capsys, "--only", "herding")
    assert "ValueError: no\n" in out and "no_such_package isn't installed" in out and "all pairs" in out
    monkeypatch.setitem(selection.TASKS, "herding", (selection.mean_gap, [("dataworth", None, broken, False)]))
    with pytest.raises(ValueError, match="no"):
        run(capsys, "--only", "herding")


def test_a_way_apart_is_measured_in_its_own_process():
    args = {"width": 8, "keep": 0.1, "k": 4, "goal": 2, "spread": 0.5, "seed": 0}
    found = selection.apart("k-center", "dataworth", 60, args)
    assert found["value"] > 0 and found["peak_rss_gib"] < 1
