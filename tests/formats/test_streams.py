"""Compressed input: whole streams in blocks, broken ones named with the last good byte."""

import gzip
import hashlib
import random

import pytest
import zstandard

from dataworth.errors import FormatError
from dataworth.formats.streams import BLOCK, Source, compression_of

CONTENT = random.Random(0).randbytes(300_000) + b"line\n" * 600_000


def packed(suffix: str, content: bytes) -> bytes:
    if suffix == ".gz":
        return gzip.compress(content, 1)
    return zstandard.ZstdCompressor(write_checksum=True).compress(content) if suffix == ".zst" else content


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_blocks_give_the_content_and_the_hash_of_the_file(tmp_path, suffix):
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(packed(suffix, CONTENT))
    source = Source(path)
    assert b"".join(source.blocks()) == CONTENT
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.good == len(CONTENT)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_several_members_are_one_stream(tmp_path, suffix):
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(packed(suffix, b"one\n") + packed(suffix, b"two\n") + packed(suffix, b""))
    assert b"".join(Source(path).blocks()) == b"one\ntwo\n"


def test_gzip_may_end_in_zeros(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"one\n") + b"\0" * 600)
    assert b"".join(Source(path).blocks()) == b"one\n"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_truncation_names_file_and_last_good_byte(tmp_path, suffix, keep):
    path = tmp_path / f"x.jsonl{suffix}"
    whole = packed(suffix, CONTENT)
    path.write_bytes(whole[: int(len(whole) * keep)])
    source = Source(path)
    got = b""
    with pytest.raises(FormatError, match="breaks off") as caught:
        for block in source.blocks():
            got += block
    assert CONTENT.startswith(got)
    assert str(path) in str(caught.value) and f"last good byte {len(got):,}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_damage_is_an_error(tmp_path, suffix):
    path = tmp_path / f"x.jsonl{suffix}"
    whole = bytearray(packed(suffix, CONTENT))
    whole[5000:5100] = b"\xff" * 100
    path.write_bytes(bytes(whole))
    with pytest.raises(FormatError, match=r"damaged|breaks off"):
        list(Source(path).blocks())


def test_suffix_must_not_lie_but_may_be_missing(tmp_path):
    lie = tmp_path / "x.jsonl.gz"
    lie.write_bytes(b'{"a": 1}\n')
    with pytest.raises(FormatError, match=r"named \.gz"):
        compression_of(lie)
    bare = tmp_path / "x.jsonl"
    bare.write_bytes(gzip.compress(b"{}\n"))
    assert compression_of(bare) == "gz"
    assert b"".join(Source(bare).blocks()) == b"{}\n"


def test_a_bomb_comes_in_bounded_blocks(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b"0" * (64 << 20)))
    sizes = [len(b) for b in Source(path).blocks()]
    assert sum(sizes) == 64 << 20 and max(sizes) <= BLOCK + (8 << 10) * 1032
