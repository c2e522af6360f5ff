import json
from dataclasses import replace

import pytest
from benchmarks import selection
from benchmarks.selection import Case, Goal, Task, Way

ARGS = {"width": 8, "keep": 0.1, "k": 4, "goal": 2, "spread": 0.5, "seed": 0}


def run(capsys, *more):
    selection.main(["--rows", "240", "--width", "16", "--goal", "5", "--in-process", *more])
    return capsys.readouterr().out


def only(monkeypatch, task, *ways):
    monkeypatch.setitem(selection.TASKS, task, replace(selection.TASKS[task], ways=ways))


@pytest.fixture
def without_rivals(monkeypatch):
    found = selection.find_spec
    monkeypatch.setattr(selection, "find_spec", lambda name: found(name) if name == "no such" else None)


def test_every_task_is_measured_and_absent_libraries_are_named(capsys, without_rivals):
    report = json.loads(run(capsys, "--json"))
    ours = {r["task"]: r for r in report["results"] if r["way"] == "dataworth"}
    assert set(ours) == set(selection.TASKS)
    assert all(r["cpu_seconds"] >= 0 and r["peak_rss_gib"] > 0 for r in ours.values())
    assert ours["neighbours"]["value"] == 1 and ours["shapley"]["value"] == 0
    facility = {r["way"]: r for r in report["results"] if r["task"] == "facility"}
    assert facility["dataworth"]["of_dense"] >= 0.99 and facility["dataworth-dense"]["of_dense"] == 1
    assert facility["dataworth-stochastic"]["of_dense"] >= 0.95 and facility["dataworth"]["value"] > 0
    assert len(ours["facility"]["takes"]) == 2 * selection.TURNS  # beside each of our other two ways
    assert facility["submodlib-sparse"]["skipped"] == "submodlib isn't installed"
    for r in report["results"]:
        assert ("value" in r) != ("skipped" in r)
    assert {"numpy", "numba", "faiss-cpu"} <= set(report["versions"]) and report["commit"] and report["hardware"]
    assert all(goal["met"] is None for goal in report["goals"])  # none is about 240 rows


def test_top_k_writes_a_reason_for_every_row_and_tells_its_steps(capsys):
    row = json.loads(run(capsys, "--json", "--only", "top-k"))["results"][0]
    assert row["value"] == 1 and set(row["steps"]) == {"inputs", "pick", "sidecar", "run"}
    told = selection.our_top_k(Case(3000, ARGS).ready(("pool", "scored")))
    assert told.found.counts() == {"kept-top": 150, "below-cut": 2847, "unscored": 3}
    worse = replace(told.found, kept_N=told.found.kept_N[::-1])
    assert selection.right_rows(Case(3000, ARGS), replace(told, found=worse)) == 0


def test_a_case_is_made_again_but_for_what_is_given(tmp_path):
    case = Case(60, {**ARGS, "folder": str(tmp_path)}).ready(("_all", "graph"))
    again = Case(60, {**ARGS, "folder": str(tmp_path)}).ready(("_all", "graph"))
    assert (case.graph != again.graph).nnz == 0 and type(case.graph) is type(again.graph)
    assert [p.name for p in tmp_path.iterdir()] == ["graph-60.npz"]
    assert "graph" not in vars(case.ready(("_all",))) and "_all" in vars(case)
    assert case.x.shape == (60, 8) and case.goal.shape == (2, 8)
    assert abs((case.x**2).sum(axis=1) - 1).max() < 1e-6


def test_a_library_that_fails_is_a_line_and_ours_is_an_error(capsys, monkeypatch):
    def broken(case):
        raise ValueError("no\nluck")

    ours = Way("dataworth", None, selection.our_herding)
    rivals = Way("peer", "numpy", broken), Way("absent", "no_such_package", broken), Way("dense", None, broken, True)
    only(monkeypatch, "herding", ours, *rivals)
    monkeypatch.setattr(selection, "DENSE_LIMIT", 100)
    out = run(capsys, "--only", "herding")
    assert "ValueError: no\n" in out and "no_such_package isn't installed" in out and "all pairs" in out
    monkeypatch.setattr(selection, "ALONE", 100)
    assert "not tried with more than 100 rows" in run(capsys, "--only", "herding", "--ways", "peer")
    only(monkeypatch, "herding", Way("dataworth", None, broken))
    with pytest.raises(ValueError, match="no"):
        run(capsys, "--only", "herding")


def test_a_way_apart_is_measured_in_its_own_process_and_stopped_at_its_limit():
    found = selection.apart("k-center", "dataworth", 60, ARGS)
    assert found["value"] > 0 and found["peak_rss_gib"] < 1
    scikit = selection.apart("k-center", "scikit-learn-usual", 2000, {**ARGS, "width": 256, "limit": 0.02})
    assert scikit == {"more_than_cpu_seconds": 0.02}
    assert "value" not in selection.apart("k-center", "dataworth", 60, {**ARGS, "limit": 1e-6}, value=False)


