"""Opening a pool: files -> an index of rows with ids, in one pass."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import FormatError
from dataworth.formats.exact import BadRowError, DuplicateKeys
from dataworth.formats.mapping import check_columns, check_roles, mapped, read_by
from dataworth.formats.paths import find_files, source_names
from dataworth.formats.reader import FileReader, Reading
from dataworth.formats.rejects import Rejects
from dataworth.formats.rows import InputFile, Row
from dataworth.formats.schemas import Schema, Task, choose, implied, order_for, text
from dataworth.formats.schemas.base import Columns
from dataworth.formats.streams import readable
from dataworth.formats.table_formats import stamp_of
from dataworth.records import Pool, PoolFile, digest_of

MAX_ROW_BYTES = 64 << 20
_FIRST_ROWS = 100


def open_pool(
    paths: str | Path | Sequence[str | Path],
    *,
    mapping: Mapping[str, str] | None = None,
    duplicate_keys: DuplicateKeys = "reject",
    max_row_bytes: int = MAX_ROW_BYTES,
    rejects: Path | None = None,
    task: Task | None = None,
) -> Pool:
    """Index files as one pool.

    A row's source is its `source` column where that is a string, else its file's stem (with the folder's
    name before it where two files share a stem).

    Args:
        paths: Files, globs, folders or saved `datasets` folders: .jsonl .json .csv .parquet .arrow, text
            formats also .gz or .zst; .npz, and folders of images by class.
        mapping: Role -> column expression (see `mapping`), instead of detection by column names.
        duplicate_keys: `reject` rows that name a key twice in one object, or keep the `last` value.
        max_row_bytes: Longer rows are rejected without being held in memory.
        rejects: Where `rejected.jsonl` is written if any row is rejected; without it they are only counted.
        task: `sft` or `rl`, for rows that could serve as either (`question`+`answer` is sft by default);
            `classify` for texts with a label (images and vectors with one tell it themselves).

    Returns:
        The pool, in the order of files and rows.

    Raises:
        RequestError: A path or column that isn't there.
        FormatError: A file that isn't what it claims to be, an unknown schema, or no readable row at all.
    """
    mapping = dict(mapping or {})
    check_roles(mapping)
    files = find_files(paths)
    noted = Rejects(rejects)
    index = _Index(mapping, task, noted)
    done = False
    try:
        for path, source in zip(files, source_names(files), strict=True):
            with readable(path):
                index.add_file(InputFile(path, duplicate_keys, max_row_bytes), source)
        done = True
    finally:
        written = noted.close(keep=done)
    if not index.offset:
        shown = ", ".join(map(str, files[:3])) + (", ..." if len(files) > 3 else "")
        why = f"{noted.count:,} rejected, the first at {noted.first}" if noted.count else "empty"
        raise FormatError(f"{shown}: no readable row ({why}); expected at least one; name another pool or repair it")
    return index.pool(noted.count, written)


class _Index:
    """Growing arrays over the rows read so far."""

    def __init__(self, mapping: dict[str, str], task: Task | None, rejects: Rejects) -> None:
        self.source_column = mapping.get("source", "source")
        self.mapping = {role: column for role, column in mapping.items() if role != "source"}
        self.asked = mapping
        self.order = order_for(task)
        self.rejects = rejects
        self.files: list[PoolFile] = []
        self.readings: list[Reading] = []
        self.sources: dict[str, int] = {}
        self.digest = bytearray()
        self.offset, self.length = array("q"), array("q")
        self.file, self.source = array("i"), array("i")

    def add_file(self, file: InputFile, source: str) -> None:
        """Index one file: its first rows decide the schema, every row is then held to it."""
        before = stamp_of(file.path)
        known = len(self.offset)
        rows = file.rows()
        first = _first_readable(rows)
        views = self._views(file.path, first)
        schema = choose(views, self.order, file.path) if views else text.SCHEMA  # no rows, nothing to hold them to
        self._add_rows(chain(first, rows), schema, file.path, source)
        size, mtime_ns = stamp_of(file.path)
        if before != (size, mtime_ns):
            raise FormatError(f"{file.path} changed while it was read; wait until it is whole and run the command anew")
        self.files.append(
            PoolFile(
                path=file.path,
                format=file.format,
                compression=file.compression,
                schema=schema.name,
                kind=schema.kind,
                mapping=tuple(self.mapping.items()),
                rows=len(self.offset) - known,
                size=size,
                mtime_ns=mtime_ns,
                sha256=file.sha256,
                implied=all(implied(view) in (schema.name, None) for view in views),
                unread=() if file.format == "images" else self._unread(first, schema),
            )
        )
        self.readings.append(Reading(schema, file.header, file.prefix))

    def _views(self, path: Path, first: list[Row]) -> list[Columns]:
        """What decides the schema: the first rows as mapped; one without columns where none can be."""
        readable = [row.columns for row in first if not row.reason]
        if readable:
            check_columns(self.asked, readable, path)
        if not self.mapping or not readable:
            return list(readable)
        return [v for v in map(self._view_or_none, readable) if v is not None] or [{}]

    def _unread(self, first: list[Row], schema: Schema) -> tuple[str, ...]:
        """Columns of the first rows that are neither the schema's nor the mapping's."""
        found = dict.fromkeys(name for row in first for name in row.columns)
        by_name = () if self.mapping else schema.roles
        read = {"source", *by_name, *read_by(self.asked, found)}
        return tuple(name for name in found if name not in read)

    def _view_or_none(self, columns: dict[str, object]) -> dict[str, object] | None:
        try:
            return mapped(self.mapping, columns)
        except BadRowError:
            return None

    def _add_rows(self, rows: Iterator[Row], schema: Schema, path: Path, default_source: str) -> None:
        number_of_file = len(self.files)
        for row in rows:
            reason = row.reason or self._objection(row.columns, schema)
            if reason:
                self.rejects.add(path, row.number, row.offset, reason, row.raw or row.canonical)
                continue
            name = self._source(row.columns) or default_source
            self.digest += digest_of(row.canonical)
            self.offset.append(row.offset)
            self.length.append(row.length)
            self.file.append(number_of_file)
            self.source.append(self.sources.setdefault(name, len(self.sources)))

    def _source(self, columns: dict[str, object]) -> str | None:
        """The row's own source: a string under `source`, or whatever word or number `--map source=` names."""
        if "source" not in self.asked:
            found = columns.get("source")
            return found if type(found) is str else None
        found = mapped({"source": self.source_column}, columns).get("source")
        return str(found) if type(found) in (str, int) else None

    def _objection(self, columns: dict[str, object], schema: Schema) -> str | None:
        if not self.asked:
            return schema.problem(columns)
        try:
            self._source(columns)
            return schema.problem(mapped(self.mapping, columns) if self.mapping else columns)
        except BadRowError as error:
            return str(error)

    def pool(self, rejected: int, rejects_path: Path | None) -> Pool:
        digest_N16 = np.frombuffer(bytes(self.digest), dtype=np.uint8).reshape(-1, 16)
        return Pool(
            files=tuple(self.files),
            sources=tuple(self.sources),
            digest_N16=digest_N16,
            copy_N=copy_numbers(digest_N16),
            file_N=np.array(self.file, dtype=np.int32),
            offset_N=np.array(self.offset, dtype=np.int64),
            length_N=np.array(self.length, dtype=np.int64),
            source_N=np.array(self.source, dtype=np.int32),
            reader=FileReader(self.files, self.readings),
            rejected=rejected,
            rejects_path=rejects_path,
        )


