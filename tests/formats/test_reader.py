"""Rows are read back from anywhere, and a file that isn't the indexed one is noticed."""

import random

import pytest
from tests.formats import pool_files as files

from dataworth.errors import FormatError
from dataworth.formats import open_pool
from dataworth.formats import reader as reader_module

ROWS = files.rows_like(400)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_any_order_costs_one_unpacking(tmp_path, monkeypatch, suffix):
    pool = open_pool(files.jsonl(tmp_path / f"x.jsonl{suffix}", ROWS))
    opened = []
    monkeypatch.setattr(reader_module, "Source", lambda path: opened.append(path) or source(path))
    order = list(range(400)) * 2
    random.Random(0).shuffle(order)
    assert [pool.columns(i)["n"] for i in order] == order
    assert len(opened) == (1 if suffix else 0)


source = reader_module.Source


def test_indexing_alone_unpacks_nothing_to_disk(tmp_path):
    pool = open_pool(files.jsonl(tmp_path / "x.jsonl.gz", ROWS))
    assert pool.reader._spool is None and pool.ids and pool.fingerprint and pool.reader._spool is None


def test_each_format_gives_raw_columns_and_example(tmp_path):
    line = b'{"prompt": "q", "completion": "a", "big": 99999999999999999999}\r\n'
    (tmp_path / "x.jsonl").write_bytes(line)
    pool = open_pool(tmp_path / "x.jsonl")
    assert pool.raw(0) == line and pool.columns(0)["big"] == 99999999999999999999
    example = pool.example(0)
    assert (example.id, example.prompt, example.response, example.schema) == (
        pool.ids[0],
        "q",
        "a",
        "prompt_completion",
    )
    table = open_pool(files.table_file(tmp_path / "x.parquet", [{"text": "t", "b": 1, "a": None}]))
    assert table.raw(0) == b'{"a":null,"b":1,"text":"t"}'


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.parquet"])
def test_same_size_other_content_is_noticed(tmp_path, name):
    write = files.table_file if name == "x.parquet" else files.jsonl
    path = write(tmp_path / name, [{"text": "aaaa"}])
    pool = open_pool(path)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(FormatError, match="changed since it was indexed"):
        pool.example(0)


def test_a_file_cut_short_after_it_was_opened_is_noticed(tmp_path):
    path = files.jsonl(tmp_path / "x.jsonl", ROWS)
    pool = open_pool(path)
    assert pool.columns(0) == ROWS[0]
    with path.open("r+b") as file:
        file.truncate(50)
    with pytest.raises(FormatError, match="changed since"):
        pool.columns(399)


def test_no_room_to_unpack_is_one_line(tmp_path, monkeypatch):
    path = files.jsonl(tmp_path / "x.jsonl.gz", ROWS)
    pool = open_pool(path)

    class Full:
        def seek(self, *at):
            return 0

        def write(self, block):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(pool.reader, "_spool", Full())
    with pytest.raises(FormatError, match=r"x\.jsonl\.gz can't be used \(No space left"):
        pool.columns(0)
