"""The same rows through every container and compression: equal ids, equal bytes out, nothing lost on the way."""

import gzip
import itertools
import json

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.formats import pool_files as files

from dataworth.errors import RequestError
from dataworth.formats import open_pool, write_subset
from dataworth.formats.json_array import ArrayScanner

PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
UNPACK = {
    "": bytes,
    ".gz": gzip.decompress,
    ".zst": lambda b: zstandard.ZstdDecompressor().decompressobj().decompress(b),
}
BOM = b"\xef\xbb\xbf"
ROWS = [{"text": f"t{i % 4} ünï\n", "n": i // 4, "deep": {"x": [None, i / 3]}} for i in range(12)]
PACKS = list(itertools.product(PACK, repeat=2))


@pytest.mark.parametrize(("packed_in", "packed_out"), PACKS)
@pytest.mark.parametrize("bom", [b"", BOM])
def test_json_arrays_keep_their_elements(tmp_path, packed_in, packed_out, bom):
    elements = [json.dumps(r, indent=i % 3 or None, ensure_ascii=i % 2 == 0).encode() for i, r in enumerate(ROWS)]
    path = tmp_path / f"x.json{packed_in}"
    path.write_bytes(PACK[packed_in](bom + b"\n\t [ " + b" ,\r\n ".join(elements) + b"\n]\n \t"))
    pool = open_pool(path)
    assert [pool.columns(i) for i in range(12)] == ROWS and [pool.raw(i) for i in range(12)] == elements
    keep = [11, 0, 5]
    (out,) = write_subset(pool, keep, tmp_path / f"o.json{packed_out}")
    written = UNPACK[packed_out](out.read_bytes())
    assert written == bom + b"[\n" + b",\n".join(elements[i] for i in sorted(keep)) + b"\n]\n"
    assert json.loads(written.removeprefix(bom)) == [ROWS[i] for i in sorted(keep)]
    assert open_pool(out).ids == tuple(pool.ids[i] for i in sorted(keep))


SPACE = st.text(" \t\r\n", max_size=3)


@given(st.lists(st.tuples(SPACE, st.sampled_from(ROWS), SPACE), max_size=5), SPACE, SPACE, st.integers(1, 30))
@settings(max_examples=150)
def test_white_space_around_elements_belongs_to_none(parts, before, after, size):
    bodies = [json.dumps(row).encode() for _, row, _ in parts]
    joined = ",".join(a + body.decode() + b for (a, _, b), body in zip(parts, bodies, strict=True))
    data = (before + "[" + joined + "]" + after).encode()
    spans = list(
        ArrayScanner("x.json", 0, 1 << 20).spans(iter([data[i : i + size] for i in range(0, len(data), size)]))
    )
    assert [raw for _, _, raw, _ in spans] == bodies and not any(why for *_, why in spans)
    assert all(data[at : at + len(raw)] == raw for _, at, raw, _ in spans)


@pytest.mark.parametrize(
    ("text", "good", "lines"),
    [
        ('[{"text":"a"},]', 1, [2]),
        ('[,{"text":"a"}]', 1, [1]),
        ('[{"text":"a"} {"text":"b"},{"text":"c"}]', 1, [1]),
        ('[{"text":"a"},["text"],null,{"text":"b"}]', 2, [2, 3]),
        ('[{"text":"a]"},{"text":"\\"["}]', 2, []),
    ],
)
def test_array_elements_that_are_no_rows_are_rejected_one_by_one(tmp_path, text, good, lines):
    path, rejects = tmp_path / "x.json", tmp_path / "r.jsonl"
    path.write_text(text)
    pool = open_pool(path, rejects=rejects)
    assert len(pool) == good
    assert ([r["line"] for r in files.rejects_of(rejects)] if lines else []) == lines


@pytest.mark.parametrize(("packed_in", "packed_out"), PACKS)
def test_json_lines_named_json_are_lines_and_stay_lines(tmp_path, packed_in, packed_out):
    path = tmp_path / f"x.json{packed_in}"
    lines = [json.dumps(r).encode() + b"\n" for r in ROWS]
    path.write_bytes(PACK[packed_in](b"".join(lines)))
    pool = open_pool(path)
    assert pool.files[0].format == "jsonl" and pool.files[0].compression == packed_in.lstrip(".")
    for name in ("o.json", "o.jsonl", "o.ndjson"):
        (out,) = write_subset(pool, [1, 3], tmp_path / f"{name}{packed_out}")
        assert UNPACK[packed_out](out.read_bytes()) == lines[1] + lines[3]


def write_as(path, rows):
    if path.name.split(".")[1] == "json":
        path.write_bytes(PACK[path.suffix if path.suffix in PACK else ""](json.dumps(rows).encode()))
        return path
    return (files.table_file if path.suffix in (".parquet", ".arrow") else files.jsonl)(path, rows)


NAMES = ["x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "x.json", "x.json.gz", "x.parquet", "x.arrow"]


def test_one_pool_of_every_container_counts_copies_across_files(tmp_path):
    paths = [
        write_as(tmp_path / str(n) / name, ROWS) for n, name in enumerate(NAMES) if (tmp_path / str(n)).mkdir() is None
    ]
    pool = open_pool(paths)
    first = pool.ids[:12]
    assert len(set(first)) == 12 and pool.copies == 12 * (len(NAMES) - 1)
    for n in range(1, len(NAMES)):
        assert pool.ids[12 * n : 12 * n + 12] == tuple(f"{i}#{n}" for i in first)
    assert [f.rows for f in pool.files] == [12] * len(NAMES) and len(set(pool.ids)) == len(pool)
    out = write_subset(pool, range(0, len(pool), 5), tmp_path / "picked")
    assert len(out) == len(NAMES)
    again = [r for p in out for r in (open_pool(p).columns(i) for i in range(len(open_pool(p))))]
    assert again == [ROWS[i % 12] for i in range(0, len(pool), 5)]


@pytest.mark.parametrize("name", NAMES)
def test_order_of_rows_and_the_name_of_a_file_do_not_change_ids(tmp_path, name):
    pool = open_pool(write_as(tmp_path / name, ROWS))
    turned = open_pool(write_as(tmp_path / name.replace("x", "other"), ROWS[::-1]))
    assert turned.ids == pool.ids[::-1] and turned.fingerprint == pool.fingerprint
    fewer = open_pool(write_as(tmp_path / name, ROWS[1:]))
    assert fewer.ids == pool.ids[1:] and fewer.fingerprint != pool.fingerprint


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("x.jsonl", "o.json.txt"),
        ("x.jsonl", "o.csv"),
        ("x.jsonl", "o.arrow"),
        ("x.parquet", "o.arrow"),
        ("x.parquet", "o.parquet.gz"),
        ("x.json", "o.jsonl"),
        ("x.arrow", "o.jsonl.zst"),
        ("x.json.gz", "o.ndjson"),
    ],
)
def test_a_selection_is_never_converted(tmp_path, source, target):
    pool = open_pool(write_as(tmp_path / source, ROWS))
    with pytest.raises(RequestError, match=r"names no known format|can't hold") as caught:
        write_subset(pool, [0], tmp_path / target)
    assert "expected a name ending in ." in str(caught.value) and not (tmp_path / target).exists()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=14), st.data())
@settings(max_examples=25)
def test_a_selection_of_a_selection_keeps_ids_up_to_copies(tmp_path_factory, kinds, data):
    folder = tmp_path_factory.mktemp("twice")
    pool = open_pool(files.jsonl(folder / "x.jsonl", [{"text": f"t{k}"} for k in kinds]))
    keep = sorted(data.draw(st.sets(st.integers(0, len(kinds) - 1), min_size=1)))
    once = open_pool(write_subset(pool, keep, folder / "o.jsonl.gz"))
    assert [i[:32] for i in once.ids] == [pool.ids[i][:32] for i in keep]
    inner = sorted(data.draw(st.sets(st.integers(0, len(keep) - 1), min_size=1)))
    twice = open_pool(write_subset(once, inner, folder / "p.jsonl"))
    assert [e.text for e in twice.examples()] == [f"t{kinds[keep[i]]}" for i in inner]
    assert twice.copies == len(inner) - len({kinds[keep[i]] for i in inner})