def _first_readable(rows: Iterator[Row]) -> list[Row]:
    """Rows up to and with the hundredth readable one; fewer if they are large or nearly all broken."""
    first: list[Row] = []
    readable = size = 0
    for row in rows:
        first.append(row)
        readable += not row.reason
        size += len(row.raw)
        if readable == _FIRST_ROWS or len(first) == 100 * _FIRST_ROWS or size > MAX_ROW_BYTES:
            break
    return first


def copy_numbers(digest_N16: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """For each row, how many identical rows stand before it."""
    rows = len(digest_N16)
    high, low = np.ascontiguousarray(digest_N16).view(np.uint64).reshape(rows, 2).T
    order = np.lexsort((low, high))  # stable: equal rows stay in pool order
    new = np.ones(rows, dtype=bool)
    new[1:] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    place = np.arange(rows)
    group_start = np.maximum.accumulate(np.where(new, place, 0))
    copy_N = np.empty(rows, dtype=np.uint32)
    copy_N[order] = place - group_start
    return copy_N


def no_rows() -> Pool:
    """A pool without files: the steer rows of a goal that only judges."""
    return _Index({}, None, Rejects(None)).pool(0, None)


def take_rows(pool: Pool, at: slice | NDArray[np.int64]) -> Pool:
    """Some readable rows as a pool of their own, copies numbered anew."""
    digest_N16, file_N = pool.digest_N16[at], pool.file_N[at]
    rows = np.bincount(file_N, minlength=len(pool.files))
    return dataclasses.replace(
        pool,
        files=tuple(dataclasses.replace(f, rows=int(n)) for f, n in zip(pool.files, rows, strict=True)),
        digest_N16=digest_N16,
        copy_N=copy_numbers(digest_N16),
        file_N=file_N,
        offset_N=pool.offset_N[at],
        length_N=pool.length_N[at],
        source_N=pool.source_N[at],
    )


def first_positions(pool: Pool, n: int) -> list[int]:
    """The first row of each file, then further rows from the start, `n` in all, in pool order."""
    starts = np.flatnonzero(np.diff(pool.file_N, prepend=-1))
    chosen = dict.fromkeys([*starts.tolist()[:n], *range(min(n, len(pool)))])
    return sorted(islice(chosen, n))
