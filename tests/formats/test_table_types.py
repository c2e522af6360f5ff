"""Every Arrow type a pool may hold: read, identified, written and read again without a changed value."""

import datetime as dt
import itertools
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.formats import pool_files as files

from dataworth.formats import open_pool, write_subset
from dataworth.formats.exact import table_canonical

DAY = dt.datetime(2024, 2, 29, 12, 30, 15, 250000)
TYPES = {
    "int8": (pa.int8(), [-128, 127, None]),
    "uint64": (pa.uint64(), [0, 2**64 - 1, 2**63]),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1, 2**53 + 1]),
    "float16": (pa.float16(), [0.5, -2.0, None]),
    "float32": (pa.float32(), [0.1, 1e-38, float("inf")]),
    "float64": (pa.float64(), [5e-324, -0.0, 1.7976931348623157e308]),
    "bool": (pa.bool_(), [True, False, None]),
    "large_string": (pa.large_string(), ["", "ünï\0", "\U0001f600"]),
    "string_view": (pa.string_view(), ["a", "longer than twelve bytes", None]),
    "binary": (pa.binary(), [b"", b"\x00\xff", None]),
    "fixed_binary": (pa.binary(2), [b"ab", b"\x00\x01", None]),
    "decimal": (pa.decimal128(20, 3), [Decimal("1.100"), Decimal("-99999999999999999.999"), None]),
    "decimal256": (pa.decimal256(60, 1), [Decimal("9" * 59 + ".9"), Decimal("0.0"), None]),
    "date32": (pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31), None]),
    "date64": (pa.date64(), [dt.date(1969, 7, 20), dt.date(2024, 2, 29), None]),
    "time64": (pa.time64("us"), [dt.time(0, 0), dt.time(23, 59, 59, 999999), None]),
    "timestamp_s": (pa.timestamp("s"), [DAY.replace(microsecond=0), dt.datetime(1970, 1, 1), None]),
    "timestamp_ms": (pa.timestamp("ms"), [DAY, dt.datetime(1970, 1, 1), None]),
    "timestamp_ns": (pa.timestamp("ns"), [DAY, dt.datetime(1970, 1, 1), None]),
    "timestamp_tz": (pa.timestamp("us", "UTC"), [DAY.replace(tzinfo=dt.UTC), None, None]),
    "timestamp_ns_tz": (pa.timestamp("ns", "Europe/Paris"), [DAY.replace(tzinfo=dt.UTC), None, None]),
    "duration_ms": (pa.duration("ms"), [dt.timedelta(days=-1, milliseconds=1), dt.timedelta(0), None]),
    "duration_ns": (pa.duration("ns"), [dt.timedelta(hours=3), dt.timedelta(microseconds=1), None]),
    "list": (pa.list_(pa.int32()), [[], [1, None, 3], None]),
    "fixed_list": (pa.list_(pa.float32(), 2), [[1.0, 2.0], [0.5, None], None]),
    "large_list": (pa.large_list(pa.string()), [["a"], [None, ""], None]),
    "struct": (pa.struct([("x", pa.int64()), ("y", pa.string())]), [{"x": 1, "y": None}, {"x": None, "y": ""}, None]),
    "deep": (
        pa.list_(pa.struct([("k", pa.list_(pa.struct([("v", pa.uint64())])))])),
        [[{"k": [{"v": 2**64 - 1}, {"v": None}]}, {"k": None}, {"k": []}], [None], None],
    ),
    "map": (pa.map_(pa.string(), pa.int8()), [[("a", 1), ("b", None)], [], None]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["red", "green", "red"]),
    "null": (pa.null(), [None, None, None]),
}


def table_of(kind: pa.DataType, values: list, repeat: int = 1) -> pa.Table:
    texts = [f"t{i}" for i in range(len(values) * repeat)]
    return pa.table({"text": texts, "v": pa.array(values * repeat, kind)})


def write(table: pa.Table, path, **options):
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    return path


def read(path) -> pa.Table:
    return pq.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(path.read_bytes()).read_all()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("name", TYPES)
def test_a_type_survives_the_way_through_a_selection(tmp_path, name, suffix):
    kind, values = TYPES[name]
    path = write(table_of(kind, values, repeat=5), tmp_path / f"x{suffix}")
    pool = open_pool(path)
    assert len(pool) == 15 and pool.rejected == 0 and len(set(pool.ids)) == 15
    keep = [0, 1, 7, 14]
    (out,) = write_subset(pool, keep[::-1], tmp_path / f"o{suffix}")
    before, after = read(path), read(out)
    assert after.schema.equals(before.schema, check_metadata=True)
    rows = before.to_pylist()
    assert after.to_pylist() == [rows[i] for i in keep]
    again = open_pool(out)
    assert again.ids == tuple(pool.ids[i] for i in keep)
    assert [again.raw(n) for n in range(4)] == [pool.raw(i) for i in keep]


