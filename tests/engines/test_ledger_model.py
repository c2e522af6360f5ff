"""The ledger against a naive simulator: whatever fails, every row of every shard ends exactly once."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataworth.engines.ledger import FIRST_WAIT_S, LONGEST_WAIT_S, Finished, Ledger
from dataworth.engines.runner import Answer, Failure
from dataworth.errors import DataworthError
from dataworth.store import Shard

ROWS = [f"{n:032x}" for n in range(40)]
ILL = st.dictionaries(st.sampled_from(ROWS), st.sampled_from(["death", "error", "memory"]), max_size=12)


def shards_of(sizes: list[int]) -> list[Shard]:
    starts = np.cumsum([0, *sizes])
    return [Shard(f"0000-{n:06d}", tuple(ROWS[a:b])) for n, (a, b) in enumerate(pairwise(starts))]


def answer(ids: tuple[str, ...], empty: set[str]) -> Answer:
    """Columns of the scored rows that name their row and the size of the piece they ran in."""
    scored = [i for i in ids if i not in empty]
    columns = {
        "row": np.array([int(i, 16) for i in scored], dtype=np.int64),
        "text": [np.full(int(i, 16) % 3, len(ids)) for i in scored],
    }
    return Answer(columns, {i: "empty" for i in ids if i in empty})


def drive(shards, ill, empty, *, workers=1, seed=0, kills=0.0, retries=2, limit=10**9):
    """Several imagined workers hold tasks at once and end in a random order; some are killed from outside."""
    ledger, random = Ledger(shards, retries, proven=True), Random(seed)
    finished: list[Finished] = []
    held: list = []
    steps = 0
    while ledger.unfinished:
        steps += 1
        assert steps < 20_000, "the ledger never ends"
        while len(held) < workers and (task := ledger.next(float("inf"))) is not None:
            held.append(task)
        assert held, "rows are left but no task is"
        task = held.pop(random.randrange(len(held)))
        kinds = [ill[i] for i in task.ids if i in ill]
        if random.random() < kills:
            done = ledger.failed(task, Failure("death", "killed"), 0.0)
        elif kinds:
            done = ledger.failed(task, Failure(kinds[0], f"why {kinds[0]}"), 0.0)
        elif len(task.ids) > limit:
            done = ledger.failed(task, Failure("memory", "out of memory"), 0.0)
        else:
            done = ledger.answered(task, answer(task.ids, empty))
        if done:
            finished.append(done)
    assert not held and ledger.next(float("inf")) is None
    return finished


def check(shards, finished, ill, empty, also="why"):
    assert sorted(f.shard.name for f in finished) == [s.name for s in shards]
    for done in finished:
        ids = done.shard.ids
        culprits = {i for i in ids if i in ill}
        assert set(done.quarantined) == culprits
        assert all(done.quarantined[i] in (f"quarantined: why {ill[i]}", f"quarantined: {also}") for i in culprits)
        assert dict(done.unscored) == {**{i: "empty" for i in ids if i in empty - culprits}, **done.quarantined}
        scored = [i for i in ids if i not in culprits and i not in empty]
        assert [int(n) for n in done.columns.get("row", [])] == [int(i, 16) for i in scored]
        assert [len(r) for r in done.columns.get("text", [])] == [int(i, 16) % 3 for i in scored]


@settings(max_examples=150)
@given(
    st.lists(st.integers(1, 10), min_size=1, max_size=4),
    ILL,
    st.sets(st.sampled_from(ROWS), max_size=10),
    st.integers(1, 3),
    st.integers(0, 10**6),
)
def test_every_row_ends_once_as_stored_unscored_or_quarantined(sizes, ill, empty, workers, seed):
    shards = shards_of(sizes)
    finished = drive(shards, ill, empty, workers=workers, seed=seed)
    check(shards, finished, ill, empty)


@settings(max_examples=80)
@given(ILL, st.integers(1, 3), st.integers(0, 10**6), st.floats(0, 0.3))
def test_kills_from_outside_change_nothing_while_tries_are_left(ill, workers, seed, kills):
    shards = shards_of([10, 10, 10, 10])
    finished = drive(shards, ill, set(ROWS[::7]), workers=workers, seed=seed, kills=kills, retries=200)
    check(shards, finished, ill, set(ROWS[::7]), also="killed")


@settings(max_examples=80)
@given(st.sets(st.sampled_from(ROWS), max_size=5), st.integers(1, 10), st.integers(1, 3), st.integers(0, 99))
def test_memory_limits_lose_no_row_and_no_piece_is_larger(bad, limit, workers, seed):
    shards = shards_of([10, 7, 10])
    ill = dict.fromkeys(bad, "error")
    finished = drive(shards, ill, {ROWS[3]}, workers=workers, seed=seed, limit=limit)
    check(shards, finished, ill, {ROWS[3]})
    for done in finished:
        assert all(len(r) == 0 or r[0] <= limit for r in done.columns.get("text", []))


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(ROWS), st.sampled_from(["death", "error"]), max_size=10), st.integers(0, 99))
def test_values_depend_on_which_rows_are_at_fault_and_not_on_the_path(ill, seed):
    """A shard without a culprit runs whole; one with culprits runs its other rows in one piece."""
    shards = shards_of([8, 8, 8])
    for done in drive(shards, ill, set(), workers=3, seed=seed, kills=0.1, retries=50):
        good = len([i for i in done.shard.ids if i not in ill])
        assert all(len(r) == 0 or set(r.tolist()) == {good} for r in done.columns.get("text", []))


def test_shards_are_handed_out_in_order_and_halves_before_other_shards():
    shards = shards_of([4, 4])
    ledger = Ledger(shards, retries=0, proven=True)
    first = ledger.next(0.0)
    assert first.ids == shards[0].ids
    ledger.failed(first, Failure("error", "x"), 0.0)
    assert [ledger.next(0.0).ids for _ in range(3)] == [shards[0].ids[:2], shards[0].ids[2:], shards[1].ids]
    assert ledger.next(0.0) is None and ledger.unfinished == 2


def test_waits_double_up_to_a_limit_and_other_tasks_pass():
    shards = shards_of([4, 4])
    ledger = Ledger(shards, retries=20, proven=True)
    task = ledger.next(0.0)
    waits = []
    for _ in range(10):
        assert ledger.failed(task, Failure("death", "x"), 100.0) is None
        waits.append(task.due - 100.0)
        assert ledger.next(float("inf")) is task
    assert waits == pytest.approx([min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**n) for n in range(1, 11)])
    ledger.failed(task, Failure("death", "x"), 100.0)
    assert ledger.next(100.0).ids == shards[1].ids


@pytest.mark.parametrize(("kind", "limit"), [("error", 8), ("death", 3), ("memory", 3)])
def test_one_answer_proves_the_runner_and_then_any_number_of_rows_may_fail(kind, limit):
    shards = shards_of([1] * 20)
    ledger = Ledger(shards, retries=0, proven=False)
    with pytest.raises(DataworthError, match=f"{limit} rows failed alone and none succeeded, the last with boom"):
        while (task := ledger.next(0.0)) is not None:
            ledger.failed(task, Failure(kind, "boom"), 0.0)
    ledger = Ledger(shards, retries=0, proven=False)
    ledger.answered(ledger.next(0.0), answer(shards[0].ids, set()))
    quarantined = [ledger.failed(ledger.next(0.0), Failure(kind, "boom"), 0.0) for _ in range(19)]
    assert all(f.quarantined and not f.columns for f in quarantined) and ledger.unfinished == 0


def test_a_small_pool_is_hopeless_when_all_of_it_fails():
    (shard,) = shards_of([2])
    ledger = Ledger([shard], retries=0, proven=False)
    ledger.failed(ledger.next(0.0), Failure("error", "boom"), 0.0)
    ledger.failed(ledger.next(0.0), Failure("error", "boom"), 0.0)
    with pytest.raises(DataworthError, match="nothing worked: 2 rows"):
        ledger.failed(ledger.next(0.0), Failure("error", "boom"), 0.0)
