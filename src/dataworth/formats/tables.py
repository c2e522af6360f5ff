"""Parquet and Arrow files: rows as columns with exact values, batches for writing, schema kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataworth.errors import FormatError
from dataworth.formats.exact import BadRowError

_ROWS_AT_ONCE = 1024
_BLOCK = 64
_ARROW_FILE = b"ARROW1"


class TableFile:
    """One Parquet or Arrow file, opened without reading its rows."""

    def __init__(self, path: Path, format: str) -> None:
        self.path = path
        self.format = format
        try:
            if format == "parquet":
                self._parquet = pq.ParquetFile(path.absolute())  # Arrow takes `a:b` for an address
                self.schema = self._parquet.schema_arrow
                groups = range(self._parquet.metadata.num_row_groups)
                self._sizes = [self._parquet.metadata.row_group(g).num_rows for g in groups]
            else:
                self._table = self._open_arrow()
                self.schema = self._table.schema
                self._sizes = [self._table.num_rows]
        except (pa.ArrowException, OSError) as error:
            raise self._broken(error) from None
        repeated = [n for n in self.schema.names if self.schema.names.count(n) > 1]
        if repeated:
            raise FormatError(f"{path}: two columns are named {repeated[0]!r}; expected distinct names; rename one")
        self._group: tuple[int, pa.Table] | None = None
        self._rows: tuple[int, list[dict[str, Any] | BadRowError]] | None = None

    def _open_arrow(self) -> pa.Table:
        with self.path.open("rb") as file:
            self.streamed = file.read(len(_ARROW_FILE)) != _ARROW_FILE
        mapped = pa.memory_map(str(self.path))
        reader = pa.ipc.open_stream(mapped) if self.streamed else pa.ipc.open_file(mapped)
        return reader.read_all()

    def _broken(self, error: BaseException) -> FormatError:
        size = self.path.stat().st_size
        what = "has no footer or is cut short" if self.format == "parquet" else "can't be read as Arrow"
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        return FormatError(
            f"{self.path} {what} ({size:,} bytes; {detail}); expected a whole {self.format} file; copy it again"
        )

    @property
    def codec(self) -> str:
        """Parquet compression of the first column chunk ("none" without rows)."""
        meta = self._parquet.metadata
        if not meta.num_row_groups or not meta.num_columns:
            return "none"
        codec = str(meta.row_group(0).column(0).compression).lower()
        return "none" if codec == "uncompressed" else codec

    def rows(self) -> Iterator[dict[str, Any] | BadRowError]:
        """Every row in order; a value Python can't hold (bad UTF-8, a date out of range) costs its row only.

        Raises:
            FormatError: A damaged page.
        """
        if self.format == "arrow":
            self._validate()
            batches = iter(self._table.to_batches(max_chunksize=_ROWS_AT_ONCE))
        else:
            batches = self._parquet.iter_batches(batch_size=_ROWS_AT_ONCE)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise self._broken(error) from None
            if batch is None:
                return
            yield from _rows_of(batch)

    def _validate(self) -> None:
        """Arrow trusts its buffers: a damaged offset would crash the process instead of raising."""
        try:
            self._table.validate(full=True)
        except pa.ArrowException as error:
            raise self._broken(error) from None

    def groups(self) -> Iterator[pa.Table]:
        """The file in the pieces it is stored in; memory holds one at a time."""
        for g in range(len(self._sizes)):
            yield self._read_group(g)

    def _read_group(self, g: int) -> pa.Table:
        if self.format == "arrow":
            return self._table
        if self._group is None or self._group[0] != g:
            try:
                self._group = (g, self._parquet.read_row_group(g))
            except (pa.ArrowException, OSError) as error:
                raise self._broken(error) from None
        return self._group[1]

    def row(self, number: int) -> dict[str, Any]:
        """One row by number; neighbours come cheaper."""
        block = number // _BLOCK
        if self._rows is None or self._rows[0] != block:
            first, last = block * _BLOCK, (block + 1) * _BLOCK
            self._rows = (block, [r for piece in self._slices(first, last) for r in _rows_of(piece)])
        row = self._rows[1][number % _BLOCK]
        if isinstance(row, BadRowError):
            raise FormatError(f"{self.path}, row {number}: {row}; this row is in no pool")
        return row

    def _slices(self, first: int, last: int) -> Iterator[pa.Table]:
        start = 0
        for g, size in enumerate(self._sizes):
            low, high = max(first, start), min(last, start + size)
            if low < high:
                yield self._read_group(g).slice(low - start, high - low)
            start += size


def _single(batch: pa.RecordBatch | pa.Table, i: int) -> dict[str, Any] | BadRowError:
    try:
        rows: list[dict[str, Any]] = batch.slice(i, 1).to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        return BadRowError(f"a value can't be read: {str(error).splitlines()[0]}")
    return rows[0]


def _rows_of(piece: pa.RecordBatch | pa.Table) -> list[dict[str, Any] | BadRowError]:
    try:
        return list(piece.to_pylist())
    except (ValueError, OverflowError, pa.ArrowException):
        return [_single(piece, i) for i in range(piece.num_rows)]
