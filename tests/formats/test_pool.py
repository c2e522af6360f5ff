"""One pass makes the index: ids, copies, sources, offsets; every row is counted once."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.formats import pool_files as files

from dataworth.errors import FormatError, RequestError
from dataworth.formats import open_pool, take_rows
from dataworth.formats.exact import canonical_json
from dataworth.formats.pool import copy_numbers
from dataworth.records import format_id

ROWS = files.rows_like(300)


def naive_id(row: dict, copy: int = 0) -> str:
    return format_id(hashlib.blake2b(canonical_json(row), digest_size=16).digest(), copy)


@pytest.mark.parametrize(
    "name", ["x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "x.parquet", "x.arrow", "s.arrow", "x.json", "l.json"]
)
def test_every_format_gives_the_same_ids_and_rows(tmp_path, name):
    path = tmp_path / name
    if name == "x.json":
        path.write_text(json.dumps(ROWS, indent=1))
    elif path.suffix in (".parquet", ".arrow"):
        files.table_file(path, ROWS, **({"stream": True} if name == "s.arrow" else {}))
    else:
        files.jsonl(path, ROWS)
    pool = open_pool(path)
    assert pool.ids == tuple(naive_id(r) for r in ROWS)
    assert [pool.columns(i) for i in (299, 0, 7)] == [ROWS[299], ROWS[0], ROWS[7]]
    assert [e.response for e in pool.examples()] == [r["completion"] for r in ROWS]
    assert [json.loads(pool.raw(i)) for i in (5, 3)] == [ROWS[5], ROWS[3]]
    (file,) = pool.files
    assert (file.rows, file.sha256) == (300, hashlib.sha256(path.read_bytes()).hexdigest())
    assert pool.sources == (name.split(".")[0],) and pool.rejected == 0 and pool.rejects_path is None


def test_csv_values_are_strings(tmp_path):
    rows = [{"prompt": 'a "b"\nc', "completion": "d,e"}, {"prompt": "", "completion": "x"}]
    pool = open_pool(files.csv_file(tmp_path / "x.csv", rows))
    assert [pool.columns(i) for i in range(2)] == rows and pool.ids == tuple(map(naive_id, rows))


def test_ids_ignore_key_order_and_space_and_count_copies(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text":"a","n":1}\n{ "n" : 1, "text": "\\u0061" }\n{"text":"b","n":1}\n{"text":"a","n":1}\n')
    pool = open_pool(path)
    first = naive_id({"text": "a", "n": 1})
    assert pool.ids == (first, f"{first}#1", naive_id({"text": "b", "n": 1}), f"{first}#2")
    assert pool.copies == 2 and len(set(pool.ids)) == len(pool)


@given(st.lists(st.integers(0, 4), max_size=30))
def test_copy_numbers_equal_counting(values):
    digests = np.array([[v] * 16 for v in values], dtype=np.uint8).reshape(-1, 16)
    assert copy_numbers(digests).tolist() == [values[:i].count(v) for i, v in enumerate(values)]


def test_sources(tmp_path):
    a = files.jsonl(
        tmp_path / "a" / "train.jsonl",
        [{"text": "1"}, {"text": "2", "source": "web"}, {"text": "3", "source": 5}],
    )
    b = files.jsonl(tmp_path / "b" / "train.jsonl", [{"text": "4", "where": "wiki"}])
    pool = open_pool([a, b])
    assert [pool.source_of(i) for i in range(4)] == ["a/train", "web", "a/train", "b/train"]
    assert [pool.source_of(i) for i in range(4)] == [open_pool(tmp_path).source_of(i) for i in range(4)]
    assert open_pool(b, mapping={"text": "text", "source": "where"}).source_of(0) == "wiki"
    assert open_pool(b, mapping={"source": "where"}).source_of(0) == "wiki"
    with pytest.raises(RequestError, match="did you mean 'where'"):
        open_pool(b, mapping={"source": "were"})


ODD = b'\xef\xbb\xbf{"text": "first"}\r\n' + b"\n".join(
    [
        b'{"text": "ok", "id": 1180591620717411303424}',
        b"",
        b'{"text": "cut off',
        b'{"text": 5}',
        b'{"text": "\\ud83d lone"}',
        b'{"text": "bad \xff byte"}',
        b'{"text": "a", "text": "b"}',
        b'{"text": NaN}',
        b"[1]",
        b'{"text": "' + b"long" * 100 + b'"}',
        b'{"other": "column"}',
        b'{"text": "late", "new": [1, {"x": null}]}',
        b'{"text": ["now", "parts"]}',
        b"   ",
        b'{"text": ""}',
        b'{"text": "last, no line end"}',
    ]
)
READABLE = {1, 2, 6, 13, 16, 17}


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_odd_files_lose_no_row(tmp_path, suffix):
    path = tmp_path / f"odd.jsonl{suffix}"
    packer = files.jsonl(path, [])  # writes an empty file of that compression
    import gzip

    import zstandard

    data = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}.get(suffix, lambda b: b)(ODD)
    packer.write_bytes(data)
    rejects = tmp_path / "out" / "rejected.jsonl"
    pool = open_pool(path, max_row_bytes=200, rejects=rejects)
    lines = ODD.split(b"\n")
    rejected = files.rejects_of(rejects)
    assert pool.rejects_path == rejects and pool.rejected == len(rejected)
    assert {r["line"] for r in rejected} | READABLE | {3, 15} == set(range(1, 18))
    assert len(pool) == len(READABLE) and len(pool) + pool.rejected == len([x for x in lines if x.strip()])
    starts = np.cumsum([0, *[len(x) + 1 for x in lines]])
    for r in rejected:
        start = starts[r["line"] - 1]
        assert r["offset"] == start and r["file"] == str(path)
        assert lines[r["line"] - 1].startswith(r["raw"].rstrip("\n")[:5].encode())
    reasons = {r["line"]: r["reason"] for r in rejected}
    for line, words in {
        4: "not JSON",
        5: "'text' holds a number, expected a string",
        7: "not UTF-8",
        8: "'text' stands twice",
        9: "NaN",
        10: "an array",
        11: "longer than 200 bytes",
        12: "'text' is missing",
        14: "holds a list",
    }.items():
        assert words in reasons[line]
    assert pool.columns(1)["id"] == 2**70
    assert pool.example(2).text == "\ud83d lone"
    assert [pool.raw(i) for i in range(len(pool))] == [ODD[max(starts[n - 1], 3) : starts[n]] for n in sorted(READABLE)]


def test_duplicate_keys_may_keep_the_last(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a", "text": "b"}\n')
    assert open_pool(path, duplicate_keys="last").example(0).text == "b"
    with pytest.raises(FormatError, match="no readable row"):
        open_pool(path)


def test_rejects_of_an_earlier_reading_go(tmp_path):
    bad = tmp_path / "x.jsonl"
    bad.write_text('{"text": "a"}\n{\n')
    rejects = tmp_path / "rejected.jsonl"
    assert open_pool(bad, rejects=rejects).rejected == 1 and rejects.exists()
    bad.write_text('{"text": "a"}\n')
    assert open_pool(bad, rejects=rejects).rejects_path is None and not rejects.exists()


def test_array_and_csv_rejects(tmp_path):
    array = tmp_path / "x.json"
    array.write_text('[{"text": "a"}, {"text": 1e999}, {"text": "c"}]')
    rejects = tmp_path / "r.jsonl"
    assert len(open_pool(array, rejects=rejects)) == 2
    assert files.rejects_of(rejects)[0] | {"raw": "", "reason": ""} == {
        "file": str(array),
        "line": 2,
        "offset": 16,
        "raw": "",
        "reason": "",
    }
    table = tmp_path / "x.csv"
    table.write_bytes(b'text,n\r\na,1\r\nb\r\n"c\r\nd",2\r\n\xff,3\r\n')
    pool = open_pool(table, rejects=rejects)
    assert [pool.columns(i)["text"] for i in range(2)] == ["a", "c\r\nd"]
    assert [(r["line"], r["reason"][:8]) for r in files.rejects_of(rejects)] == [
        (3, "1 fields"),
        (6, "not UTF-"),
    ]


def test_empty_and_unreadable_pools(tmp_path):
    empty = tmp_path / "e.jsonl"
    empty.write_bytes(b"")
    with pytest.raises(FormatError, match=r"no readable row \(empty\)"):
        open_pool(empty)
    blank = tmp_path / "b.jsonl"
    blank.write_bytes(b"\xef\xbb\xbf\n \n\n")
    with pytest.raises(FormatError, match="empty"):
        open_pool(blank)
    bad = tmp_path / "bad.jsonl"
    bad.write_text("nope\n{\n")
    rejects = tmp_path / "r.jsonl"
    with pytest.raises(FormatError, match=r"2 rejected, the first at .*line 1: not JSON"):
        open_pool(bad, rejects=rejects)
    assert len(files.rejects_of(rejects)) == 2
    one = files.jsonl(tmp_path / "one.jsonl", [{"text": "a"}])
    pool = open_pool([empty, one])
    assert len(pool) == 1 and [f.rows for f in pool.files] == [0, 1] and pool.kinds == {"text"}


@pytest.mark.parametrize("name", ["t.jsonl.gz", "t.jsonl.zst", "t.parquet", "t.arrow", "t.json"])
def test_broken_containers_are_errors_not_short_pools(tmp_path, name):
    path = tmp_path / name
    rows = files.rows_like(2000)
    if path.suffix in (".parquet", ".arrow"):
        files.table_file(path, rows)
    elif name == "t.json":
        path.write_text(json.dumps(rows))
    else:
        files.jsonl(path, rows)
    path.write_bytes(path.read_bytes()[:-40])
    rejects = tmp_path / "r.jsonl"
    with pytest.raises(FormatError, match=name) as caught:
        open_pool(path, rejects=rejects)
    assert "\n" not in str(caught.value) and not list(tmp_path.glob("*r.jsonl*"))


def test_tables_behind_a_compression_are_refused(tmp_path):
    path = tmp_path / "x.parquet.gz"
    path.write_bytes(b"\x1f\x8b")
    with pytest.raises(FormatError, match="unpack it first"):
        open_pool(path)


def test_a_changed_file_is_named(tmp_path):
    for suffix in ("", ".gz"):
        path = files.jsonl(tmp_path / f"x.jsonl{suffix}", ROWS)
        pool = open_pool(path)
        os.utime(path, ns=(1, 1))
        assert pool.columns(0) == ROWS[0]  # touched, same content
        pool = open_pool(path)
        files.jsonl(path, [dict(r, n=9 - r["n"]) for r in ROWS[::-1]])
        with pytest.raises(FormatError, match=r"x\.jsonl.* changed since"):
            pool.columns(0)
        path.unlink()
        with pytest.raises(FormatError, match="is gone"):
            open_gone(pool)


def open_gone(pool):
    pool.reader.verify()


def test_more_files_than_handles(tmp_path):
    paths = [files.jsonl(tmp_path / f"{i:03}.jsonl{'.gz' if i % 2 else ''}", files.rows_like(2, i)) for i in range(80)]
    pool = open_pool(paths)
    order = np.random.default_rng(0).permutation(len(pool))
    assert [pool.columns(int(i))["n"] for i in order] == [i // 2 + i % 2 for i in order.tolist()]
    assert len(pool.reader._handles) <= 32


def test_take_rows_numbers_copies_anew(tmp_path):
    path = files.jsonl(tmp_path / "x.jsonl", [{"text": t} for t in "abab"])
    pool = open_pool(path)
    part = take_rows(pool, slice(2, 4))
    assert part.ids == pool.ids[:2] and part.files[0].rows == 2
    assert [e.text for e in part.examples()] == ["a", "b"]


def test_unknown_columns_name_the_way_out(tmp_path):
    path = files.jsonl(tmp_path / "x.jsonl", [{"context": "a", "continuation": "b"}])
    with pytest.raises(FormatError, match=r"context, continuation; .*--map prompt=COLUMN completion=COLUMN"):
        open_pool(path)
    pool = open_pool(path, mapping={"prompt": "context", "completion": "continuation"})
    assert pool.example(0).prompt == "a" and pool.files[0].mapping == (
        ("prompt", "context"),
        ("completion", "continuation"),
    )


@given(
    st.lists(
        st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=50)
def test_pool_of_any_rows_reads_back(rows):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        rows = [{**r, "text": f"t{i % 3}"} for i, r in enumerate(rows)]
        pool = open_pool(files.jsonl(Path(folder) / "x.jsonl", rows))
        assert [pool.columns(i) for i in range(len(pool))] == rows
        assert [i.split("#")[0] for i in pool.ids] == [naive_id(r) for r in rows]
        assert sum(f.rows for f in pool.files) + pool.rejected == len(rows)


def test_preference_and_rl_rows_are_recognised_and_carried(tmp_path):
    rows = (
        [{"prompt": "p", "chosen": "c", "rejected": "r"}],
        [{"prompt": "p", "ground_truth": "4", "extra": {"n": 1}}],
    )
    for kind, row in zip(("preference", "rl"), rows, strict=True):
        pool = open_pool(files.jsonl(tmp_path / f"{kind}.jsonl", row))
        assert pool.kinds == {kind} and pool.example(0).kind == kind and pool.columns(0) == row[0]
    qa = files.jsonl(tmp_path / "qa.jsonl", [{"question": "q", "answer": "4"}])
    assert open_pool(qa).kinds == {"sft"} and open_pool(qa, task="rl").example(0).kind == "rl"
    mixed = open_pool([tmp_path / "preference.jsonl", qa])
    assert mixed.kinds == {"preference", "sft"}


def test_a_pool_knows_where_columns_alone_do_not_tell_the_schema(tmp_path):
    qa = files.jsonl(tmp_path / "qa.jsonl", [{"question": "q", "answer": "4"}])
    assert [open_pool(qa, task=task).files[0].implied for task in (None, "sft", "rl")] == [True, True, False]
    mapping = {"question": "question", "answer": "answer"}
    assert open_pool(qa, mapping=mapping).files[0].implied
    assert not open_pool(qa, mapping=mapping, task="rl").files[0].implied
    both = {"messages": [{"role": "user", "content": "q"}], "text": "t"}
    most = files.jsonl(tmp_path / "text.jsonl", [both, *[{"messages": None, "text": "t"}] * 2])
    pool = open_pool([files.jsonl(tmp_path / "talk.jsonl", [both]), most])
    assert [(f.schema, f.implied) for f in pool.files] == [("messages", True), ("text", False)]
    assert pool.ids[0].split("#")[0] == pool.ids[1].split("#")[0]
    assert open_pool(files.jsonl(tmp_path / "ordinary.jsonl", ROWS)).files[0].implied


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = files.jsonl(tmp_path / "x.jsonl", ROWS)
    path.chmod(0)
    with pytest.raises(FormatError, match="Permission denied"):
        open_pool(path)


def test_an_input_error_names_the_file(tmp_path, monkeypatch):
    path = files.jsonl(tmp_path / "x.jsonl", ROWS)

    def fail(self):
        raise OSError(5, "Input/output error")
        yield

    monkeypatch.setattr("dataworth.formats.rows.Source.blocks", fail)
    with pytest.raises(FormatError, match=r"x\.jsonl can't be used \(Input/output error\)"):
        open_pool(path)


def test_a_file_name_that_is_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    path.write_text('{"text": "a"}\nbroken\n')
    rejects = tmp_path / "r.jsonl"
    assert len(open_pool(path, rejects=rejects)) == 1
    assert files.rejects_of(rejects)[0]["file"].endswith("caf\\udce9.jsonl")


def test_a_mapped_source_may_be_a_path_a_number_or_joined(tmp_path):
    rows = [{"prompt": f"p{i}", "completion": "c", "meta": {"set": f"s{i % 2}", "n": i % 2}} for i in range(4)]
    path = files.jsonl(tmp_path / "a.jsonl", rows)
    names = {"meta.set": ("s0", "s1"), "meta.n": ("0", "1"), "meta.set+meta.n": ("s0\n0", "s1\n1")}
    for source, expected in names.items():
        assert open_pool(path, mapping={"source": source}).sources == expected
    with pytest.raises(FormatError, match="expected text or a number to join"):
        open_pool(path, mapping={"source": "meta+prompt"})
