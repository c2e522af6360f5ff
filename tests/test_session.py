"""What a request resolves to: devices, workers, guards, costs, and the rows that may be missing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.made_pools import held_pool, jsonl_file, numbered

from dataworth import config, session
from dataworth.errors import NonsenseRefused, RequestError, TooManyRejects
from dataworth.recipe import Recipe
from dataworth.results import Scored, ScoreResult
from dataworth.session import SILENT, Session, open_session
from dataworth.store.cache import Cache


def request(pool: Any = "pool.jsonl", **more: Any) -> config.SelectRequest:
    return config.build(config.SelectRequest, {"pool": pool, "device": "cpu", "workers": 0, **more})


@pytest.fixture
def bare(tmp_path: Path) -> Session:
    return Session(request(), held_pool(numbered(6)), None, Recipe(), Cache(tmp_path / "cache"), SILENT)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_gpus", lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_gpus", lambda: 2)


@pytest.mark.usefixtures("no_gpu")
def test_without_gpus_there_is_a_worker_per_core() -> None:
    cores = len(os.sched_getaffinity(0))
    assert session.worker_devices("auto", None) == ["cpu"] * cores
    assert session.worker_devices("cpu", 3) == ["cpu"] * 3
    assert session.worker_devices("auto", 0) == []
    assert session.first_device("auto") == "cpu"
    with pytest.raises(RequestError, match="no GPU; use --device cpu"):
        session.worker_devices("cuda", None)


@pytest.mark.usefixtures("two_gpus")
def test_with_gpus_there_is_a_worker_per_gpu_and_more_take_turns() -> None:
    assert session.worker_devices("auto", None) == ["cuda:0", "cuda:1"]
    assert session.worker_devices("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert session.worker_devices("cuda:1", 2) == ["cuda:1", "cuda:1"]
    assert set(session.worker_devices("cpu", None)) == {"cpu"}
    assert session.first_device("auto") == "cuda:0"
    assert session.first_device("cuda:1") == "cuda:1"


def test_cuda_means_its_first_device() -> None:
    assert session.first_device("cuda") == "cuda:0"
    assert session.first_device("cpu") == "cpu"


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "cuda:-1", "gpu", "", "CPU"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(RequestError, match="expected auto, cpu, cuda or cuda:N"):
        session.check_device(device, None)


def test_fewer_workers_than_none_are_refused() -> None:
    with pytest.raises(RequestError, match="workers -1"):
        session.check_device("cpu", -1)
    assert session.check_device("cuda:7", 0) is None


@given(st.integers(1, 10**7), st.sampled_from([256, 4096]))
def test_shards_are_bounded_and_about_sixteen_for_small_jobs(rows: int, most: int) -> None:
    size = session.shard_size(rows, most)
    assert 16 <= size <= most
    shards = -(-rows // size)
    if 256 < rows < 16 * most:
        assert 15 <= shards <= 17
    assert size == session.shard_size(rows, most), "from the rows alone"


def test_a_guard_that_holds_is_recorded_and_says_nothing(bare: Session) -> None:
    bare.guard("empty-masks", True, "6 of 6 rows carry loss", "unused")
    assert bare.guards == [{"guard": "empty-masks", "passed": True, "evidence": "6 of 6 rows carry loss"}]


def test_a_guard_that_finds_the_same_again_is_recorded_once(bare: Session) -> None:
    for evidence in ("3 rows equal", "2 rows equal", "3 rows equal"):
        bare.guard("template-drift", True, evidence, "unused")
    assert [g["evidence"] for g in bare.guards] == ["3 rows equal", "2 rows equal"]


def test_a_guard_that_fails_is_recorded_before_it_refuses(bare: Session) -> None:
    with pytest.raises(NonsenseRefused, match="0 of 6 rows carry loss; give rows with an answer") as caught:
        bare.guard("empty-masks", False, "0 of 6 rows carry loss", "give rows with an answer")
    assert caught.value.exit_code == 2
    assert [g["passed"] for g in bare.guards] == [False]


def test_costs_of_a_stage_add_up(bare: Session) -> None:
    for rows in (3, 4):
        with bare.costing("score", rows):
            np.sort(np.random.default_rng(0).random(100_000))
    cost = bare.costs["score"]
    assert cost["rows"] == 7
    assert cost["wall_seconds"] > 0
    assert cost["cpu_seconds"] > 0


def test_an_error_within_a_stage_is_not_swallowed(bare: Session) -> None:
    with pytest.raises(ZeroDivisionError), bare.costing("score", 1):
        raise ZeroDivisionError


def test_artefacts_are_noted_as_used_once_each(bare: Session) -> None:
    first = bare.artefact("tokens", {"a": 1})
    again = bare.artefact("tokens", {"a": 1})
    other = bare.artefact("losses", {"a": 2})
    assert first.fingerprint == again.fingerprint
    assert bare.used == {first.fingerprint: "tokens", other.fingerprint: "losses"}


class Engine:
    """Computes the length of an id for each missing row, in shards, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.shard_rows: list[int] = []
        self.closed = 0

    def run(self, artefact: Any, ids: list[str], *, payload: Any, shard_rows: int, progress: Any, **_: Any) -> None:
        missing = artefact.missing(ids)
        self.asked.append(list(payload(missing)))
        self.shard_rows.append(shard_rows)
        for shard in artefact.plan(ids, shard_rows):
            columns = {"size": np.array([len(i) for i in shard.ids], dtype=np.int64)}
            artefact.commit(shard, columns, {})
        progress(len(missing), len(missing))

    def worker_seconds(self) -> float:
        return 0.0

    def close(self) -> None:
        self.closed += 1


