"""Where each row stands: byte spans of lines in a stream of blocks.

A span is `(number, offset, raw, reason)`: 1-based line (array: element), byte offset in the decompressed
stream, the row's bytes with its own line end, and why it can't be read ("" if it may). The bytes of a row
that is too long are cut, never held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

Span = tuple[int, int, bytes, str]

BOM = b"\xef\xbb\xbf"
CUT = 500


def without_bom(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks with a byte-order mark at the very start left out; offsets must then begin at 3."""
    head = b""
    for block in blocks:
        head += block
        if len(head) >= len(BOM):
            break
    if head := head.removeprefix(BOM):
        yield head
    yield from blocks


def line_spans(blocks: Iterator[bytes], offset: int, max_bytes: int, *, blank_lines: bool = False) -> Iterator[Span]:
    r"""Lines ending in `\n`; blank lines are counted but not rows, unless asked for."""
    number = 1
    pending = pushed_back = b""
    while block := pushed_back or next(blocks, b""):
        pushed_back = b""
        end = block.rfind(b"\n") + 1
        if not end:
            pending += block
            if len(pending) > max_bytes:
                cut, skipped, pushed_back = _skip_line(pending, blocks)
                yield number, offset, cut, too_long(max_bytes)
                number, offset, pending = number + 1, offset + skipped, b""
            continue
        lines = (pending + block[:end]).split(b"\n")
        pending = block[end:]
        lines.pop()
        for line in lines:
            length = len(line) + 1
            if length - 1 > max_bytes:
                yield number, offset, line[:CUT], too_long(max_bytes)
            elif blank_lines or (line and not line.isspace()):
                yield number, offset, line + b"\n", ""
            number += 1
            offset += length
    if len(pending) > max_bytes:
        yield number, offset, pending[:CUT], too_long(max_bytes)
    elif pending and (blank_lines or not pending.isspace()):
        yield number, offset, pending, ""


def _skip_line(pending: bytes, blocks: Iterator[bytes]) -> tuple[bytes, int, bytes]:
    """Drop the rest of a line that is too long: (its first bytes, its length, what follows it)."""
    cut, skipped = pending[:CUT], len(pending)
    for block in blocks:
        end = block.find(b"\n") + 1
        if end:
            return cut, skipped + end, block[end:]
        skipped += len(block)
    return cut, skipped, b""


def too_long(max_bytes: int) -> str:
    """The reason of a row that is too long."""
    return f"longer than {max_bytes:,} bytes (max_row_bytes)"
