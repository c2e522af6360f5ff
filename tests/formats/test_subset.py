"""The picked rows come out as they were: bytes, schema, order; whole files or none."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.formats import pool_files as files

from dataworth.errors import FormatError, RequestError
from dataworth.formats import open_pool, write_subset

UNPACK = {
    "": bytes,
    ".gz": gzip.decompress,
    ".zst": lambda b: zstandard.ZstdDecompressor().decompressobj().decompress(b),
}
LINES = [
    b'{"text": "a\\u0062", "big": 1180591620717411303424}\r\n',
    b'{ "text":"c"}\n',
    b'{"text": "\\ud83d"}\n',
    b'{"text": "z"}',
]


@pytest.mark.parametrize("packed_in", ["", ".gz", ".zst"])
@pytest.mark.parametrize("packed_out", ["", ".gz", ".zst"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_json_lines_keep_their_bytes(tmp_path, packed_in, packed_out, bom):
    path = tmp_path / f"in.jsonl{packed_in}"
    data = bom + LINES[0] + b"\n" + LINES[1] + b"broken\n" + LINES[2] + LINES[3]
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    path.write_bytes(pack[packed_in](data))
    pool = open_pool(path)
    out = tmp_path / "deep" / f"out.jsonl{packed_out}"
    assert write_subset(pool, [3, 0, 2], out) == [out]
    assert UNPACK[packed_out](out.read_bytes()) == bom + LINES[0] + LINES[2] + LINES[3]
    again = open_pool(out)
    assert again.ids == tuple(pool.ids[i] for i in (0, 2, 3))
    before = out.read_bytes()
    write_subset(pool, [0, 2, 3], out)
    assert out.read_bytes() == before


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=12),
        min_size=1,
        max_size=12,
    ),
    st.data(),
)
@settings(max_examples=60)
def test_any_subset_of_any_lines(texts, data):
    import tempfile

    picked = sorted(data.draw(st.sets(st.integers(0, len(texts) - 1), min_size=1)))
    ends = [data.draw(st.sampled_from(["\n", "\r\n"])) for _ in texts]
    lines = [(json.dumps({"text": t}, ensure_ascii=False) + e).encode() for t, e in zip(texts, ends, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "x.jsonl", Path(folder) / "o.jsonl"
        path.write_bytes(b"".join(lines))
        write_subset(open_pool(path), picked, out)
        assert out.read_bytes() == b"".join(lines[i] for i in picked)


def test_array_elements_and_csv_records_keep_their_bytes(tmp_path):
    array = tmp_path / "x.json"
    array.write_bytes(b'[ {"text" : "a"},\n  {"text":"b"} , {"text":1.0e0, "x":0},{"text":"c"}]')
    out = tmp_path / "o.json"
    pool = open_pool(array)
    write_subset(pool, [0, 2], out)
    assert out.read_bytes() == b'[\n{"text" : "a"},\n{"text":"c"}\n]\n'
    assert open_pool(out).ids == (pool.ids[0], pool.ids[2])
    table = tmp_path / "x.csv"
    table.write_bytes(b'\xef\xbb\xbf"text",n\r\n"a, ""b""",1\r\nc,2\r\n"d\ne",03\n')
    write_subset(open_pool(table), [0, 2], tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_bytes() == b'\xef\xbb\xbf"text",n\r\n"a, ""b""",1\r\n"d\ne",03\n'


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
def test_parquet_keeps_schema_and_values(tmp_path, codec):
    rows = [{"text": f"t{i}", "u": i, "deep": [{"x": None, "y": i / 3}]} for i in range(100)]
    schema = pa.schema(
        [
            pa.field("text", pa.large_string(), metadata={"k": "v"}),
            ("u", pa.uint8()),
            ("deep", pa.list_(pa.struct([("x", pa.int8()), ("y", pa.float32())]))),
        ],
        metadata={"huggingface": "{}"},
    )
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=9, compression=codec)
    keep = [0, 8, 9, 50, 99]
    pool = open_pool(path)
    write_subset(pool, keep, tmp_path / "o.parquet")
    before, after = pq.read_table(path), pq.read_table(tmp_path / "o.parquet")
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.equals(before.take(keep))
    assert open_pool(tmp_path / "o.parquet").ids == tuple(pool.ids[i] for i in keep)


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_keeps_its_kind(tmp_path, stream):
    path = files.table_file(tmp_path / "x.arrow", files.rows_like(30), stream=stream)
    write_subset(open_pool(path), np.array([29, 3]), tmp_path / "o.arrow")
    opener = pa.ipc.open_stream if stream else pa.ipc.open_file
    table = opener(pa.memory_map(str(tmp_path / "o.arrow"))).read_all()
    assert table.to_pylist() == [files.rows_like(30)[i] for i in (3, 29)]


