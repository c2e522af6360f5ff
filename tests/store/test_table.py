"""The vectorised table against a naive twin: a dict from id to values."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_toys import SPEC, columns_of, fill, row_ids, value

from dataworth.errors import RequestError
from dataworth.store import Cache


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    ids = row_ids(200)
    artefact = fill(tmp_path_factory.mktemp("cache"), ids[:120], shard_rows=16)
    for shard in artefact.plan(ids, 50):
        artefact.commit(shard, columns_of(shard.ids), {i: "empty mask" for i in shard.ids if i.endswith("0")})
    return artefact, ids


@settings(max_examples=60)
@given(st.lists(st.integers(0, 199), max_size=80), st.integers(1, 40))
def test_columns_come_in_the_order_of_the_ids(stored, picks, rows):
    artefact, ids = stored
    asked = [ids[p] for p in picks]  # any order, with repeats
    scored = [i for i in asked if not i.endswith("0")]
    table = artefact.table(asked)
    assert table.unscored == {i: "empty mask" for i in asked if i.endswith("0")}
    assert table.scored_N.tolist() == [not i.endswith("0") for i in asked]
    naive = columns_of(scored)
    assert table.column("wide").tolist() == naive["wide"].tolist()
    assert [r.tolist() for r in table.ragged("ragged")] == [r.tolist() for r in naive["ragged"]]
    filled = table.column("wide", fill=-1)
    assert filled.tolist() == [[-1] * 3 if i.endswith("0") else [value(i) + k for k in range(3)] for i in asked]
    seen = []
    for positions, block in table.blocks("wide", rows):
        assert 0 < len(positions) <= rows
        assert block[:, 0].tolist() == [value(asked[p]) for p in positions]
        seen += positions.tolist()
    assert sorted(seen) == np.flatnonzero(table.scored_N).tolist()


def test_blocks_are_full_but_for_the_last(stored):
    artefact, ids = stored
    sizes = [len(p) for p, _ in artefact.table(ids).blocks("wide", 64)]
    assert sizes[:-1] == [64] * (len(sizes) - 1)


def test_wrong_columns_are_named(stored):
    table = stored[0].table(stored[1])
    for read, words in [
        (lambda: table.column("nope"), "expected one of ragged, wide"),
        (lambda: table.column("ragged"), "read it with ragged"),
        (lambda: table.ragged("wide"), "read it with column"),
        (lambda: next(table.blocks("wide", 0)), "at least 1"),
    ]:
        with pytest.raises(RequestError, match=words):
            read()


def test_no_rows_is_an_empty_table(stored):
    table = stored[0].table([])
    assert table.column("wide").shape == (0, 3) and table.ragged("ragged") == [] and not list(table.blocks("wide"))


@pytest.mark.slow
def test_a_million_rows_are_gathered_in_seconds(tmp_path):
    ids = [f"{n * 2654435761 % 2**128:032x}" for n in range(1_000_000)]
    artefact = Cache(tmp_path).artefact("toy", SPEC)
    for shard in artefact.plan(ids, 4096):
        artefact.commit(shard, {"x": np.array([int(i, 16) for i in shard.ids], dtype=np.int64)}, {})
    random.Random(0).shuffle(ids)
    began = time.perf_counter()
    column = Cache(tmp_path).artefact("toy", SPEC).table(ids).column("x")
    assert time.perf_counter() - began < 15
    assert column[:100].tolist() == [int(i, 16) for i in ids[:100]]
