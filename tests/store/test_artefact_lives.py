"""Any life of an artefact (plans, interruptions, growth, retries) against a naive twin: two dicts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_toys import SPEC, row_ids, value

from dataworth.errors import FormatError, RequestError
from dataworth.records import id_order
from dataworth.store import Artefact, Cache, Shard, digests

IDS = row_ids(24)
SOME = st.lists(st.sampled_from(IDS), max_size=24)
STEP = st.tuples(SOME, st.integers(1, 9), st.integers(0, 4), st.sets(st.sampled_from(IDS), max_size=6), st.booleans())


def open_at(root: Path) -> Artefact:
    return Cache(root).artefact("toy", SPEC)


def compute(shard: Shard, bad: set[str]) -> tuple[dict, dict[str, str]]:
    good = [i for i in shard.ids if i not in bad]
    columns = {
        "x": np.array([value(i) for i in good], dtype=np.int64),
        "r": [np.full(int(i[0], 16), value(i), dtype=np.int32) for i in good],
    }
    return columns, {i: f"bad in {shard.name}" for i in shard.ids if i in bad}


@settings(max_examples=25)
@given(st.lists(STEP, min_size=1, max_size=5))
def test_any_life_equals_two_dicts(steps):
    """Each step asks for rows, does some shards of the plan and is then "killed": the artefact is opened anew."""
    root = Path(tempfile.mkdtemp())
    stored: set[str] = set()
    unscored: dict[str, str] = {}
    try:
        for asked, shard_rows, done, bad, retry in steps:
            artefact = open_at(root)
            missing = [i for i in dict.fromkeys(asked) if i not in stored and (retry or i not in unscored)]
            assert artefact.missing(asked, retry_unscored=retry) == missing
            shards = artefact.plan(asked, shard_rows, retry_unscored=retry)
            planned = [i for s in shards for i in s.ids]
            assert len(planned) == len(set(planned)) and set(missing) <= set(planned) <= set(asked) - stored
            for shard in shards[:done]:
                columns, reasons = compute(shard, bad)
                artefact.commit(shard, columns, reasons)
                stored |= {i for i in shard.ids if i not in reasons}
                unscored = {i: r for i, r in {**unscored, **reasons}.items() if i not in stored}
            for art in (artefact, open_at(root)):
                assert len(art) == len(stored) + len(unscored)
                assert art.missing(IDS) == [i for i in IDS if i not in stored and i not in unscored]
                known = [i for i in asked if i in stored or i in unscored]
                table = art.table(known, verify=True)
                assert table.unscored == {i: unscored[i] for i in known if i in unscored}
                good = [i for i in known if i in stored]
                if good:
                    assert table.column("x").tolist() == [value(i) for i in good]
                    assert [r.tolist() for r in table.ragged("r")] == [[value(i)] * int(i[0], 16) for i in good]
    finally:
        shutil.rmtree(root)


@settings(max_examples=12)
@given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 10**6))
def test_bytes_do_not_depend_on_the_order_of_ids_or_on_where_it_was_killed(rows, shard_rows, seed):
    folder, random = Path(tempfile.mkdtemp()), Random(seed)
    ids, bad = IDS[:rows], set(IDS[::3])
    try:
        for name in ("whole", "killed"):
            while left := (artefact := open_at(folder / name)).plan(ids, shard_rows):
                take = left if name == "whole" else left[: random.randint(0, 2)]
                for shard in take:
                    artefact.commit(shard, *compute(shard, bad))
                random.shuffle(ids)
            assert artefact.missing(ids) == []
        assert digests(folder / "whole") == digests(folder / "killed")
    finally:
        shutil.rmtree(folder)


def test_new_rows_get_a_plan_of_their_own_cut_in_id_order(tmp_path):
    artefact = open_at(tmp_path)
    first = artefact.plan(IDS[:10], 4)
    assert [len(s.ids) for s in first] == [4, 4, 2]
    flat = [i for s in first for i in s.ids]
    assert flat == [IDS[:10][n] for n in id_order(IDS[:10])]
    artefact.commit(first[1], *compute(first[1], set()))
    second = open_at(tmp_path).plan(IDS, 5)
    assert [s.name for s in second[:2]] == ["0000-000000", "0000-000002"] and second[:2] == [first[0], first[2]]
    assert [len(s.ids) for s in second[2:]] == [5, 5, 4] and {s.name[:4] for s in second[2:]} == {"0001"}
    assert {i for s in second for i in s.ids} == set(IDS) - set(first[1].ids)
    assert open_at(tmp_path).plan(IDS, 99) == second  # nothing done in between: the same promise


def test_a_row_asked_for_twice_is_planned_and_stored_once(tmp_path):
    artefact = open_at(tmp_path)
    (shard,) = artefact.plan(IDS[:3] * 5)
    assert sorted(shard.ids) == sorted(IDS[:3])
    artefact.commit(shard, *compute(shard, {IDS[1]}))
    table = artefact.table([IDS[0], IDS[1], IDS[0], IDS[1]])
    assert table.scored_N.tolist() == [True, False, True, False] and table.unscored.keys() == {IDS[1]}
    assert table.column("x", fill=-1).tolist() == [value(IDS[0]), -1, value(IDS[0]), -1]


def test_a_shard_overtaken_by_another_plan_is_not_run_again(tmp_path):
    artefact = open_at(tmp_path)
    old = artefact.plan(IDS[:8], 4)
    for shard in open_at(tmp_path).plan(IDS[:2], 1):  # a part of the open shards only: they cannot serve
        artefact.commit(shard, *compute(shard, set()))
    later = open_at(tmp_path).plan(IDS[:8], 4)
    left = [s for s in old if not set(s.ids) & set(IDS[:2])]
    assert later[: len(left)] == left
    assert sorted(i for s in later for i in s.ids) == sorted(IDS[2:8])


def test_two_interrupted_plans_that_overlap_plan_each_row_once(tmp_path):
    first = open_at(tmp_path).plan(IDS[:2], 2)
    open_at(tmp_path).plan(IDS[:1], 1)
    again = open_at(tmp_path).plan(IDS[:3], 2)
    assert again[: len(first)] == first
    assert sorted(i for s in again for i in s.ids) == sorted(IDS[:3])


def test_retried_rows_move_from_unscored_to_stored_and_back_to_another_reason(tmp_path):
    artefact = open_at(tmp_path)
    (shard,) = artefact.plan(IDS[:4])
    artefact.commit(shard, *compute(shard, set(IDS[:4])))
    assert artefact.table(IDS[:4]).columns == {}
    with pytest.raises(RequestError, match="none: no row has values"):
        artefact.table(IDS[:4]).column("x")
    (again,) = artefact.plan(IDS[:4], retry_unscored=True)
    artefact.commit(again, *compute(again, {IDS[0]}))
    for art in (artefact, open_at(tmp_path)):
        assert len(art) == 4 and art.table(IDS[:4]).unscored == {IDS[0]: f"bad in {again.name}"}
        assert art.table(IDS[1:4]).column("x").tolist() == [value(i) for i in IDS[1:4]]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint8).reshape(3, 2),
        np.array([[1 + 2j], [0], [3]]),
        np.array([True, False, True]),
        np.array(["a", "bcd", ""]),
        np.array([b"xy", b"", b"z"]),
        np.array(["2024-01-01", "NaT", "1970-01-01"], dtype="datetime64[D]"),
        np.array([1, -0.0, np.nan], dtype=np.float16),
        np.arange(12.0).reshape(3, 2, 2)[:, ::-1],
        np.zeros((3, 0)),
    ],
)
def test_arrays_of_any_plain_type_come_back_bit_for_bit(tmp_path, array):
    artefact = open_at(tmp_path)
    (shard,) = artefact.plan(IDS[:3])
    artefact.commit(shard, {"x": array, "r": [row.ravel() for row in array] if array.ndim > 1 else [array] * 3}, {})
    table = open_at(tmp_path).table(list(shard.ids)[::-1])
    back = table.column("x")
    assert back.dtype == array.dtype and back.tobytes() == np.ascontiguousarray(array[::-1]).tobytes()
    assert all(a.dtype == array.dtype for a in table.ragged("r"))


def test_stored_arrays_cannot_be_changed_through_a_block(tmp_path):
    artefact = open_at(tmp_path)
    (shard,) = artefact.plan(IDS[:5])
    artefact.commit(shard, *compute(shard, set()))
    column = artefact.table(IDS[:5]).column("x")
    column[:] = 0  # a copy: what is stored stays
    part = artefact._parts[0].fixed("x")
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 1
    assert artefact.table(IDS[:5], verify=True).column("x").tolist() == [value(i) for i in IDS[:5]]


@pytest.mark.parametrize("damage", ["gone", "cut", "json", "flipped", "rows"])
def test_every_way_a_part_may_be_damaged_is_named(tmp_path, damage):
    artefact = open_at(tmp_path)
    (shard,) = artefact.plan(IDS[:5])
    artefact.commit(shard, *compute(shard, set()))
    parts = artefact.folder / "parts"
    target = parts / f"{shard.name}.{'ok.json' if damage == 'json' else 'rows.json'}"
    raw = target.read_bytes()
    if damage == "gone":
        target.unlink()
    elif damage == "rows":
        target.write_bytes(raw.replace(b'","', b"---", 1))  # of the same size, with one id less
    elif damage == "flipped":
        target.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    else:
        target.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(FormatError, match="damaged") as caught:
        open_at(tmp_path)
    assert str(parts) in str(caught.value) and "delete the folder" in str(caught.value)
