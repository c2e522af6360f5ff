"""Somebody's subset found in the pool: by id, by text, with weights from copies and sidecars; strangers are listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dataworth as dw
from dataworth.errors import RequestError
from dataworth.formats import open_pool
from dataworth.proving.subsets import read_subset


@pytest.fixture
def pool_file(tmp_path: Path) -> Path:
    path = tmp_path / "pool.jsonl"
    rows = [{"prompt": f"question {n}?", "completion": f"answer {n}", "source": "ab"[n % 2]} for n in range(120)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_a_file_of_the_pools_own_rows_in_any_order(tmp_path: Path, pool_file: Path) -> None:
    pool = open_pool(pool_file)
    mine = write(tmp_path / "mine.jsonl", [lines(pool_file)[n] for n in (70, 3, 41)])
    found = read_subset(mine, pool)
    assert found.name == "mine"
    assert found.ids == tuple(pool.ids[n] for n in (3, 41, 70)), "in pool order"
    assert found.weights == (1.0, 1.0, 1.0)
    assert not found.unmatched


def test_another_tools_columns_are_matched_by_text(tmp_path: Path, pool_file: Path) -> None:
    pool = open_pool(pool_file)
    turns = [{"role": "user", "content": " question 5? "}, {"role": "assistant", "content": "answer 5"}]
    found = read_subset(write(tmp_path / "theirs.jsonl", [{"messages": turns, "score": 0.5}]), pool)
    assert found.ids == (pool.ids[5],)


def test_a_row_given_twice_counts_twice(tmp_path: Path, pool_file: Path) -> None:
    pool, row = open_pool(pool_file), lines(pool_file)[9]
    found = read_subset(write(tmp_path / "up.jsonl", [row, row, lines(pool_file)[2], row]), pool)
    assert dict(zip(found.ids, found.weights, strict=True)) == {pool.ids[2]: 1.0, pool.ids[9]: 3.0}


def test_a_run_and_its_written_file_are_the_same_subset(tmp_path: Path, pool_file: Path) -> None:
    done = dw.select(str(pool_file), method="length", keep="10%", run=str(tmp_path / "run"))
    done.write(tmp_path / "picked.jsonl")
    pool = open_pool(pool_file)
    of_run, of_file = read_subset(tmp_path / "run", pool), read_subset(tmp_path / "picked.jsonl", pool)
    assert of_run.ids == of_file.ids == done.selection.ids
    assert of_run.weights == of_file.weights
    assert (of_run.name, of_file.name) == ("run", "picked")


def test_weights_of_the_sidecar_are_read(tmp_path: Path, pool_file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    done = dw.select(str(pool_file), method="length", keep=4, run=str(tmp_path / "run"))
    done.write(tmp_path / "picked.jsonl")
    beside = tmp_path / "picked.jsonl.dataworth" / "weights.parquet"
    pq.write_table(pa.table({"id": list(done.selection.ids), "weight": [0.5, 1.0, 2.0, 1.0]}), beside)
    assert read_subset(tmp_path / "picked.jsonl", open_pool(pool_file)).weights == (0.5, 1.0, 2.0, 1.0)


def test_a_few_strangers_are_listed_and_many_refused(tmp_path: Path, pool_file: Path) -> None:
    pool, rows = open_pool(pool_file), lines(pool_file)
    strange = {"prompt": "who?", "completion": "nobody", "source": "a"}
    few = read_subset(write(tmp_path / "few.jsonl", [*rows[:110], strange]), pool)
    assert len(few) == 110
    assert few.unmatched == ("row 111, 'who? nobody'",)
    with pytest.raises(RequestError, match=r"2 of 12 rows are not in the pool \(first row 11, 'who\? nobody'\)"):
        read_subset(write(tmp_path / "many.jsonl", [*rows[:10], strange, {**strange, "completion": "no one"}]), pool)


def test_what_is_no_subset_is_refused(tmp_path: Path, pool_file: Path) -> None:
    pool = open_pool(pool_file)
    dw.score(str(pool_file), method="length", run=str(tmp_path / "scores"))
    with pytest.raises(RequestError, match="no finished select run"):
        read_subset(tmp_path / "scores", pool)
    with pytest.raises(RequestError, match=r"gone\.jsonl"):
        read_subset(tmp_path / "gone.jsonl", pool)


def test_the_pools_mapping_reads_its_rows_and_others_speak_for_themselves(tmp_path: Path) -> None:
    mapping = {"prompt": "q", "completion": "why+a"}
    path = write(tmp_path / "pool.jsonl", [{"q": f"q{n}", "why": "so", "a": str(n)} for n in range(30)])
    pool = open_pool(path, mapping=mapping)
    same = read_subset(write(tmp_path / "same.jsonl", [lines(path)[4]]), pool, mapping)
    other = {"prompt": pool.example(4).prompt, "completion": pool.example(4).response}
    assert same.ids == read_subset(write(tmp_path / "other.jsonl", [other]), pool, mapping).ids == (pool.ids[4],)
