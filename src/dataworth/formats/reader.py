"""Reading rows back from their files, one by one, wherever they stand."""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dataworth.errors import FormatError
from dataworth.formats.csv_records import parse_record
from dataworth.formats.exact import BadRowError, read_again, table_canonical
from dataworth.formats.mapping import mapped
from dataworth.formats.schemas.base import Schema
from dataworth.formats.streams import Source, readable
from dataworth.formats.table_formats import TABLES, Table, open_table, sha256_of, stamp_of
from dataworth.records import Example, PoolFile

_OPEN_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Reading:
    """How one file's rows are read: its schema, CSV header, and what stands before its first row (BOM, header)."""

    schema: Schema
    header: tuple[str, ...]
    prefix: bytes


class FileReader:
    """Random access to the rows of a pool (the `RowReader` of `records`).

    Plain files are read in place. A compressed file is unpacked once, on first access, into an unnamed
    temporary file, so any order of access costs one pass. A file is checked against its size, time and hash
    whenever it is opened.
    """

    def __init__(self, files: Sequence[PoolFile], readings: Sequence[Reading]) -> None:
        self.files = tuple(files)
        self.readings = tuple(readings)
        self._handles: OrderedDict[int, Any] = OrderedDict()
        self._spool: Any = None
        self._spooled: dict[int, int] = {}

    def raw(self, file: int, offset: int, length: int) -> bytes:
        """The row's own bytes, line end included; canonical JSON for a table's row.

        Raises:
            FormatError: The file changed since it was indexed.
        """
        if self.files[file].format in TABLES:
            return table_canonical(self.table(file).row(offset))
        if self.files[file].compression:
            return self._read(self._unpacked(), self._spool_start(file) + offset, length, file)
        return self._read(self._plain(file), offset, length, file)

    def columns(self, file: int, offset: int, length: int) -> dict[str, Any]:
        """The row's columns with exact values."""
        if self.files[file].format in TABLES:
            return self.table(file).row(offset)
        raw, reading = self.raw(file, offset, length), self.readings[file]
        try:
            if self.files[file].format == "csv":
                return dict(parse_record(raw, reading.header))
            return read_again(raw)
        except BadRowError:
            raise self._changed(self.files[file]) from None

    def example(self, file: int, offset: int, length: int, row_id: str) -> Example:
        """The row normalised by its file's schema and mapping."""
        columns = self.columns(file, offset, length)
        schema, mapping = self.readings[file].schema, self.files[file].mapping
        view = mapped(dict(mapping), columns) if mapping else columns
        choices, gold = schema.choices(view)
        return Example(
            row_id,
            schema.kind,
            schema.name,
            schema.turns(view),
            schema.text(view),
            choices,
            gold,
            schema.label(view),
            schema.content(view),
        )

    def table(self, file: int) -> Table:
        """The open file of a format that holds rows as columns."""
        table: Table = self._handle(file, lambda f: open_table(f.path, f.format))
        return table

    def verify(self, files: Sequence[int] | None = None) -> None:
        """Check files against what was indexed.

        Raises:
            FormatError: One of them changed; its name is in the message.
        """
        for file in range(len(self.files)) if files is None else files:
            self._check(self.files[file])

    def _check(self, file: PoolFile) -> None:
        try:
            size, mtime_ns = stamp_of(file.path)
        except OSError:
            raise FormatError(f"{file.path} is gone since it was indexed; put it back or start anew") from None
        if size == file.size and mtime_ns == file.mtime_ns:
            return
        if size != file.size or sha256_of(file.path) != file.sha256:
            raise self._changed(file)

    @staticmethod
    def _changed(file: PoolFile) -> FormatError:
        return FormatError(f"{file.path} changed since it was indexed (size, time or content); run the command anew")

    def _plain(self, file: int) -> Any:
        return self._handle(file, lambda f: f.path.open("rb"))

    def _handle(self, file: int, opener: Any) -> Any:
        if file in self._handles:
            self._handles.move_to_end(file)
            return self._handles[file]
        self._check(self.files[file])
        with readable(self.files[file].path):
            self._handles[file] = opener(self.files[file])
        if len(self._handles) > _OPEN_AT_ONCE:
            _, old = self._handles.popitem(last=False)
            if hasattr(old, "close"):
                old.close()
        return self._handles[file]

    def _unpacked(self) -> Any:
        if self._spool is None:
            self._spool = tempfile.TemporaryFile()
        return self._spool

    def _spool_start(self, file: int) -> int:
        if file not in self._spooled:
            spec = self.files[file]
            self._check(spec)
            source = Source(spec.path)
            start = self._spool.seek(0, os.SEEK_END)
            with readable(spec.path):
                for block in source.blocks():
                    self._spool.write(block)
                self._spool.flush()
            if source.sha256 != spec.sha256:
                raise self._changed(spec)
            self._spooled[file] = start
        return self._spooled[file]

    def _read(self, handle: Any, offset: int, length: int, file: int) -> bytes:
        raw = os.pread(handle.fileno(), length, offset)
        if len(raw) != length:
            raise self._changed(self.files[file])
        return raw