def test_only_missing_rows_are_computed_and_all_asked_ones_come_back(bare: Session) -> None:
    engine = bare.__dict__["engine"] = Engine()
    artefact, ids = bare.artefact("sizes", {"of": "ids"}), list(bare.pool.ids)

    def fill(wanted: list[str]) -> Any:
        return bare.fill("sizes", artefact, wanted, "unused:runner", {}, lambda i: list(i))

    assert fill(ids[:4]).column("size").tolist() == [32] * 4
    table = fill(ids[::-1])
    assert engine.asked == [ids[:4], ids[:3:-1]]
    assert table.ids == tuple(ids[::-1])
    assert bare.costs["sizes"]["rows"] == 6
    fill(ids)
    assert len(engine.asked) == 2, "nothing was missing, so nothing ran"
    assert engine.shard_rows == [16, 16]


def test_workers_end_with_the_verb_even_after_an_error(bare: Session) -> None:
    engine = bare.__dict__["engine"] = Engine()
    with pytest.raises(KeyError), bare:
        raise KeyError
    assert engine.closed == 1


def test_a_session_that_needed_no_engine_starts_none(bare: Session) -> None:
    with bare as opened:
        assert opened is bare
    assert "engine" not in vars(bare)


def test_a_learner_that_was_not_named_is_asked_for(bare: Session) -> None:
    with pytest.raises(RequestError, match="expected --model"):
        _ = bare.learner


def test_opening_reads_pool_and_goal_and_lists_rejects_in_the_run(tmp_path: Path) -> None:
    pool = jsonl_file(tmp_path / "pool.jsonl", numbered(9))
    pool.write_text(pool.read_text() + "{broken\n")
    goal = jsonl_file(tmp_path / "goal.jsonl", numbered(2, start=50))
    goal.write_text(goal.read_text() + "[]\n")
    (tmp_path / "r.yaml").write_text("lora_r: 4\n")
    run = tmp_path / "run"
    run.mkdir()
    asked = request(str(pool), goal=str(goal), recipe=str(tmp_path / "r.yaml"), mask_like="trl")
    with open_session(asked, run) as opened:
        assert (len(opened.pool), opened.pool.rejected) == (9, 1)
        assert opened.goal is not None
        assert opened.goal.steer_rows() == 2
        assert (opened.recipe.lora_r, opened.recipe.mask_like) == (4, "trl")
        assert opened.costs["reading"]["rows"] == 9
    assert len((run / "rejected.jsonl").read_text().splitlines()) == 1
    assert len((run / "goal-rejected.jsonl").read_text().splitlines()) == 1


def test_reading_without_a_run_writes_nothing(tmp_path: Path) -> None:
    pool = jsonl_file(tmp_path / "in" / "pool.jsonl", numbered(3))
    pool.write_text(pool.read_text() + "{broken\n")
    before = sorted(tmp_path.rglob("*"))
    assert session.open_pool_of(request(str(pool)), None).rejected == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"duplicate_keys": "merge"}, "expected reject or last"),
        ({"task": "dpo"}, "expected sft, rl or classify"),
        ({"map": ("prompt",)}, "NAME=VALUE"),
        ({"device": "tpu"}, "expected auto, cpu"),
        ({"workers": -2}, "workers -2"),
    ],
)
def test_what_can_not_be_read_as_asked_is_refused(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    pool = jsonl_file(tmp_path / "pool.jsonl", numbered(3))
    with pytest.raises(RequestError, match=message):
        open_session(request(str(pool), **more), None)


def test_rows_with_repeated_keys_are_rejected_or_read_as_asked(tmp_path: Path) -> None:
    path = jsonl_file(tmp_path / "pool.jsonl", numbered(2))
    path.write_text(path.read_text() + '{"prompt": "a", "prompt": "b", "completion": "c"}\n')
    assert session.open_pool_of(request(str(path)), None).rejected == 1
    last = session.open_pool_of(request(str(path), duplicate_keys="last"), None)
    assert last.rejected == 0
    assert last.example(2).prompt == "b"


@pytest.mark.parametrize(
    ("rejected", "rows", "allowed", "fails"),
    [(0, 10, 0.0, False), (1, 99, 0.01, False), (1, 98, 0.01, True), (2, 98, 0.01, True), (10, 10, 0.5, False)],
)
def test_more_rejects_than_allowed_end_with_the_result_in_hand(
    rejected: int, rows: int, allowed: float, fails: bool
) -> None:
    record = {"pool": {"rejected": rejected, "rows": rows}}
    result = ScoreResult(Path("runs/x"), [], {"m": Scored(np.zeros(0))}, {"m": {}}, record)
    asked = request(max_rejected=allowed)
    if not fails:
        assert session.check_rejects(result, asked) is None
        return
    with pytest.raises(TooManyRejects, match=r"runs/x/rejected\.jsonl or raise --max-rejected") as caught:
        session.check_rejects(result, asked)
    assert caught.value.result is result
    assert caught.value.exit_code == 3


def test_a_record_of_costs_is_plain_json(bare: Session) -> None:
    with bare.costing("gate", 2):
        pass
    assert json.loads(json.dumps(bare.costs)) == bare.costs