def test_several_inputs(tmp_path):
    a = files.jsonl(tmp_path / "a" / "x.jsonl.gz", files.rows_like(3))
    b = files.jsonl(tmp_path / "b" / "x.jsonl.gz", files.rows_like(3, 10))
    b.write_bytes(gzip.compress(gzip.decompress(b.read_bytes())[:-1]))
    c = files.table_file(tmp_path / "c.parquet", files.rows_like(3, 20))
    d = files.jsonl(tmp_path / "d.jsonl", files.rows_like(1, 30))
    pool = open_pool([b, a, c, d])
    out = write_subset(pool, [2, 4, 7], tmp_path / "picked")
    assert [p.name for p in out] == ["b-x.jsonl.gz", "a-x.jsonl.gz", "c.parquet"]
    assert [open_pool(p).columns(0)["n"] for p in out] == [12, 1, 21]
    with pytest.raises(RequestError, match="expected a folder"):
        write_subset(pool, [2, 7], tmp_path / "one.jsonl")
    # JSON lines of one schema may go into one file; a line end is added only where the input's last line has none.
    (one,) = write_subset(pool, [2, 4, 9], tmp_path / "one.jsonl")
    assert [json.loads(x)["n"] for x in one.read_bytes().splitlines()] == [12, 1, 30]
    e = files.jsonl(tmp_path / "e.jsonl", [{"text": "another schema"}])
    with pytest.raises(RequestError, match="prompt_completion, text"):
        write_subset(open_pool([d, e]), [0, 1], tmp_path / "two.jsonl")


def test_requests_that_make_no_sense(tmp_path):
    path = files.jsonl(tmp_path / "x.jsonl", files.rows_like(3))
    pool = open_pool(path)
    for positions, out, words in [
        ([], "o.jsonl", "no row was picked"),
        ([3], "o.jsonl", "outside the pool of 3 rows"),
        ([-1], "o.jsonl", "outside the pool"),
        ([1, 1], "o.jsonl", "each row once"),
        ([1], "x.jsonl", "is an input of this pool"),
        ([1], "../" + tmp_path.name + "/x.jsonl", "is an input of this pool"),
        ([1], "o.parquet", r"can't hold jsonl rows unchanged: expected a name ending in \.jsonl"),
        ([1], "o.txt", "names no known format"),
    ]:
        with pytest.raises(RequestError, match=words):
            write_subset(pool, positions, tmp_path / out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.jsonl"]


def test_a_changed_input_leaves_nothing_behind(tmp_path):
    path = files.jsonl(tmp_path / "x.jsonl", files.rows_like(3))
    pool = open_pool(path)
    files.jsonl(path, files.rows_like(4))
    with pytest.raises(FormatError, match="changed since"):
        write_subset(pool, [0], tmp_path / "o.jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


def test_an_input_that_changes_while_writing_is_noticed(tmp_path, monkeypatch):
    path = files.jsonl(tmp_path / "x.jsonl", files.rows_like(3))
    out = tmp_path / "o.jsonl"
    out.write_text("earlier")
    pool = open_pool(path)
    reader = pool.reader
    plain = type(reader).raw

    def raw(self, *at):
        path.write_bytes(path.read_bytes().replace(b"question", b"QUESTION"))
        return plain(self, *at)

    monkeypatch.setattr(type(reader), "raw", raw)
    with pytest.raises(FormatError, match="changed since"):
        write_subset(pool, [0, 1], out)
    assert out.read_text() == "earlier" and sorted(p.name for p in tmp_path.iterdir()) == [
        "o.jsonl",
        "x.jsonl",
    ]


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file(tmp_path, monkeypatch, step):
    pool = open_pool(files.jsonl(tmp_path / "x.jsonl", files.rows_like(3)))
    out = tmp_path / "o.jsonl"
    out.write_text("earlier")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    target = {"open": (Path, "open"), "fsync": (__import__("os"), "fsync"), "replace": (Path, "replace")}[step]
    with monkeypatch.context() as broken:
        broken.setattr(*target, fail)
        with pytest.raises(RequestError, match="No space left on device"):
            write_subset(pool, [0], out)
    assert out.read_text() == "earlier" and sorted(p.name for p in tmp_path.iterdir()) == [
        "o.jsonl",
        "x.jsonl",
    ]
