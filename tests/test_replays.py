"""Doing a finished run again: what is compared, what is refused, which cache is used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.made_pools import jsonl_file, numbered

import dataworth as dw
from dataworth import selecting
from dataworth.errors import RequestError
from dataworth.replays import _cache, _request, _warmup_ids
from dataworth.results import Scored
from dataworth.runs import PORTABLE
from dataworth.scores.length import Length
from dataworth.store.cache import Cache
from dataworth.store.run import RunFolder


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    jsonl_file(tmp_path / "pool.jsonl", [*numbered(14), *numbered(2)])
    jsonl_file(tmp_path / "goal.jsonl", [{"prompt": "birch cedar delta", "completion": "yes"}])
    return dw.select("pool.jsonl", goal="goal.jsonl", keep=6, run="mine").run


def rewrite_finished(name: str, change: Any) -> None:
    """Change a table of the finished run as if the run had found it so."""
    folder = RunFolder.existing("mine")
    columns = folder.read_table(name)
    change(columns)
    folder.write_table(name, columns)
    folder.finish()


def test_a_replay_finds_the_same_ids_and_scores_and_writes_nothing(run: Path) -> None:
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    found = dw.replay(run)
    assert (found.identical, found.kept, found.score_difference) == (True, 6, 0)
    assert found.only_before == found.only_now == ()
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()} == before


def test_a_replay_tells_ids_and_scores_that_differ(run: Path) -> None:
    kept = dw.select("pool.jsonl", goal="goal.jsonl", keep=6, run="mine").ids

    def drop_one(columns: dict[str, Any]) -> None:
        columns["id"], columns["weight"] = columns["id"][1:], columns["weight"][1:]

    def shift_one(columns: dict[str, Any]) -> None:
        columns["value"] = columns["value"] + np.eye(1, 16, 3)[0] * 0.5

    rewrite_finished("weights", drop_one)
    rewrite_finished("scores/bm25", shift_one)
    found = dw.replay(run)
    assert not found.identical
    assert (found.only_before, found.only_now) == ((), (kept[0],))
    assert found.score_difference == pytest.approx(0.5)


def test_a_score_that_changed_its_mind_is_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dw.select("pool.jsonl", method="length", keep=4, run="by-length")
    call = Length.__call__

    def turned(self: Length, *args: Any, **options: Any) -> Scored:
        return Scored(-call(self, *args, **options).values_N)

    monkeypatch.setattr(Length, "__call__", turned)
    found = dw.replay(first.run)
    assert not found.identical
    assert set(found.only_before) == set(first.ids) - set(found.only_now)
    assert found.only_now
    assert "NOT the same" in found.explain()


def test_rows_in_another_order_are_the_same_rows(run: Path) -> None:
    path = Path("pool.jsonl")
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    found = dw.replay(run)
    assert found.identical
    assert found.score_difference == 0


def test_a_moved_or_touched_file_replays_and_changed_rows_do_not(run: Path) -> None:
    os.utime("pool.jsonl", (1, 1))
    assert dw.replay(run).identical
    shutil.move("goal.jsonl", "aside.jsonl")
    shutil.copy("aside.jsonl", "goal.jsonl")
    assert dw.replay(run).identical
    Path("pool.jsonl").write_text(Path("pool.jsonl").read_text().replace("amber", "ember"))
    with pytest.raises(RequestError, match=r"inputs changed since \(pool\)"):
        dw.replay(run)


def test_a_changed_goal_or_recipe_is_named(run: Path) -> None:
    jsonl_file(Path("goal.jsonl"), numbered(3, 70))
    with pytest.raises(RequestError, match=r"inputs changed since \(goal\)"):
        dw.replay(run)
    Path("r.yaml").write_text("lora_r: 4\n")
    other = dw.select("pool.jsonl", method="length", keep=3, recipe="r.yaml", run="other").run
    Path("r.yaml").write_text("lora_r: 8\n")
    with pytest.raises(RequestError, match=r"inputs changed since \(recipe"):
        dw.replay(other)


@pytest.mark.parametrize("damage", ["selection.parquet", "weights.parquet", "finished.json"])
def test_an_unfinished_or_damaged_run_is_refused(run: Path, damage: str) -> None:
    (run / damage).unlink()
    with pytest.raises(RequestError, match="is not finished"):
        dw.replay(run)


def test_a_folder_that_is_no_run_is_refused() -> None:
    with pytest.raises(RequestError, match="expected a run folder"):
        dw.replay("nowhere")


def test_a_score_run_is_refused_in_one_line() -> None:
    dw.score("pool.jsonl", method="length", run="scored")
    with pytest.raises(RequestError, match="score run: expected a select run") as caught:
        dw.replay("scored")
    assert "\n" not in str(caught.value)


def test_the_request_comes_back_from_the_runs_own_config(run: Path) -> None:
    request = _request(RunFolder.existing(run).config)
    assert (request.pool, request.goal, request.keep) == (("pool.jsonl",), "goal.jsonl", "6")
    assert request.workers is None


def test_recorded_warm_up_rows_are_taken_from_the_record() -> None:
    assert _warmup_ids({"warmup": {"ids": ["a", "b"], "base": 9}}) == ("a", "b")
    assert _warmup_ids({"warmup": None}) is None
    assert _warmup_ids({}) is None


def test_a_replay_uses_the_runs_own_arrays_else_the_shared_cache(run: Path, tmp_path: Path) -> None:
    folder = RunFolder.existing(run)
    with _cache(folder, from_scratch=False) as found:
        assert found.root == Cache().root
    (run / PORTABLE).mkdir()
    with _cache(folder, from_scratch=False) as found:
        assert found.root == run / PORTABLE


def test_from_scratch_works_in_an_empty_cache_that_is_gone_afterwards(run: Path) -> None:
    Cache().artefact("tokens", {"x": 1}).folder.mkdir(parents=True)
    with _cache(RunFolder.existing(run), from_scratch=True) as found:
        assert found.root != Cache().root
        assert found.size() == {}
        (found.root / "tokens").mkdir()
    assert not found.root.exists()
    assert (Cache().root / "tokens").exists()


def test_from_scratch_leaves_nothing_behind_after_an_error(run: Path) -> None:
    with pytest.raises(KeyError), _cache(RunFolder.existing(run), from_scratch=True) as found:
        raise KeyError
    assert not found.root.exists()


def test_what_a_replay_compares_is_on_disk_as_plain_tables(run: Path) -> None:
    assert pq.read_schema(run / "weights.parquet").field("weight").type == pa.float64()
    assert pq.read_table(run / "selection.parquet").num_rows == 16
    assert json.loads((run / "record.json").read_text())["content"]["method"] == "bm25"


@pytest.mark.parametrize("from_scratch", [False, True])
def test_rows_are_chosen_with_that_cache_and_the_recorded_warm_up(
    run: Path, monkeypatch: pytest.MonkeyPatch, from_scratch: bool
) -> None:
    seen: list[Any] = []
    choose = selecting.choose_rows

    def look(session: Any, *rest: Any) -> Any:
        seen.append((session.cache.root, session.warmup_ids))
        return choose(session, *rest)

    folder = RunFolder.existing(run)
    record = folder.read_record()
    folder.write_record(record["content"] | {"warmup": {"ids": ["a", "b"], "base": 3}}, record["timings"])
    folder.finish()
    monkeypatch.setattr(selecting, "choose_rows", look)
    (run / PORTABLE).mkdir()
    assert dw.replay(run, from_scratch=from_scratch).identical
    ((root, warmup),) = seen
    assert warmup == ("a", "b")
    assert (root == run / PORTABLE) is not from_scratch
    assert root != Cache().root
