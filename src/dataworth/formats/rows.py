"""One input file as a stream of rows, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from dataworth.errors import FormatError
from dataworth.formats.csv_records import parse_record, record_spans
from dataworth.formats.exact import BadRowError, DuplicateKeys, parse_row, table_canonical
from dataworth.formats.json_array import ArrayScanner
from dataworth.formats.paths import format_of
from dataworth.formats.spans import BOM, line_spans, without_bom
from dataworth.formats.streams import Source, compression_of
from dataworth.formats.table_formats import TABLES, open_table, sha256_of


class Row(NamedTuple):
    """One row as read: `reason` is "" for a readable one, whose `columns` and `canonical` JSON are then set.

    `number` is the 1-based line, element or row; `offset` and `length` are bytes in the decompressed stream
    (row number and 0 in tables).
    """

    number: int
    offset: int
    length: int
    raw: bytes
    columns: dict[str, Any]
    canonical: bytes
    reason: str


class InputFile:
    """One file of a pool while it is being indexed.

    `format` is final once constructed; `sha256` once `rows()` is exhausted; `prefix` (byte-order mark, CSV
    header line) and `header` once its first row was read.
    """

    def __init__(self, path: Path, duplicate_keys: DuplicateKeys, max_row_bytes: int) -> None:
        self.path = path
        self.duplicate_keys: DuplicateKeys = duplicate_keys
        self.max_row_bytes = max_row_bytes
        self.format = "images" if path.is_dir() else format_of(path) or "jsonl"
        self.compression = compression_of(path) if self.format not in TABLES else ""
        self.prefix = b""
        self.header: tuple[str, ...] = ()
        self.sha256 = ""
        if self.format in TABLES and path.suffix.lower() in (".gz", ".zst"):
            raise FormatError(f"{path}: a compressed {self.format} file can't be read in place; unpack it first")

    def rows(self) -> Iterator[Row]:
        """Every row, readable or not.

        Raises:
            FormatError: The container itself is broken (compressed stream, array, table file).
        """
        if self.format in TABLES:
            yield from self._table_rows()
            return
        source = Source(self.path)
        blocks = source.blocks()
        first = next(blocks, b"")
        while 0 < len(first) < len(BOM) and (more := next(blocks, b"")):
            first += more
        self.prefix = BOM if first.startswith(BOM) else b""
        blocks = without_bom(chain([first], blocks) if first else iter(()))
        if self.format == "json" and not first[len(self.prefix) :].lstrip().startswith(b"["):
            self.format = "jsonl"
        yield from self._csv_rows(blocks) if self.format == "csv" else self._json_rows(blocks)
        self.sha256 = source.sha256

    def _json_rows(self, blocks: Iterator[bytes]) -> Iterator[Row]:
        offset = len(self.prefix)
        if self.format == "json":
            spans = ArrayScanner(self.path, offset, self.max_row_bytes).spans(blocks)
        else:
            spans = line_spans(blocks, offset, self.max_row_bytes)
        for number, at, raw, reason in spans:
            columns: dict[str, Any] = {}
            canonical = b""
            if not reason:
                try:
                    columns, canonical = parse_row(raw, self.duplicate_keys)
                except BadRowError as error:
                    reason = str(error)
            yield Row(number, at, len(raw), raw, columns, canonical, reason)

    def _csv_rows(self, blocks: Iterator[bytes]) -> Iterator[Row]:
        for number, at, raw, reason in record_spans(blocks, len(self.prefix), self.max_row_bytes):
            if not self.header:
                self._read_header(raw, reason)
                continue
            columns: dict[str, Any] = {}
            canonical = b""
            if not reason:
                try:
                    columns = dict(parse_record(raw, self.header))
                    canonical = table_canonical(columns)
                except BadRowError as error:
                    reason = str(error)
            yield Row(number, at, len(raw), raw, columns, canonical, reason)

    def _read_header(self, raw: bytes, reason: str) -> None:
        try:
            if reason:
                raise BadRowError(reason)
            names = tuple(parse_record(raw, None).values())
        except BadRowError as error:
            raise FormatError(f"{self.path}: the header can't be read ({error}); expected column names first") from None
        repeated = {n for n in names if names.count(n) > 1}
        if repeated:
            raise FormatError(f"{self.path}: the header names {sorted(repeated)[0]!r} twice; rename one column")
        self.header = names
        self.prefix += raw

    def _table_rows(self) -> Iterator[Row]:
        self.sha256 = sha256_of(self.path)
        for number, row in enumerate(open_table(self.path, self.format).rows()):
            if isinstance(row, BadRowError):
                yield Row(number + 1, number, 0, b"", {}, b"", str(row))
                continue
            try:
                yield Row(number + 1, number, 0, b"", row, table_canonical(row), "")
            except (TypeError, RecursionError) as error:
                yield Row(number + 1, number, 0, b"", {}, b"", f"a value has no JSON form: {error}")