def test_finished_takes_are_kept_and_other_settings_refused(capsys, monkeypatch, tmp_path):
    calls = []

    def slow(case):
        calls.append(case.rows)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return selection.our_herding(case)

    only(monkeypatch, "herding", Way("dataworth", None, selection.our_herding), Way("peer", None, slow))
    monkeypatch.setattr(selection, "AGAIN", 0)
    out = tmp_path / "out.json"
    with pytest.raises(KeyboardInterrupt):  # a turn is warm-up, start and take: the third turn is cut off
        monkeypatch.setattr(selection, "TURNS", 3)
        run(capsys, "--only", "herding", "--out", str(out))
    kept = json.loads(out.read_text())
    assert [(t["way"], t["turn"]) for t in kept["takes"]] == [(w, t) for t in (0, 1) for w in ("dataworth", "peer")]
    calls.clear()
    report = json.loads(run(capsys, "--only", "herding", "--out", str(out), "--json"))
    assert len(calls) == 3 and report["takes"][:4] == kept["takes"] and len(report["takes"]) == 6
    calls.clear()
    assert json.loads(run(capsys, "--only", "herding", "--out", str(out), "--json"))["takes"] == report["takes"]
    assert not calls
    with pytest.raises(SystemExit, match="another keep"):
        run(capsys, "--only", "herding", "--out", str(out), "--keep", "0.2")


def take(way, turn, beside, **found):
    return {"task": "greedy", "way": way, "rows": 100, "turn": turn, "beside": beside, **found}


def test_ratios_are_of_one_turn_and_a_stopped_rival_bounds_them(monkeypatch):
    seconds = {"wall_seconds": 1, "peak_rss_gib": 1}
    takes = []
    for turn, (ours, theirs) in enumerate([(1.0, 10.0), (2.0, 20.0), (1.0, 40.0)]):
        takes.append(take("dataworth", turn, "apricot", cpu_seconds=ours, start_cpu_seconds=0, **seconds))
        takes.append(take("apricot", turn, "apricot", cpu_seconds=theirs, start_cpu_seconds=2, **seconds))
    takes.append(take("dataworth", 0, "submodlib", cpu_seconds=0.5, start_cpu_seconds=0, value=3.0, **seconds))
    takes.append(take("submodlib", 0, "submodlib", more_than_cpu_seconds=60))
    rows = {r["way"]: r for r in selection.rows_of(takes)}
    assert rows["apricot"]["times_ours"] == 10 and rows["apricot"]["times_ours_started"] == 9
    assert rows["apricot"]["cpu_seconds"] == 10 and "times_ours" not in rows["dataworth"]
    assert rows["dataworth"]["cpu_seconds"] == 0.5 and rows["dataworth"]["value"] == 3
    assert rows["submodlib"]["times_ours_at_least"] == 120 and "cpu_seconds" not in rows["submodlib"]
    about = {"task": "greedy", "rows": 100}
    goals = [
        Goal("a", way="apricot", key="times_ours", wanted=20, **about),
        Goal("b", way="submodlib", key="times_ours", wanted=100, **about),
        Goal("c", way="submodlib", key="times_ours", wanted=200, **about),
        Goal("d", way="dataworth", key="cpu_seconds", wanted=1, most=True, **about),
    ]
    monkeypatch.setattr(selection, "GOALS", goals)
    found = selection.goals_of(list(rows.values()))
    assert [(g["found"], g["met"]) for g in found] == [(10, False), ("> 120", True), ("> 120", None), (0.5, True)]


def test_sizes_of_goals_come_first_and_every_goal_is_planned():
    args = {"only": [], "rows": []}
    planned = selection.plan(args)
    wanted = {(g.task, g.rows) for g in selection.GOALS}
    assert set(planned[: len(wanted)]) == wanted
    assert len(planned) == len(set(planned))
    assert set(planned) == {(task, rows) for task, job in selection.TASKS.items() for rows in job.sizes}
    assert all(any(w.name == g.way for w in selection.TASKS[g.task].ways) for g in selection.GOALS)
    assert selection.plan({"only": ["greedy"], "rows": [5, 7]}) == [("greedy", 5), ("greedy", 7)]
    assert all(isinstance(job, Task) and job.ways[0].name == selection.OURS for job in selection.TASKS.values())


RIVALS = [(task, way.name) for task, job in selection.TASKS.items() for way in job.ways if way.package]


@pytest.mark.parametrize("task, way", RIVALS)
def test_what_rivals_find_is_what_we_find(task, way):
    chosen = next(w for w in selection.TASKS[task].ways if w.name == way)
    pytest.importorskip(chosen.package)
    job, case = selection.TASKS[task], Case(120, {**ARGS, "keep": 0.2})
    theirs = job.value(case, chosen.work(case.ready(job.ready)))
    ours = job.value(case, job.ways[0].work(case.ready(job.ready)))
    if task == "shapley":
        assert theirs < 1e-6  # the largest difference to ours
    elif task == "herding":
        assert theirs < 3 * ours + 0.1
    else:
        assert theirs == pytest.approx(ours, rel=0.05)
