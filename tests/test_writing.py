"""Writing the picked rows: bytes, sidecar, what is left alone and what is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.made_pools import jsonl_file, numbered

import dataworth as dw
from dataworth import config
from dataworth.errors import FormatError, RequestError
from dataworth.runs import finished_selection
from dataworth.store.run import RunFolder
from dataworth.writing import refuse_joining, write_picked


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jsonl_file(tmp_path / "pool.jsonl", numbered(12))


def select(**more: Any) -> dw.SelectResult:
    return dw.select(**{"pool": "pool.jsonl", "method": "length", "keep": 4, "run": "mine", **more})


def picked_lines(path: str = "picked.jsonl") -> list[bytes]:
    return Path(path).read_bytes().splitlines(keepends=True)


def test_rows_are_written_as_they_stand_and_in_their_order() -> None:
    odd = b'{"prompt":"a\\u00e9",   "completion": "1.50e0 ' + b"x " * 30 + b'"}\r\n'
    Path("pool.jsonl").write_bytes(odd + Path("pool.jsonl").read_bytes())
    select(out="picked.jsonl")
    lines = picked_lines()
    assert lines[0] == odd
    assert lines == [line for line in Path("pool.jsonl").read_bytes().splitlines(keepends=True) if line in lines]


def test_the_sidecar_says_for_every_row_of_the_pool_what_became_of_it() -> None:
    result = select(out="picked.jsonl")
    assert [str(p) for p in result.written] == ["picked.jsonl"]
    reasons = pq.read_table("picked.jsonl.dataworth/reasons.parquet").to_pydict()
    weights = pq.read_table("picked.jsonl.dataworth/weights.parquet").to_pydict()
    card = Path("picked.jsonl.dataworth/card.md").read_text()
    assert len(reasons["id"]) == 12
    assert weights["id"] == list(result.ids) == [i for i, k in zip(reasons["id"], reasons["kept"], strict=True) if k]
    assert reasons["score_length"] == result.scored.values_N.tolist()
    assert "4 of 12 rows, picked by length and top_k" in card
    assert "dataworth replay mine" in card


def test_a_run_folder_with_spaces_is_quoted_in_the_card() -> None:
    select(run="my runs/one", out="picked.jsonl")
    assert "dataworth replay 'my runs/one'" in Path("picked.jsonl.dataworth/card.md").read_text()


def test_what_this_run_wrote_is_left_alone_and_anything_else_is_written_again() -> None:
    select(out="picked.jsonl")
    stamp = Path("picked.jsonl").stat().st_mtime_ns
    again = select(out="picked.jsonl")
    assert Path("picked.jsonl").stat().st_mtime_ns == stamp
    assert again.written == (Path("picked.jsonl"),)
    whole = Path("picked.jsonl").read_bytes()
    Path("picked.jsonl").write_bytes(whole[:-1])
    select(out="picked.jsonl")
    assert Path("picked.jsonl").read_bytes() == whole


def test_another_runs_output_in_the_same_place_is_replaced() -> None:
    select(out="picked.jsonl")
    select(out="picked.jsonl", keep=2, run="other")
    assert len(picked_lines()) == 2
    select(out="picked.jsonl")
    assert len(picked_lines()) == 4


def test_the_record_remembers_every_place_and_stays_finished() -> None:
    select(out="one.jsonl")
    select(out="two.jsonl")
    run = RunFolder.existing("mine")
    assert set(run.read_record()["timings"]["written"]) == {"one.jsonl", "two.jsonl"}
    assert run.finished


def test_a_result_can_be_written_later_and_elsewhere() -> None:
    result = select()
    assert result.written == ()
    assert result.write("later/picked.jsonl") == (Path("later/picked.jsonl"),)
    assert len(picked_lines("later/picked.jsonl")) == 4


@pytest.mark.parametrize("out", ["pool.jsonl", "./pool.jsonl", "sub/../pool.jsonl"])
def test_an_input_is_never_written_over(out: str) -> None:
    Path("sub").mkdir()
    before = Path("pool.jsonl").read_bytes()
    with pytest.raises(RequestError):
        select(out=out)
    assert Path("pool.jsonl").read_bytes() == before


def test_another_format_is_refused_and_nothing_is_left() -> None:
    with pytest.raises(RequestError, match="parquet"):
        select(out="picked.parquet")
    assert not list(Path().glob("picked*"))


def test_an_input_that_changed_after_it_was_read_is_refused_before_anything_is_written() -> None:
    result = select()
    time.sleep(0.01)
    Path("pool.jsonl").write_bytes(Path("pool.jsonl").read_bytes().replace(b"amber", b"ember"))
    with pytest.raises((FormatError, RequestError)):
        result.write("picked.jsonl")
    assert not list(Path().glob("picked*"))


def test_tables_keep_their_schema_and_values() -> None:
    schema = pa.schema([("prompt", pa.string()), ("completion", pa.large_string()), ("n", pa.int16())])
    rows = [{**r, "n": i} for i, r in enumerate(numbered(9))]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), "pool.parquet")
    result = select(pool="pool.parquet", out="picked.parquet")
    table = pq.read_table("picked.parquet")
    assert table.schema.equals(schema)
    assert [r for r in rows if r in table.to_pylist()] == table.to_pylist()
    assert table.num_rows == len(result.ids) == 4


def test_several_files_become_one_file_or_a_folder_of_files() -> None:
    jsonl_file(Path("a.jsonl"), numbered(6))
    jsonl_file(Path("b.jsonl"), numbered(6, 6))
    pool = ["a.jsonl", "b.jsonl"]
    one = select(pool=pool, out="picked.jsonl")
    assert one.written == (Path("picked.jsonl"),)
    assert len(picked_lines()) == 4
    several = select(pool=pool, out="picked")
    assert set(several.written) <= {Path("picked/a.jsonl"), Path("picked/b.jsonl")}
    assert sum(len(picked_lines(str(p))) for p in several.written) == 4
    assert (Path("picked.dataworth") / "reasons.parquet").exists()


def test_a_finished_run_is_written_from_its_files_without_a_session() -> None:
    select()
    run = RunFolder.existing("mine")
    result = finished_selection(run)
    assert result is not None
    request = config.build(config.SelectRequest, {"pool": "pool.jsonl", "method": "length", "keep": "4"})
    assert write_picked(result, request, run, Path("x.jsonl"), None) == (Path("x.jsonl"),)
    ids = {json.dumps(json.loads(line)) for line in picked_lines("x.jsonl")}
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("pool", "out", "joins"),
    [
        ("folder", "folder/picked.jsonl", True),
        ("folder", "folder/deep/picked.jsonl", True),
        ("folder", "picked.jsonl", False),
        ("folder", "folder-2/picked.jsonl", False),
        ("*.jsonl", "picked.jsonl", True),
        ("*.jsonl", "picked.json", False),
        ("pool*.jsonl", "picked.jsonl", False),
        ("pool.jsonl", "picked.jsonl", False),
        ("pool.jsonl", None, False),
    ],
)
def test_an_output_that_would_be_read_next_time_is_refused(pool: str, out: str | None, joins: bool) -> None:
    Path("folder").mkdir()
    request = config.build(config.SelectRequest, {"pool": pool, "out": out})
    if joins:
        with pytest.raises(RequestError, match="would join the pool"):
            refuse_joining(request)
    else:
        assert refuse_joining(request) is None