@pytest.mark.parametrize("name", [n for n in TYPES if n not in ("null",)])
def test_equal_values_have_equal_ids_and_other_values_others(tmp_path, name):
    kind, values = TYPES[name]
    distinct = list(itertools.compress(values, [values.index(v) == i for i, v in enumerate(values)]))
    column = pa.array(distinct + distinct, kind)
    path = write(pa.table({"text": ["same"] * len(column), "v": column}), tmp_path / "x.parquet")
    pool = open_pool(path)
    assert pool.copies == len(distinct)
    assert [i.split("#")[0] for i in pool.ids[: len(distinct)]] == [i.split("#")[0] for i in pool.ids[len(distinct) :]]


@pytest.mark.parametrize("name", ["int64", "uint64", "float64", "bool", "large_string", "list", "struct", "deep"])
def test_a_table_row_has_the_id_of_the_same_json_row(tmp_path, name):
    kind, values = TYPES[name]
    rows = table_of(kind, values).to_pylist()
    table = open_pool(write(table_of(kind, values), tmp_path / "x.parquet"))
    lines = open_pool(files.jsonl(tmp_path / "y.jsonl", rows))
    assert table.ids == lines.ids
    assert [json.loads(table.raw(i)) for i in range(3)] == rows


def test_timestamps_are_written_alike_in_every_unit(tmp_path):
    """Nanoseconds come as pandas' own type where pandas is installed; ids must not tell."""
    ids = set()
    for unit in ("s", "ms", "us", "ns"):
        when = pa.array([DAY.replace(microsecond=0)], pa.timestamp(unit))
        path = write(pa.table({"text": ["t"], "v": when}), tmp_path / f"{unit}.arrow")
        ids |= set(open_pool(path).ids)
    assert len(ids) == 1


def test_nanoseconds_below_a_microsecond_are_not_rounded_away(tmp_path):
    pytest.importorskip("pandas")
    when = pa.array([1, 2, 1000], pa.timestamp("ns"))
    pool = open_pool(write(pa.table({"text": ["t"] * 3, "v": when}), tmp_path / "x.parquet"))
    assert len(pool) == 3 and pool.copies == 0


@pytest.mark.parametrize("codec", ["snappy", "gzip", "brotli", "lz4", "zstd", "none"])
def test_parquet_keeps_its_codec(tmp_path, codec):
    path = write(table_of(pa.int64(), [1, 2, 3]), tmp_path / "x.parquet", compression=codec)
    (out,) = write_subset(open_pool(path), [1], tmp_path / "o.parquet")
    was, now = (pq.ParquetFile(p).metadata.row_group(0).column(0).compression for p in (path, out))
    assert was == now and (codec == "none") == (now == "UNCOMPRESSED")


@pytest.mark.parametrize("group", [1, 2, 7, 100])
def test_row_groups_and_blocks_hide_nothing(tmp_path, group):
    table = table_of(pa.int64(), list(range(20)), repeat=7)
    pool = open_pool(write(table, tmp_path / "x.parquet", row_group_size=group))
    rows = table.to_pylist()
    order = [139, 0, 63, 64, 65, 127, 128, 1, 138]
    assert [pool.columns(i) for i in order] == [rows[i] for i in order]
    (out,) = write_subset(pool, order, tmp_path / "o.parquet")
    assert read(out).to_pylist() == [rows[i] for i in sorted(order)]


def test_a_stream_may_replace_its_dictionary_on_the_way(tmp_path):
    schema = pa.schema([("text", pa.dictionary(pa.int8(), pa.string()))])
    path = tmp_path / "x.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for words in (["a", "b"], ["c", "a"]):
            column = pa.array(words).dictionary_encode().cast(schema.field(0).type)
            writer.write_batch(pa.record_batch([column], schema=schema))
    pool = open_pool(path)
    assert [e.text for e in pool.examples()] == ["a", "b", "c", "a"] and pool.copies == 1
    (out,) = write_subset(pool, [1, 2, 3], tmp_path / "o.arrow")
    assert [e.text for e in open_pool(out).examples()] == ["b", "c", "a"]


def test_columns_only_a_table_can_name(tmp_path):
    table = pa.table({"": [1], "a.b": [2], "text": ["t"], "ключ": [3]})
    path = write(table, tmp_path / "x.parquet")
    pool = open_pool(path, mapping={"prompt": "a.b+ключ", "completion": "text"})
    assert pool.columns(0) == {"": 1, "a.b": 2, "text": "t", "ключ": 3}
    assert (pool.example(0).prompt, pool.example(0).response) == ("2\n3", "t")


def test_canonical_form_of_what_json_lacks():
    row = {"b": b"\x01\xff", "d": Decimal("1.10"), "t": dt.timedelta(seconds=90), "n": float("nan"), "i": float("-inf")}
    assert table_canonical(row) == b'{"b":"01ff","d":"1.10","i":-inf,"n":nan,"t":90.0}'
    assert table_canonical({"a": (1, [None])}) == b'{"a":[1,[null]]}'
    with pytest.raises(TypeError, match="object"):
        table_canonical({"a": object()})
