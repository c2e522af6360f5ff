"""Bytes of an input file, decompressed in blocks, with the sha256 of the file taken in the same pass."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zstandard

from dataworth.errors import FormatError

BLOCK = 1 << 20
# Compressed bytes handed to a decompressor at once: small, so that a bomb expands in bounded steps.
_FEED = 8 << 10
_MAGIC = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5\x2f\xfd"}


def compression_of(path: Path) -> str:
    """`gz`, `zst` or "" by the file's first bytes.

    Raises:
        FormatError: The suffix promises a compression the bytes don't have.
    """
    with path.open("rb") as file:
        head = file.read(4)
    found = next((name for name, magic in _MAGIC.items() if head.startswith(magic)), "")
    promised = path.suffix.lstrip(".").lower()
    if promised in ("gz", "zst") and found != promised and path.stat().st_size:
        raise FormatError(
            f"{path} is named .{promised} but isn't compressed so: expected a .{promised} stream; rename it"
        )
    return found


class Source:
    """One input file as a stream of decompressed blocks.

    After `blocks()` is exhausted `sha256` holds the hash of the file as stored, and `good` the decompressed
    bytes seen.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.compression = compression_of(path)
        self.good = 0
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hex sha256 of what was read so far; of the whole file once the blocks are exhausted."""
        return self._hash.hexdigest()

    def blocks(self) -> Iterator[bytes]:
        """Decompressed blocks of about 1 MiB.

        Raises:
            FormatError: The compressed stream breaks off or is damaged.
        """
        with self.path.open("rb") as file:
            stored = self._stored(file)
            for block in self._decompressed(stored) if self.compression else stored:
                self.good += len(block)
                yield block

    def _stored(self, file: Any) -> Iterator[bytes]:
        while block := file.read(BLOCK):
            self._hash.update(block)
            yield block

    def _decompressed(self, stored: Iterator[bytes]) -> Iterator[bytes]:
        """Decompressed pieces gathered into blocks; what came before a break is given out before the error."""
        gathered: list[bytes] = []
        size = 0
        broken: FormatError | None = None
        try:
            for piece in self._pieces(stored):
                gathered.append(piece)
                size += len(piece)
                if size >= BLOCK:
                    yield b"".join(gathered)
                    gathered, size = [], 0
        except FormatError as error:
            broken = error
        if size:
            yield b"".join(gathered)
        if broken is not None:
            raise self._broken(str(broken))

    def _pieces(self, stored: Iterator[bytes]) -> Iterator[bytes]:
        """Members of a gzip or frames of a zstd file, one after another."""
        decoder = self._decoder()
        started = False
        for feed in (block[i : i + _FEED] for block in stored for i in range(0, len(block), _FEED)):
            rest = feed
            while rest:
                if decoder.eof:
                    if self.compression == "gz" and not rest.strip(b"\0"):
                        break  # tapes and tars pad with zeros
                    decoder = self._decoder()
                try:
                    yield decoder.decompress(rest)
                except (zlib.error, zstandard.ZstdError) as error:
                    raise FormatError(f"is damaged ({error})") from None
                started = True
                rest = decoder.unused_data if decoder.eof else b""
        if started and not decoder.eof:
            raise FormatError("breaks off before its end")

    def _decoder(self) -> Any:
        if self.compression == "gz":
            return zlib.decompressobj(wbits=31)
        return zstandard.ZstdDecompressor().decompressobj()

    def _broken(self, what: str) -> FormatError:
        return FormatError(
            f"{self.path} {what}: expected a whole .{self.compression} stream, last good byte {self.good:,} of its "
            f"decompressed content; copy the file again"
        )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the system's refusals (permission, I/O error) into one-line errors that name the file.

    Raises:
        FormatError: The file, or one that depends on it, can't be opened or read.
    """
    try:
        yield
    except OSError as error:
        raise FormatError(
            f"{error.filename or path} can't be used ({error.strerror}); expected a readable file; mend it"
        ) from error


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
