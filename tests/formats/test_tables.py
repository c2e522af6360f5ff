"""Parquet and Arrow rows keep exact values; odd values cost their row only."""

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.formats import pool_files as files

from dataworth.errors import FormatError
from dataworth.formats import open_pool
from dataworth.formats.tables import TableFile

ROWS = files.rows_like(500)


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_rows_in_order_and_at_random(tmp_path, name):
    path = tmp_path / name
    options = {"row_group_size": 37} if name == "x.parquet" else {}
    table = TableFile(files.table_file(path, ROWS, **options), path.suffix[1:])
    assert list(table.rows()) == ROWS
    assert [table.row(i) for i in (0, 499, 63, 64, 36, 37, 74)] == [ROWS[i] for i in (0, 499, 63, 64, 36, 37, 74)]


def test_values_without_a_json_form_still_make_distinct_ids(tmp_path):
    odd = [b"\xff\x00", b"\xff\x01"], [Decimal("1.10"), Decimal("1.1")], [float("nan"), None]
    times = [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2)]
    days = [dt.timedelta(days=1), dt.timedelta(days=2)]
    rows = []
    for name, values in zip("abcde", (*odd, times, days), strict=True):
        rows += [{"text": "t", name: v} for v in values]
    types = (pa.binary(), pa.decimal128(5, 2), pa.float64(), pa.timestamp("us"), pa.duration("us"))
    schema = pa.schema([("text", pa.string()), *zip("abcde", types, strict=True)])
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    pool = open_pool(path)
    # The two decimals are one value at scale 2; every other row differs from all.
    assert len(pool) == 10 and pool.copies == 1


def test_a_value_python_cannot_hold_costs_its_row(tmp_path):
    bad = pa.Array.from_buffers(
        pa.string(),
        3,
        [
            None,
            pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])),
            pa.py_buffer(b"a\xffc"),
        ],
    )
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": bad}), path)
    rejects = tmp_path / "r.jsonl"
    pool = open_pool(path, rejects=rejects)
    assert [e.text for e in pool.examples()] == ["a", "c"]
    (reject,) = files.rejects_of(rejects)
    assert (reject["line"], reject["offset"]) == (2, 1) and "can't be read" in reject["reason"]


def test_null_in_a_required_column_is_a_reject(tmp_path):
    path = files.table_file(tmp_path / "x.parquet", [{"text": "a"}, {"text": None}])
    rejects = tmp_path / "r.jsonl"
    assert len(open_pool(path, rejects=rejects)) == 1
    assert files.rejects_of(rejects)[0]["reason"] == "column 'text' holds null, expected a string"


def test_conversations_in_a_table(tmp_path):
    chat = [
        {"role": "user", "content": "q", "tool_calls": None},
        {"role": "assistant", "content": "a", "tool_calls": None},
    ]
    pool = open_pool(files.table_file(tmp_path / "x.parquet", [{"messages": chat}]))
    assert pool.files[0].schema == "messages" and pool.example(0).response == "a"


def test_two_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    with pytest.raises(FormatError, match="two columns are named 'text'"):
        open_pool(path)
