"""`rejected.jsonl`: every row that could not be read, with the place and the reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from dataworth.formats.spans import CUT


class Rejects:
    """Counts rejected rows and, given a path, writes one JSON line for each.

    Fields: `file`, `line` (1-based line, array element or table row), `offset` (byte in the decompressed
    file; row number in tables), `reason`, `raw` (the row's first bytes as text, undecodable ones escaped).
    The file appears when reading is done.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.count = 0
        self.first = ""
        self._aside = path.with_name(f".{path.name}.{os.getpid()}.tmp") if path else None
        self._file: Any = None

    def add(self, file: Path, line: int, offset: int, reason: str, raw: bytes) -> None:
        """Note one row."""
        self.count += 1
        self.first = self.first or f"{file}, line {line}: {reason}"
        if self._aside is None:
            return
        if self._file is None:
            self._aside.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._aside.open("wb")
        record = {
            "file": _plain(str(file)),
            "line": line,
            "offset": offset,
            "reason": _plain(reason),
            "raw": raw[:CUT].decode("utf-8", "backslashreplace"),
        }
        self._file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    def close(self, *, keep: bool = True) -> Path | None:
        """Move the file into place; without a reject, remove one left by an earlier reading.

        Returns:
            Where the rejects are, or None if there are none or no path was given.
        """
        if self.path is None or self._aside is None:
            return None
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if keep:
                self._aside.replace(self.path)
                return self.path
            self._aside.unlink()
        elif keep:
            self.path.unlink(missing_ok=True)
        return None


def _plain(text: str) -> str:
    """Text with lone surrogates (a file name that isn't UTF-8, a bad key) written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
