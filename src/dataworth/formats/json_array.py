"""Elements of a top-level JSON array, found by counting brackets outside strings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dataworth.errors import FormatError
from dataworth.formats.spans import CUT, Span, too_long

# A whole string, a quote whose string isn't whole yet, or a mark that structures.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
_OPEN, _CLOSE = (b"[", b"{"), (b"]", b"}")


class ArrayScanner:
    """One pass over an array; a broken element costs only itself while its brackets and quotes pair up."""

    def __init__(self, path: Path, offset: int, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._buffer = b""
        self._base = offset  # stream offset of the buffer's first byte
        self._start = 0  # buffer position where the element in progress begins
        self._at = 0  # buffer position up to which tokens were read
        self._depth = 0
        self._number = 0
        self._cut = b""  # first bytes of an element that is too long
        self._closed = False

    def spans(self, blocks: Iterator[bytes]) -> Iterator[Span]:
        """The elements in order, numbered from 1, without the white space around them.

        Raises:
            FormatError: The array isn't closed, or something follows it.
        """
        for block in blocks:
            self._buffer += block
            yield from self._scan()
            self._shrink()
        if not self._closed:
            raise self._broken("the array is not closed by ]")

    def _scan(self) -> Iterator[Span]:
        for token in _TOKEN.finditer(self._buffer, self._at):
            mark = token.group()
            if mark == b'"':
                return
            if self._closed:
                raise self._broken("something follows the closing ]")
            self._at = token.end()
            if mark in _OPEN:
                self._depth += 1
                if self._depth == 1:
                    self._start = self._at
            elif self._depth == 1 and (mark == b"," or mark in _CLOSE):
                yield from self._element(token.start(), last=mark != b",")
                self._start = self._at
                self._closed = mark != b","
            elif mark in _CLOSE:
                self._depth -= 1
        self._at = len(self._buffer)
        if self._closed and self._buffer[self._start :].strip():
            raise self._broken("something follows the closing ]")

    def _element(self, end: int, *, last: bool) -> Iterator[Span]:
        raw = self._buffer[self._start : end]
        lead = len(raw) - len(raw.lstrip())
        raw = raw.strip()
        if last and not raw and not self._cut and not self._number:
            return
        self._number += 1
        offset = self._base + self._start + lead
        if self._cut or len(raw) > self.max_bytes:
            yield self._number, offset, self._cut or raw[:CUT], too_long(self.max_bytes)
        else:
            yield self._number, offset, raw, "" if raw else "an empty element between two commas"
        self._cut = b""

    def _shrink(self) -> None:
        """Forget what was read: whole elements, and the inside of an element that is too long."""
        if self._cut or len(self._buffer) - self._start > self.max_bytes:
            self._cut = self._cut or self._buffer[self._start : self._start + CUT].lstrip()
            self._drop(self._at)
            if self._buffer[:1] == b'"':
                # Inside a string: keep its quote, and a backslash that may escape the next byte.
                backslashes = len(self._buffer) - len(self._buffer.rstrip(b"\\"))
                kept = b'"' + b"\\" * (backslashes % 2)
                self._base += len(self._buffer) - len(kept)
                self._buffer = kept
        else:
            self._drop(self._start)

    def _drop(self, count: int) -> None:
        self._buffer = self._buffer[count:]
        self._base += count
        self._at -= count
        self._start = max(0, self._start - count)

    def _broken(self, what: str) -> FormatError:
        good = self._base + self._start
        return FormatError(
            f"{self.path}: {what} (element {self._number + 1}, last good byte {good:,}); expected one JSON array "
            f"or one object per line; repair the file"
        )
