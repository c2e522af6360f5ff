"""Writing picked rows in the user's own format: same schema and columns, and bytes where rows have any."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.formats.images import ImageFolder
from dataworth.formats.paths import FORMAT_OF, PACKED, format_of
from dataworth.formats.reader import FileReader
from dataworth.formats.table_formats import TABLES
from dataworth.formats.tables import TableFile
from dataworth.records import Pool

_SUFFIXES = {fmt: [s for s, f in FORMAT_OF.items() if f == fmt] for fmt in set(FORMAT_OF.values())}
_SUFFIXES["jsonl"].append(".json")


def write_subset(
    pool: Pool,
    positions: Sequence[int] | NDArray[np.integer[Any]],
    out: str | Path,
    *,
    copies: Sequence[int] | NDArray[np.integer[Any]] | None = None,
) -> list[Path]:
    """Write rows of a pool, in pool order, as their files hold them.

    One input file becomes one file, as do several files of JSON lines of one schema when `out` names a
    file; otherwise `out` is a folder with one file per input that has a picked row. JSON lines keep each
    row's bytes and line end (and a byte-order mark at the start), elements of a JSON array and CSV records
    their bytes, Parquet and Arrow their schema and values. `.gz` and `.zst` follow `out`; in a folder, the
    input. Files appear whole or not at all.

    Args:
        pool: The pool the positions count in.
        positions: Rows to keep, each once, in any order.
        out: The file or folder to write.
        copies: How often each row is written, one behind the other; once unless told.

    Returns:
        The files written.

    Raises:
        RequestError: Nothing to write, a position that isn't in the pool, a suffix of another format, or an
            input in the way.
        FormatError: An input changed since it was indexed.
    """
    chosen = _checked(pool, positions)
    if copies is not None:
        chosen = np.repeat(chosen, np.asarray(copies)[np.argsort(positions)])
    reader = _reader_of(pool)
    used = [int(f) for f in np.unique(pool.file_N[chosen])]
    targets = _targets(pool, used, Path(out))
    taken = {f.path.resolve() for f in pool.files}
    for target in targets:
        if target.resolve() in taken:
            raise RequestError(
                f"{target} is an input of this pool: expected another place to write to; change the output"
            )
    reader.verify(used)
    if used and pool.files[used[0]].format == "images" and _copied(pool, reader, chosen, targets):
        return list(targets)
    with all_or_nothing(targets) as aside:
        for target, files in targets.items():
            own = chosen[np.isin(pool.file_N[chosen], files)]
            _write_one(pool, reader, own, files, target, aside[target])
        reader.verify(used)
    return list(targets)


@contextmanager
def all_or_nothing(targets: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """Paths to write aside; they are moved into place if the block ends well, and removed in any case.

    Raises:
        RequestError: The system refused to write (no space, no permission).
    """
    aside = {target: target.with_name(f".{target.name}.{os.getpid()}.tmp") for target in targets}
    try:
        for target in aside:
            target.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        for target, temporary in aside.items():
            temporary.replace(target)
        for folder in {target.parent for target in aside}:
            _sync_folder(folder)
    except OSError as error:
        raise RequestError(
            f"{error.filename or ', '.join(map(str, aside))} can't be written ({error.strerror}); expected room and "
            "permission; the files already there were left; make room or choose another place"
        ) from error
    finally:
        for temporary in aside.values():
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            temporary.unlink(missing_ok=True)


def _checked(pool: Pool, positions: Sequence[int] | NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    chosen = np.unique(np.asarray(positions, dtype=np.int64))
    if len(chosen) != len(positions):
        raise RequestError(f"{len(positions)} positions name {len(chosen)} rows: expected each row once; use weights")
    if not len(chosen):
        raise RequestError("no row was picked: expected at least one; nothing was written")
    if chosen[0] < 0 or chosen[-1] >= len(pool):
        raise RequestError(
            f"positions {chosen[0]}..{chosen[-1]} reach outside the pool of {len(pool):,} rows; use its own positions"
        )
    return chosen


def _reader_of(pool: Pool) -> FileReader:
    if not isinstance(pool.reader, FileReader):
        raise RequestError("this pool has no files behind it: expected one from open_pool; write its rows yourself")
    return pool.reader


def _targets(pool: Pool, used: list[int], out: Path) -> dict[Path, list[int]]:
    """Output file -> the input files whose rows it holds."""
    fmt = format_of(out)
    formats = {pool.files[f].format for f in used}
    if formats == {"images"} and len(pool.files) == 1:
        if fmt is not None or out.is_file():
            raise RequestError(f"{out}: expected a new folder to copy the kept images to; choose another output")
        return {out: used}
    schemas = {pool.files[f].schema for f in used}
    if fmt is not None and (len(pool.files) == 1 or (formats == {"jsonl"} and len(schemas) == 1)):
        _check_suffix(out, pool.files[used[0]].format)
        return {out: used}
    if fmt is not None:
        mixed = ", ".join(sorted(formats | schemas))
        raise RequestError(
            f"{out} names one file but the pool has {len(pool.files)} ({mixed}): expected a folder; "
            f"drop the suffix {out.suffix!r}"
        )
    if out.is_file() or (out.suffix and len(pool.files) == 1):
        raise RequestError(
            f"{out} names no known format: expected {_endings(pool.files[used[0]].format)}; rename the output"
        )
    names = _names([pool.files[f].path for f in used])
    return {out / name: [f] for name, f in zip(names, used, strict=True)}


def _copied(pool: Pool, reader: FileReader, chosen: NDArray[np.int64], targets: dict[Path, list[int]]) -> bool:
    """Whether folders of images hold what is to be written already; nothing else may stand in the way.

    Raises:
        RequestError: One holds something else.
    """
    there = [target for target in targets if target.is_dir() and any(target.iterdir())]
    for target in there:
        file = targets[target][0]
        folder, rows = reader.table(file), pool.offset_N[chosen[pool.file_N[chosen] == file]]
        if not isinstance(folder, ImageFolder) or not folder.copied_to(rows, target):
            raise RequestError(f"{target}: expected a new folder to copy the kept images to; choose another output")
    return bool(there) and len(there) == len(targets)


def _check_suffix(out: Path, fmt: str) -> None:
    packed = out.suffix.lower() in PACKED
    inner = Path(out.stem).suffix.lower() if packed else out.suffix.lower()
    if inner not in _SUFFIXES[fmt] or (packed and fmt in TABLES):
        raise RequestError(f"{out} can't hold {fmt} rows unchanged: expected {_endings(fmt)}; rename the output")


def _endings(fmt: str) -> str:
    return "a name ending in " + " or ".join(_SUFFIXES[fmt]) if fmt in _SUFFIXES else "a new folder"


def _names(paths: Sequence[Path]) -> list[str]:
    """File names for a folder: the inputs' own, where they collide with folder names or numbers before them."""
    names = [p.name for p in paths]
    longer = [f"{p.resolve().parent.name}-{p.name}" if names.count(p.name) > 1 else p.name for p in paths]
    return [f"{i + 1}-{n}" if longer.count(n) > 1 else n for i, n in enumerate(longer)]


