from __future__ import annotations

import random

import numpy as np
import pytest
from store_toys import SPEC, columns_of, fill, row_ids, unscored_of

from dataworth.errors import FingerprintMismatch, FormatError, RequestError
from dataworth.store import Cache, Shard, digests


def test_an_interrupted_plan_is_resumed_first_and_gives_the_same_bytes(tmp_path):
    ids = row_ids(50)
    fill(tmp_path / "clean", ids)
    for stop in range(4):
        root = tmp_path / f"stop{stop}"
        artefact = Cache(root).artefact("toy", SPEC)
        for shard in artefact.plan(ids, 16)[:stop]:
            artefact.commit(shard, columns_of(shard.ids), unscored_of(shard))
        random.Random(stop).shuffle(ids)
        fill(root, ids, shard_rows=5)  # another shard size now: the old plan keeps its own
        assert digests(root) == digests(tmp_path / "clean")


def test_new_rows_cost_only_themselves(tmp_path):
    old, new = row_ids(40), row_ids(10, "new")
    artefact = fill(tmp_path, old)
    assert artefact.missing([*new, *old, *new]) == new
    shards = artefact.plan([*old, *new], 4)
    assert sorted(i for s in shards for i in s.ids) == sorted(new)
    assert max(len(s.ids) for s in shards) == 4


def test_an_open_plan_for_other_rows_does_not_get_in_the_way(tmp_path):
    ids = row_ids(40)
    artefact = Cache(tmp_path).artefact("toy", SPEC)
    artefact.plan(ids, 16)  # interrupted; then only some of its rows are wanted
    some = ids[:10]
    fill(tmp_path, some)
    assert Cache(tmp_path).artefact("toy", SPEC).missing(some) == []
    artefact = fill(tmp_path, ids)
    assert artefact.missing(ids) == [] and len(artefact) == 40
    assert len(artefact.table(ids)) == 40


def test_unscored_rows_are_listed_and_retried_only_when_asked(tmp_path):
    ids = row_ids(60)
    bad = [i for i in ids if i.endswith("0")]
    artefact = fill(tmp_path, ids)
    assert bad and artefact.missing(ids) == [] and artefact.plan(ids) == []
    assert artefact.table(ids).unscored == dict.fromkeys(bad, "empty mask")
    assert artefact.missing(ids, retry_unscored=True) == bad
    (shard,) = artefact.plan(ids, retry_unscored=True)
    again = Cache(tmp_path).artefact("toy", SPEC)  # killed here: a plain resume completes the retry
    assert again.plan(ids) == [shard]
    again.commit(shard, columns_of(shard.ids), {})
    for art in (again, Cache(tmp_path).artefact("toy", SPEC)):
        table = art.table(ids)
        assert not table.unscored and table.column("wide").tolist() == columns_of(ids)["wide"].tolist()


def test_columns_may_come_for_all_rows_or_for_the_scored_ones(tmp_path):
    ids = row_ids(60)
    full, short = fill(tmp_path / "full", ids), Cache(tmp_path / "short").artefact("toy", SPEC)
    for shard in short.plan(ids, 16):
        scored = [i for i in shard.ids if not i.endswith("0")]
        short.commit(shard, columns_of(scored), unscored_of(shard))
    assert full.table(ids).unscored and digests(tmp_path / "full") == digests(tmp_path / "short")


def test_a_part_without_any_scored_row_keeps_its_reasons(tmp_path):
    artefact = Cache(tmp_path).artefact("toy", SPEC)
    ids = row_ids(6)
    first, second = artefact.plan(ids, 3)
    artefact.commit(first, {}, dict.fromkeys(first.ids, "empty"))
    artefact.commit(second, columns_of(second.ids), {})
    table = Cache(tmp_path).artefact("toy", SPEC).table(ids)
    assert set(table.unscored) == set(first.ids)
    assert len(table.column("wide")) == 3


@pytest.mark.parametrize(
    ("columns", "unscored", "words"),
    [
        ({"x": np.zeros(3)}, {}, "3 rows"),
        ({"x": np.zeros(4, dtype=object)}, {}, "object"),
        ({"x": [np.zeros(2), np.zeros(2), np.zeros(1), np.zeros(1, dtype=int)]}, {}, "float64, int64"),
        ({"x": [np.zeros((2, 2))] * 4}, {}, "1-D"),
        ({"../x": np.zeros(4)}, {}, "column name"),
        ({"x": np.zeros(4)}, {"stranger": "?"}, "stranger"),
        ({}, {}, "without any column"),
    ],
)
def test_columns_that_do_not_fit_are_refused(tmp_path, columns, unscored, words):
    artefact = Cache(tmp_path).artefact("toy", SPEC)
    (shard,) = artefact.plan(row_ids(4))
    with pytest.raises(RequestError, match=words):
        artefact.commit(shard, columns, unscored)
    assert len(artefact.missing(row_ids(4))) == 4


def test_parts_share_one_layout(tmp_path):
    artefact = Cache(tmp_path).artefact("toy", SPEC)
    first, second = artefact.plan(row_ids(4), 2)
    artefact.commit(first, {"x": np.zeros((2, 3))}, {})
    with pytest.raises(RequestError, match="one layout"):
        artefact.commit(second, {"x": np.zeros((2, 4))}, {})


def test_a_stored_shard_is_never_overwritten(tmp_path):
    ids = row_ids(4)
    artefact = fill(tmp_path, ids)
    before = digests(tmp_path)
    artefact.commit(Shard("0000-000000", tuple(sorted(ids))), {"wide": np.zeros((4, 3), dtype=np.int64)}, {})
    assert digests(tmp_path) == before


def test_damage_is_found_by_size_at_once_and_by_checksum_on_demand(tmp_path):
    ids = row_ids(20)
    artefact = fill(tmp_path, ids)
    path = next((artefact.folder / "parts").glob("*.wide.npy"))
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    again = Cache(tmp_path).artefact("toy", SPEC)
    with pytest.raises(FormatError, match="damaged"):
        again.table(ids, verify=True)
    path.write_bytes(raw[:-1])
    with pytest.raises(FormatError, match="bytes"):
        Cache(tmp_path).artefact("toy", SPEC)


def test_parts_of_an_unfinished_plan_are_checked_when_it_resumes(tmp_path):
    ids = row_ids(20)
    artefact = Cache(tmp_path).artefact("toy", SPEC)
    shard = artefact.plan(ids, 8)[0]
    artefact.commit(shard, columns_of(shard.ids), {})
    path = next((artefact.folder / "parts").glob("*.wide.npy"))
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(FormatError, match="sha256"):
        Cache(tmp_path).artefact("toy", SPEC).plan(ids, 8)


def test_another_spec_or_a_foreign_part_is_a_mismatch(tmp_path):
    artefact = fill(tmp_path, row_ids(4))
    marker = next((artefact.folder / "parts").glob("*.ok.json"))
    marker.write_bytes(marker.read_bytes().replace(artefact.fingerprint.encode(), b"0" * 64))
    with pytest.raises(FingerprintMismatch, match="000000"):
        Cache(tmp_path).artefact("toy", SPEC)
    (artefact.folder / "spec.json").write_text('{"probe":"other","width":3}')
    with pytest.raises(FingerprintMismatch, match="probe"):
        Cache(tmp_path).artefact("toy", SPEC)


def test_rows_that_were_never_computed_are_an_error_not_zeros(tmp_path):
    artefact = fill(tmp_path, row_ids(4))
    with pytest.raises(RequestError, match="1 of 5 rows are not computed"):
        artefact.table([*row_ids(4), "f" * 32])
