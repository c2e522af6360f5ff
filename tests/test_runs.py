"""The run folder: what makes two requests one run, what is stored, and that it comes back as it was."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.made_pools import held_pool, jsonl_file, numbered

from dataworth import config, plugins, runs
from dataworth.errors import RequestError
from dataworth.picks.ledger import REASONS
from dataworth.recipe import Recipe
from dataworth.records import Budget, Goal, Pool, Subtask
from dataworth.results import Scored, Selection
from dataworth.runs import (
    copy_artefacts,
    finished_scores,
    finished_selection,
    identity,
    open_run,
    read_scored,
    record_of,
    sample_rows,
    store_picked,
    store_score_run,
    store_scores,
    store_selection,
)
from dataworth.session import SILENT, Session
from dataworth.store.cache import Cache
from dataworth.store.run import RunFolder

SCORE, PICK = plugins.load("scores", "length"), plugins.load("picks", "top_k")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jsonl_file(tmp_path / "pool.jsonl", numbered(8))
    jsonl_file(tmp_path / "goal.jsonl", numbered(2, start=40))


def request(**more: Any) -> config.SelectRequest:
    return config.build(config.SelectRequest, {"pool": "pool.jsonl", "goal": "goal.jsonl", **more})


def touch(path: str) -> None:
    """Other bytes of the same size, a second later."""
    stat = Path(path).stat()
    Path(path).write_bytes(Path(path).read_bytes().replace(b"y", b"z"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


def session(pool: Pool, **more: Any) -> Session:
    goal = Goal((Subtask("g", held_pool(numbered(2, start=40))),))
    return Session(request(**more), pool, goal, Recipe(), Cache(), SILENT)


def odd_pool() -> Pool:
    """Copies, an empty answer and long text among ordinary rows."""
    rows = numbered(6)
    return held_pool([*rows, rows[0], rows[0], {"prompt": "p " * 300, "completion": ""}], sources=["s", *"ttttuuuu"])


def scored_of(pool: Pool) -> Scored:
    values = np.arange(len(pool), dtype=np.float64) / 3
    values[-1] = np.nan
    return Scored(values, {pool.ids[-1]: "every assistant turn is empty"})


def selected(pool: Pool, scored: Scored, excluded: dict[str, tuple[str, str]], keep: int = 3) -> Selection:
    inputs = {
        "ids": pool.ids,
        "score:length": scored,
        "excluded": excluded,
        "source_N": pool.source_N,
        "sources": pool.sources,
    }
    return PICK(inputs, Budget("rows", keep), seed=0)


DIFFERENT = {
    "keep": "7",
    "margin": 0.5,
    "method": "length",
    "pick": "random",
    "seed": 1,
    "option": ("k1=2",),
    "map": ("prompt=prompt",),
    "goal_map": ("prompt=prompt",),
    "task": "sft",
    "mask_like": "trl",
    "keep_near_goal": True,
    "duplicate_keys": "last",
    "rewarm": True,
    "goal": None,
    "model": "some/model",
    "recipe": "absent.yaml",
    "encoder": "some/encoder",
    "policy": "auto",
    "dynamics": ("recorded.npz",),
}
SAME = {"device": "cpu", "workers": 3, "run": "mine", "out": "x.jsonl", "portable": True, "max_rejected": 0.5}


@pytest.mark.parametrize("name", sorted(DIFFERENT))
def test_what_changes_the_answer_makes_another_run(name: str) -> None:
    assert identity("select", request(**{name: DIFFERENT[name]})) != identity("select", request())


@pytest.mark.parametrize("name", sorted(SAME))
def test_where_it_runs_and_writes_does_not(name: str) -> None:
    assert identity("select", request(**{name: SAME[name]})) == identity("select", request())


def test_every_field_of_a_request_is_one_or_the_other() -> None:
    assert set(DIFFERENT) | set(SAME) | {"pool"} == set(config.to_dict(request()))


def test_the_verb_belongs_to_the_run() -> None:
    assert identity("select", request()) != identity("plan", request())


@pytest.mark.parametrize("path", ["pool.jsonl", "goal.jsonl"])
def test_a_changed_input_makes_another_run_even_of_the_same_size(path: str) -> None:
    before = identity("select", request())
    assert identity("select", request()) == before
    touch(path)
    assert identity("select", request()) != before


def test_files_that_a_goal_file_names_count_as_inputs_also_sliced_and_judge_ones() -> None:
    jsonl_file(Path("rows/steer.jsonl"), numbered(4, start=60))
    jsonl_file(Path("rows/judge.jsonl"), numbered(4, start=70))
    steps = "- {name: a, steer: 'rows/steer.jsonl:0-2', tune: 'rows/steer.jsonl:2-4', judge: rows/judge.jsonl}"
    Path("goal.yaml").write_text(f"subtasks:\n  {steps}\n")
    before = identity("select", request(goal="goal.yaml"))
    assert {"goal.yaml", "rows/steer.jsonl", "rows/judge.jsonl"} <= set(before["inputs"])
    for path in ("rows/steer.jsonl", "rows/judge.jsonl", "goal.yaml"):
        touch(path)
        after = identity("select", request(goal="goal.yaml"))
        assert after != before, path
        before = after


def test_files_of_a_local_model_and_the_recipe_count_as_inputs() -> None:
    Path("model").mkdir()
    Path("model/model.safetensors").write_bytes(b"yy")
    Path("r.yaml").write_text("lora_r: 4  # y\n")
    before = identity("select", request(model="model", recipe="r.yaml"))
    for path in ("model/model.safetensors", "r.yaml"):
        touch(path)
        after = identity("select", request(model="model", recipe="r.yaml"))
        assert after != before, path
        before = after


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("pool.jsonl", "pool"),
        ("my data (v2).jsonl", "my-data-v2"),
        ("ünï.jsonl", "n"),
        ("…….jsonl", "pool"),
        ("a.b.jsonl", "a"),
    ],
)
def test_a_run_is_named_after_verb_and_pool(name: str, stem: str) -> None:
    jsonl_file(Path(name), numbered(3))
    run = open_run("select", request(pool=name))
    assert run.path.parent == Path("runs")
    assert run.path.name.rsplit("-", 1)[0] == f"select-{stem}"
    assert len(run.path.name.rsplit("-", 1)[1]) == 8
    assert open_run("select", request(pool=name)).path == run.path


def test_a_folder_of_another_request_is_refused_with_the_keys() -> None:
    open_run("select", request(run="mine", seed=0))
    with pytest.raises(RequestError, match=r"differs in keep, seed"):
        open_run("select", request(run="mine", seed=1, keep="9"))
    with pytest.raises(RequestError, match="verb"):
        open_run("plan", request(run="mine"))


def test_a_selection_comes_back_as_it_was_with_copies_unscored_and_excluded_rows() -> None:
    pool = odd_pool()
    scored = scored_of(pool)
    selection = selected(pool, scored, {pool.ids[4]: ("near-goal", "4 words in common")}, keep=4)
    opened = session(pool, run="mine")
    opened.notes.append("a note: «ü»\nover two lines")
    opened.guard("constant-score", True, "8 values", "")
    run = open_run("select", opened.request)
    first = store_selection(run, opened, SCORE, PICK, scored, selection)
    again = finished_selection(RunFolder.existing("mine"))
    assert again is not None
    assert again.ids == first.ids == selection.ids
    assert any("#" in i for i in first.ids)
    assert np.array_equal(again.selection.weights, selection.weights)
    assert np.array_equal(again.selection.kept_N, selection.kept_N)
    assert np.array_equal(again.selection.reason_code_N, selection.reason_code_N)
    assert again.selection.reason_code_N.dtype == np.uint8
    assert again.selection.reasons == selection.reasons
    assert again.selection.counts() == {"kept-top": 4, "below-cut": 3, "unscored": 1, "near-goal": 1}
    assert dict(again.selection.boundary) == dict(selection.boundary)
    assert again.selection.notes == selection.notes
    assert np.array_equal(again.scored.values_N, scored.values_N, equal_nan=True)
    assert again.scored.unscored == scored.unscored
    assert again.kept_sample == first.kept_sample
    assert again.explain() == first.explain()
    assert again.to_dict() == json.loads(json.dumps(first.to_dict()))


def test_weights_and_reasons_on_disk_add_up() -> None:
    pool = odd_pool()
    scored = scored_of(pool)
    run = open_run("select", request(run="mine"))
    store_selection(run, session(pool, run="mine"), SCORE, PICK, scored, selected(pool, scored, {}))
    rows, weights = run.read_table("selection"), run.read_table("weights")
    assert rows["id"] == list(pool.ids)
    assert weights["id"] == [i for i, kept in zip(rows["id"], rows["kept"], strict=True) if kept]
    assert weights["weight"].sum() == rows["kept"].sum() == 3
    assert set(rows["reason"]) <= set(REASONS)
    for reason, kept in zip(rows["reason"], rows["kept"], strict=True):
        assert reason.startswith("kept-") == bool(kept)
    record = run.read_record()["content"]
    assert sum(r["rows"] for r in record["selection"]["reasons"].values()) == record["pool"]["rows"] == len(pool)


def test_a_run_whose_files_changed_is_not_finished() -> None:
    pool = odd_pool()
    scored = scored_of(pool)
    run = open_run("select", request(run="mine"))
    assert finished_selection(run) is None
    store_selection(run, session(pool, run="mine"), SCORE, PICK, scored, selected(pool, scored, {}))
    assert finished_selection(run) is not None
    path = Path("mine/selection.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    assert finished_selection(run) is None


def test_scores_come_back_with_correlations_that_do_not_exist() -> None:
    pool = odd_pool()
    scores = {"length": scored_of(pool), "random": Scored(np.linspace(0, 1, len(pool)))}
    rho = {"length": {"length": 1.0, "random": float("nan")}, "random": {"length": 0.25, "random": 1.0}}
    run = open_run("score", config.build(config.ScoreRequest, {"pool": "pool.jsonl", "run": "scored"}))
    assert finished_scores(run) is None
    first = store_score_run(run, session(pool), scores, rho)
    again = finished_scores(run)
    assert again is not None
    assert again.ids == first.ids == pool.ids
    assert list(again.scores) == ["length", "random"]
    assert again.scores["length"].unscored == scores["length"].unscored
    assert np.array_equal(again.scores["length"].values_N, scores["length"].values_N, equal_nan=True)
    assert np.isnan(again.correlations["length"]["random"])
    assert again.correlations["random"] == rho["random"]
    assert again.explain() == first.explain()
    assert again.record == json.loads(json.dumps(first.record)), "a finished run says what it said"


@pytest.mark.parametrize("missing", [[], [0], [3, 4, 8], range(9)], ids=["none", "one", "some", "all"])
@pytest.mark.parametrize("rows", [1, 9])
def test_tables_hold_the_bytes_that_a_row_at_a_time_gives(rows: int, missing: Sequence[int]) -> None:
    pool = held_pool([numbered(6)[i % 6] for i in range(rows)])
    values = np.array([0.1, -0.0, 1e300, -7, 2, 1 / 3, 2, 0.0, 5e-324])[:rows]
    out = [i for i in missing if i < rows]
    values[out] = np.nan
    scored = Scored(values, {pool.ids[i]: "it is «empty»" if i % 2 else "" for i in out})
    held = selected(pool, scored, {pool.ids[0]: ("near-goal", "x")}, keep=2)
    ours, naive = (RunFolder(Path(name), {"verb": "select"}) for name in ("ours", "naive"))
    store_scores(ours, session(pool), {"length": scored})
    store_picked(ours, pool, held)
    ids = list(pool.ids)
    value = [None if np.isnan(v) else float(v) for v in scored.values_N]
    naive.write_table("scores/length", {"id": ids, "value": value, "unscored": [scored.unscored.get(i) for i in ids]})
    reason = [held.reasons[c] for c in held.reason_code_N]
    naive.write_table("selection", {"id": ids, "kept": held.kept_N, "reason": reason})
    naive.write_table("weights", {"id": list(held.ids), "weight": held.weights})
    for name in ("scores/length.parquet", "selection.parquet", "weights.parquet"):
        assert (ours.path / name).read_bytes() == (naive.path / name).read_bytes()


def test_null_values_and_reasons_stay_apart() -> None:
    table = {"id": ["a", "b", "c"], "value": [1.0, None, 0.0], "unscored": [None, "", None]}
    found = read_scored(table)
    assert found.unscored == {"b": ""}
    assert np.isnan(found.values_N[1])
    assert found.values_N[2] == 0


def test_the_record_names_everything_the_numbers_depend_on() -> None:
    opened = session(odd_pool(), seed=5)
    opened.artefact("tokens", {"x": 1})
    opened.warmup_record = {"ids": ["a"], "base": 9}
    opened.guard("g", True, "e", "")
    with opened.costing("gate", 3):
        pass
    content, timings = record_of(opened)
    assert {"python", "numpy", "dataworth", "torch"} <= set(content["versions"])
    assert content["seed"] == 5
    assert content["pool"]["rows"] == 9
    assert content["pool"]["copies"] == 2
    assert content["pool"]["fingerprint"] == opened.pool.fingerprint
    assert content["goal"]["steer_rows"] == {"g": 2}
    assert content["recipe"] == Recipe().to_dict()
    assert list(content["artefacts"].values()) == ["tokens"]
    assert content["warmup"]["base"] == 9
    assert "learner" not in content, "no model was named"
    assert set(timings) == {"costs", "machine", "command"}
    assert json.loads(json.dumps([content, timings])) == [content, timings]
    assert not set(timings) & set(content)


def test_versions_of_what_is_not_installed_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise runs.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(runs.metadata, "version", absent)
    found = runs.versions()
    assert found["torch"] == "not installed"
    assert found["python"].count(".") == 2


def test_samples_are_the_best_kept_and_the_edge_and_end_of_the_dropped() -> None:
    pool = held_pool(numbered(10))
    scored = Scored(np.array([5.0, 9, 1, 7, 3, 8, 2, 6, 0, 4]))
    found = sample_rows(pool, scored, selected(pool, scored, {}, keep=4), SCORE)
    assert [r.score for r in found["kept"]] == [9, 8, 7]
    assert [r.score for r in found["dropped"]] == [5, 1, 0]
    assert found["kept"][0].why == "kept: among the highest by length within the budget (length 9, rank 1 of 10)"
    assert found["dropped"][-1].why.endswith("rank 10 of 10)")


def test_samples_of_a_score_to_keep_low_are_the_lowest() -> None:
    class Lower:
        name, higher = "loss", "drop"

    pool = held_pool(numbered(5))
    scored = Scored(np.array([5.0, 1, 3, 2, 4]))
    kept = Selection(
        pool.ids[1:2],
        np.ones(1),
        np.arange(5) == 1,
        (np.arange(5) != 1).astype(np.uint8),
        ("k", "d"),
        {"k": "K", "d": "D"},
    )
    found = sample_rows(pool, scored, kept, Lower())  # type: ignore[arg-type]
    assert [r.score for r in found["kept"]] == [1]
    assert [r.score for r in found["dropped"]] == [2, 4, 5]


def test_samples_say_why_a_row_has_no_score_and_cut_long_text() -> None:
    pool = odd_pool()
    scored = scored_of(pool)
    found = sample_rows(pool, scored, selected(pool, scored, {}), SCORE)
    last = found["dropped"][-1]
    assert last.score is None
    assert last.why.endswith(": every assistant turn is empty")
    assert len(last.text) == 160
    assert last.text.endswith("…")
    assert "\n" not in "".join(r.text for rows in found.values() for r in rows)


def test_few_rows_are_never_shown_twice() -> None:
    pool = held_pool(numbered(2))
    scored = Scored(np.array([1.0, 2.0]))
    found = sample_rows(pool, scored, selected(pool, scored, {}, keep=1), SCORE)
    assert (len(found["kept"]), len(found["dropped"])) == (1, 1)


def fill_cache(kind: str, spec: dict[str, Any], text: str) -> str:
    artefact = Cache().artefact(kind, spec)
    artefact.folder.mkdir(parents=True)
    (artefact.folder / "part.bin").write_text(text)
    (artefact.folder / "lock").write_text("{}")
    return artefact.fingerprint


def test_a_portable_run_carries_the_entries_it_used_without_locks() -> None:
    used = fill_cache("tokens", {"a": 1}, "kept")
    unused = fill_cache("tokens", {"a": 2}, "left")
    run = RunFolder("mine", {"verb": "select"})
    copy_artefacts(run, {"artefacts": {used: "tokens"}})
    copy = run.path / runs.PORTABLE / "tokens"
    assert (copy / used / "part.bin").read_text() == "kept"
    assert not (copy / used / "lock").exists()
    assert not (copy / unused).exists()
    copy_artefacts(run, {"artefacts": {used: "tokens"}})


def test_a_portable_run_whose_entries_are_gone_is_refused_unless_it_has_them() -> None:
    used = fill_cache("tokens", {"a": 1}, "kept")
    run = RunFolder("mine", {"verb": "select"})
    copy_artefacts(run, {"artefacts": {used: "tokens"}})
    Cache().clear()
    copy_artefacts(run, {"artefacts": {used: "tokens"}})
    other = RunFolder("other", {"verb": "select"})
    with pytest.raises(RequestError, match="is gone: --portable"):
        copy_artefacts(other, {"artefacts": {used: "tokens"}})