def _write_one(
    pool: Pool, reader: FileReader, chosen: NDArray[np.int64], files: list[int], target: Path, aside: Path
) -> None:
    fmt = pool.files[files[0]].format
    if fmt in TABLES:
        table = reader.table(files[0])
        if isinstance(table, TableFile):
            _write_table(table, pool.offset_N[chosen], aside)
        else:
            table.write(pool.offset_N[chosen], aside)
        return
    with _packed(aside, target.suffix.lower()) as write:
        if fmt == "json":
            _write_array(pool, reader, chosen, files[0], write)
        else:
            _write_rows(pool, reader, chosen, files, write)


def _write_rows(
    pool: Pool, reader: FileReader, chosen: NDArray[np.int64], files: list[int], write: Callable[[bytes], Any]
) -> None:
    write(reader.readings[files[0]].prefix)
    last = b"\n"
    for i in chosen:
        # The last line of an earlier file may have no line end of its own.
        if not last.endswith(b"\n"):
            write(b"\n")
        last = pool.raw(int(i))
        write(last)


def _write_array(
    pool: Pool, reader: FileReader, chosen: NDArray[np.int64], file: int, write: Callable[[bytes], Any]
) -> None:
    write(reader.readings[file].prefix + b"[\n")
    for n, i in enumerate(chosen):
        write((b",\n" if n else b"") + pool.raw(int(i)))
    write(b"\n]\n")


def _write_table(table: TableFile, rows: NDArray[np.int64], aside: Path) -> None:
    with aside.open("wb") as sink:
        if table.format == "parquet":
            writer: Any = pq.ParquetWriter(sink, table.schema, compression=table.codec)
        else:
            writer = (pa.ipc.new_stream if table.streamed else pa.ipc.new_file)(sink, table.schema)
        with writer:
            for piece in _picked_pieces(table.groups(), rows):
                writer.write_table(piece)
        if not sink.closed:
            _sync(sink)


def _picked_pieces(groups: Iterator[pa.Table], rows: NDArray[np.int64]) -> Iterator[pa.Table]:
    start = 0
    for group in groups:
        low, high = np.searchsorted(rows, [start, start + group.num_rows])
        if low < high:
            yield _taken(group, rows[low:high] - start)
        start += group.num_rows


def _taken(group: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    try:
        return group.take(pa.array(rows))
    except pa.ArrowNotImplementedError:  # views, which Polars writes, can be cut but not taken from
        return pa.concat_tables(group.slice(int(i), 1) for i in rows).combine_chunks()


@contextmanager
def _packed(path: Path, suffix: str) -> Iterator[Callable[[bytes], Any]]:
    """A writer into `path`, compressed as the suffix says whatever the clock; on disk when it closes."""
    with path.open("wb") as file:
        if suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                yield packed.write
        elif suffix == ".zst":
            with zstandard.ZstdCompressor(write_checksum=True).stream_writer(file, closefd=False) as packed:
                yield packed.write
        else:
            yield file.write
        _sync(file)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make renames in a folder last through a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
