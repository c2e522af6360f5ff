"""CSV records with their own bytes: RFC 4180 quotes, comma, header first, every value a string."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Generator, Iterator

from dataworth.formats.exact import BadRowError
from dataworth.formats.spans import CUT, Span, line_spans

csv.field_size_limit(1 << 30)

# A quote opens a field only at the field's start; anywhere else in an unquoted field it is text (5" pipe).
_INSIDE = re.compile(rb'[^"]*(?:""[^"]*)*')
_OPENING = re.compile(rb'(?:^|,)"[^"]*(?:""[^"]*)*("?)')


def record_spans(blocks: Iterator[bytes], offset: int, max_bytes: int) -> Iterator[Span]:
    """Records, the header among them; a quoted field may hold line ends.

    A quote that is never closed costs the line that opens it, not the rest of the file.
    """
    pending: list[Span] = []
    still_open, size = False, 0
    for span in line_spans(blocks, offset, max_bytes, blank_lines=True):
        _, _, raw, reason = span
        if reason:
            while pending:
                pending = yield from _give_up(pending)
            yield span
            still_open, size = False, 0
            continue
        pending.append(span)
        still_open = _open_after(raw, still_open)
        size += len(raw)
        if not still_open:
            yield from _record(pending)
            pending, size = [], 0
        elif size > max_bytes:
            pending = yield from _give_up(pending)
            still_open, size = bool(pending), sum(len(s[2]) for s in pending)
    while pending:
        pending = yield from _give_up(pending)


def _open_after(line: bytes, still_open: bool) -> bool:
    """Whether a quoted field goes on after `line`."""
    if b'"' not in line:
        return still_open
    at = 0
    if still_open:
        inside = _INSIDE.match(line)
        at = inside.end() + 1 if inside else 0
        if at > len(line):
            return True
    return any(not found[1] for found in _OPENING.finditer(line, at))


def _record(lines: list[Span]) -> Iterator[Span]:
    number, offset, _, _ = lines[0]
    raw = b"".join(s[2] for s in lines)
    if not raw.isspace():
        yield number, offset, raw, ""


def _give_up(lines: list[Span]) -> Generator[Span, None, list[Span]]:
    """Reject the first of `lines`, whose quote stays open; read the others anew; return what is still open."""
    number, offset, raw, _ = lines[0]
    yield number, offset, raw[:CUT], "a quote is opened and never closed"
    pending: list[Span] = []
    still_open = False
    for span in lines[1:]:
        pending.append(span)
        still_open = _open_after(span[2], still_open)
        if not still_open:
            yield from _record(pending)
            pending = []
    return pending


def parse_record(raw: bytes, header: tuple[str, ...] | None) -> dict[str, str]:
    """One record as column -> string; with no header, position -> string.

    Raises:
        BadRowError: Not UTF-8, not CSV, or another number of fields than the header.
    """
    try:
        text = raw.decode("utf-8")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise BadRowError(f"not UTF-8: byte 0x{raw[error.start]:02x} at byte {error.start} of the row") from None
    except csv.Error as error:
        raise BadRowError(f"not CSV: {error}") from None
    if len(rows) != 1:
        raise BadRowError(f"{len(rows)} records where one was expected (a bare carriage return?)")
    names = header if header is not None else tuple(str(i) for i in range(len(rows[0])))
    if len(rows[0]) != len(names):
        raise BadRowError(f"{len(rows[0])} fields where the header has {len(names)}")
    return dict(zip(names, rows[0], strict=True))
