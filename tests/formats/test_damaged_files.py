"""Whatever is done to a file, reading ends in a pool whose counts add up or in a one-line error, never in a bug."""

import gzip
import json
import random
from pathlib import Path

import pytest
import zstandard
from tests.formats import pool_files as files

from dataworth.errors import DataworthError
from dataworth.formats import open_pool

TEXTS = ["plain", 'quo"te', "ünï", "line\nend", "a,b", "\\", "", "[{}]", "\U0001f600"]
ROWS = [{"text": t, "n": i} for i, t in enumerate(TEXTS * 3)]
JUNK = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"\n", b"\r\n", b":", b"\xff", b"\0"]
JUNK += [b"9" * 25, b"NaN", b"\\ud800", b"\xef\xbb\xbf"]


def whole_files(folder: Path) -> dict[str, bytes]:
    lines = files.jsonl(folder / "x.jsonl", ROWS).read_bytes()
    return {
        "x.jsonl": lines,
        "x.json": json.dumps(ROWS, indent=1).encode(),
        "x.csv": files.csv_file(folder / "x.csv", ROWS).read_bytes(),
        "x.jsonl.gz": gzip.compress(lines, mtime=0),
        "x.jsonl.zst": zstandard.ZstdCompressor(write_checksum=True).compress(lines),
        "x.parquet": files.table_file(folder / "x.parquet", ROWS).read_bytes(),
        "x.arrow": files.table_file(folder / "x.arrow", ROWS).read_bytes(),
    }


def damaged(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        data = rng.choice(
            [
                data[:at] + rng.choice(JUNK) + data[at:],
                data[:at] + data[at + rng.randint(1, 9) :],
                data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
                data[: max(at, 1)],
            ]
        )
    return data


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.jsonl.gz", "x.jsonl.zst"])
def test_damaged_text_files(tmp_path, name):
    data, rng = whole_files(tmp_path)[name], random.Random(name)
    path, rejects = tmp_path / name, tmp_path / "r.jsonl"
    opened = 0
    for _ in range(150):
        path.write_bytes(damaged(data, rng))
        try:
            pool = open_pool(path, rejects=rejects)
        except DataworthError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            continue
        opened += 1
        listed = files.rejects_of(rejects) if pool.rejects_path else []
        assert len(listed) == pool.rejected
        rows = [pool.columns(i) for i in range(len(pool))]
        assert all(isinstance(e.text, str) for e in pool.examples()) and len(set(pool.ids)) == len(rows)
        if name.startswith("x.jsonl"):
            unpack = {".gz": gzip.decompress, ".zst": unpack_zstd}.get(path.suffix, bytes)
            content = unpack(path.read_bytes())
            parts = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
            assert len(rows) + len(listed) == sum(bool(p.strip()) for p in parts)
    assert opened > 10 or name not in ("x.jsonl", "x.csv")


def unpack_zstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_damaged_tables(tmp_path, name):
    data, rng = whole_files(tmp_path)[name], random.Random(name)
    path = tmp_path / name
    for _ in range(100):
        path.write_bytes(damaged(data, rng))
        try:
            pool = open_pool(path)
        except DataworthError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            continue
        assert len([pool.columns(i) for i in range(len(pool))]) + pool.rejected == sum(f.rows for f in pool.files)


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_cut_tables(tmp_path, name):
    data = whole_files(tmp_path)[name]
    path = tmp_path / name
    for end in range(0, len(data) - 1, 37):
        path.write_bytes(data[:end])
        with pytest.raises(DataworthError, match=name) as caught:
            open_pool(path)
        assert "\n" not in str(caught.value)
