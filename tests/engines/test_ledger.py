"""The bookkeeping alone, against imagined workers: no process is started."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataworth.engines.ledger import Ledger
from dataworth.engines.runner import Answer, Failure
from dataworth.errors import DataworthError
from dataworth.store import Shard

ROWS = [f"{n:032x}" for n in range(48)]
SHARDS = [Shard(f"0000-{n}", tuple(ROWS[16 * n : 16 * n + 16])) for n in range(3)]


def drive(bad, kind, *, outside=lambda: False, retries=2, proven=True, limit=10**9):
    """Run a ledger to its end; `bad` rows fail, and a task fails as well when `outside` says so."""
    ledger, finished, failures = Ledger(SHARDS, retries, proven), [], 0
    while ledger.unfinished:
        task = ledger.next(float("inf"))
        assert task is not None, "rows are left but no task is"
        if bad.intersection(task.ids) or len(task.ids) > limit:
            failures += 1
            done = ledger.failed(task, Failure(kind, "why"), 0.0)
        elif outside():
            done = ledger.failed(task, Failure("death", "killed from outside"), 0.0)
        else:
            done = ledger.answered(task, Answer({"with": np.full(len(task.ids), len(task.ids))}, {}))
        if done:
            finished.append(done)
    assert ledger.next(float("inf")) is None
    return {f.shard.name: f for f in finished}, failures


@settings(max_examples=60)
@given(st.sets(st.sampled_from(ROWS), max_size=20), st.sampled_from(["death", "error"]))
def test_exactly_the_bad_rows_are_quarantined_and_the_rest_runs_in_one_piece(bad, kind):
    finished, _ = drive(bad, kind)
    assert set(finished) == {s.name for s in SHARDS}
    for shard in SHARDS:
        done, good = finished[shard.name], len(shard.ids) - len(bad.intersection(shard.ids))
        assert set(done.quarantined) == bad.intersection(shard.ids) == set(done.unscored)
        if good:
            assert done.columns["with"].tolist() == [good] * good


def test_one_bad_row_costs_a_bounded_number_of_deaths():
    _, deaths = drive({ROWS[5]}, "death")
    assert deaths == 3 + 3 + 3  # the whole shard, three halvings (8, 4, 2), the row alone


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sets(st.sampled_from(ROWS), max_size=2))
def test_kills_from_outside_cost_no_row(seed, bad):
    random = Random(seed)
    finished, _ = drive(bad, "death", outside=lambda: random.random() < 0.2, retries=30)
    assert {i for f in finished.values() for i in f.quarantined} == bad


def test_kills_from_outside_change_no_value_even_after_a_search():
    kills = iter([True] * 4 + [False] * 100)
    finished, _ = drive(set(), "death", outside=lambda: next(kills))
    assert all(f.columns["with"].tolist() == [16] * 16 for f in finished.values())


def test_memory_splits_and_keeps_the_pieces():
    finished, _ = drive(set(), "memory", limit=5)
    assert all(f.columns["with"].tolist() == [4] * 16 and not f.quarantined for f in finished.values())


@pytest.mark.parametrize(("kind", "rows"), [("error", 8), ("death", 3)])
def test_when_nothing_works_the_runner_is_blamed(kind, rows):
    with pytest.raises(DataworthError, match=f"nothing worked: {rows} rows failed alone"):
        drive(set(ROWS), kind, proven=False)


def test_a_dead_row_waits_longer_each_time():
    ledger = Ledger(SHARDS[:1], retries=3, proven=True)
    for n in range(3):
        task = ledger.next(float("inf"))
        ledger.failed(task, Failure("death", "why"), now=100.0)
        due = 100.0 + 0.1 * 2 ** (n + 1)
        assert ledger.next(due - 0.01) is None and task.due == pytest.approx(due)
