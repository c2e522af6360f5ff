"""What a run reports, in the calling process: progress, retries, answers that don't fit, errors of a payload."""

from __future__ import annotations

import psutil
import pytest
from engine_toys import artefact_at, row_ids, value

from dataworth.engines import LocalEngine
from dataworth.errors import RequestError

IDS = row_ids(40)
EMPTY = [i for i in IDS if i.endswith("0")]


def run(root, ids=IDS, config=None, engine=None, **asked):
    seen: list[tuple[int, int]] = []
    asked = {"shard_rows": 8, **asked}
    report = (engine or LocalEngine(0)).run(
        artefact_at(root),
        ids,
        runner="engine_toys:make",
        config=config or {},
        progress=lambda done, total: seen.append((done, total)),
        **asked,
    )
    return report, seen


def assert_rising(seen, total):
    assert [t for _, t in seen] == [total] * len(seen)
    done = [d for d, _ in seen]
    assert done == sorted(done) and 0 <= done[0] and done[-1] == total


def test_progress_counts_what_was_there_before(tmp_path):
    run(tmp_path, IDS[:10])
    report, seen = run(tmp_path, [*IDS, *IDS[:5]])
    assert seen[0] == (10, 40) and report.rows == 30
    assert_rising(seen, 40)
    report, seen = run(tmp_path)
    assert seen == [(40, 40)] and report.rows == 0


def test_progress_of_a_retry_ends_at_the_total(tmp_path):
    bad = [i for i in IDS if i not in EMPTY][:3]
    first, _ = run(tmp_path, config={"raise": bad})
    assert set(first.quarantined) == set(bad)
    report, seen = run(tmp_path, retry_unscored=True)
    assert report.rows == len(bad) + len(EMPTY) and report.quarantined == {}
    assert_rising(seen, 40)
    assert set(artefact_at(tmp_path).table(IDS).unscored) == set(EMPTY)


def test_progress_never_passes_the_total_when_an_open_retry_is_resumed(tmp_path):
    bad = [i for i in IDS if i not in EMPTY][:3]
    run(tmp_path, IDS[:20], config={"raise": bad})
    assert artefact_at(tmp_path).plan(IDS[:20], retry_unscored=True)  # killed here
    report, seen = run(tmp_path, IDS)
    assert_rising(seen, 40)
    assert report.rows == 20 + len([i for i in IDS[:20] if i in EMPTY or i in bad])
    table = artefact_at(tmp_path).table(IDS)
    assert set(table.unscored) == set(EMPTY)
    assert table.column("wide")[:, 0].tolist() == [value(i) for i in IDS if i not in EMPTY]


@pytest.mark.parametrize("rows", [1, 3, 8, 100])
def test_payloads_are_asked_for_once_per_task_with_its_ids(tmp_path, rows):
    asked: list[tuple[str, ...]] = []

    def payload(ids):
        asked.append(ids)
        return [i[::-1] for i in ids]

    report, _ = run(tmp_path, payload=payload, shard_rows=rows)
    assert report.rows == 40 and sorted(i for ids in asked for i in ids) == sorted(IDS)
    assert all(len(ids) == rows for ids in asked[:-1]) and len(asked) == -(-40 // rows)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_payload_is_the_callers_and_what_was_stored_stays(tmp_path, workers):
    calls: list[int] = []

    def payload(ids):
        calls.append(len(ids))
        if len(calls) == 3:
            raise LookupError("the pool's file is gone")
        return None

    with LocalEngine(workers) as engine, pytest.raises(LookupError, match="file is gone"):
        run(tmp_path, payload=payload, engine=engine)
    left = artefact_at(tmp_path).missing(IDS)
    assert len(left) % 8 == 0 and 16 <= len(left) <= 32
    assert psutil.Process().children() == []
    report, seen = run(tmp_path)
    assert report.rows == len(left) and seen[0] == (40 - len(left), 40)


def test_answers_that_do_not_fit_are_refused_and_not_stored(tmp_path, monkeypatch):
    import engine_toys
    import numpy as np

    shapes = {
        "short": lambda ids: ({"x": np.zeros(len(ids) - 1)}, {}),
        "stranger": lambda ids: ({"x": np.zeros(len(ids))}, {"f" * 32: "who?"}),
        "nothing": lambda ids: ({}, {}),
        "objects": lambda ids: ({"x": np.array([None] * len(ids))}, {}),
    }
    for name, make in shapes.items():
        monkeypatch.setattr(
            engine_toys, name, lambda config, device, make=make: lambda ids, _: make(ids), raising=False
        )
        with pytest.raises(RequestError):
            LocalEngine(0).run(artefact_at(tmp_path), IDS, runner=f"engine_toys:{name}", config={})
        assert artefact_at(tmp_path).missing(IDS) == IDS


@pytest.mark.parametrize("runner", ["engine_toys", "engine_toys:", "no_such_module:make", "engine_toys:Nope"])
def test_a_runner_that_is_not_there_is_a_wrong_request(tmp_path, runner):
    with pytest.raises(RequestError, match="expected an importable"):
        LocalEngine(0).run(artefact_at(tmp_path), IDS, runner=runner, config={})
    assert artefact_at(tmp_path).missing(IDS) == IDS


def test_no_rows_is_no_work(tmp_path):
    report, seen = run(tmp_path, [])
    assert (report.rows, report.deaths, report.quarantined, seen) == (0, 0, {}, [(0, 0)])
    with pytest.raises(RequestError, match="workers=-1"):
        LocalEngine(-1)
    with pytest.raises(RequestError, match="shard_rows=0"):
        run(tmp_path, shard_rows=0)
