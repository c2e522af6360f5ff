"""Files appear whole or not at all: written aside in the same folder, fsynced, renamed, folder fsynced.

A SIGKILL at any moment leaves at most a file whose name starts with `TEMPORARY`; nothing reads those, and the next
writer of the folder removes them.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from dataworth.errors import RequestError

TEMPORARY = ".tmp-"
"""Prefix of files that are being written."""


def write_atomic(path: Path, data: bytes, *, sync_folder: bool = True) -> str:
    """Put `data` at `path`, replacing what was there in one step.

    Args:
        path: The file; its folder must exist.
        data: The whole content.
        sync_folder: Make the new name durable now; several files of one folder may share one `sync` at the end.

    Returns:
        sha256 of `data`, 64 hex digits.

    Raises:
        RequestError: The disk is full, read-only or failing; nothing is visible at `path` that was not there before.
    """
    aside = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        _write_and_sync(aside, data)
        os.replace(aside, path)  # noqa: PTH105 - all steps go through `os`, where the tests make them fail
        if sync_folder:
            sync(path.parent)
    except OSError as error:
        raise refused(path, error, len(data)) from error
    return hashlib.sha256(data).hexdigest()


def settle(path: Path, data: bytes) -> Path:
    """Put `data` at `path`, but leave an equal file alone: a run knows its inputs by size and date.

    Raises:
        RequestError: The disk refuses.
    """
    make_folder(path.parent)
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data)
    return path


def sync(folder: Path) -> None:
    """Make the names in `folder` durable (fsync of the folder itself).

    Raises:
        RequestError: The disk refuses.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise refused(folder, error) from error


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents where they are missing.

    Raises:
        RequestError: The disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(folder, error) from error


def refused(path: Path, error: OSError, size: int = 0) -> RequestError:
    """The error for a path that can't be written, with the bytes it would have taken."""
    needs = f" ({size} bytes)" if size else ""
    return RequestError(
        f"can't write {path}{needs}: {error.strerror or error}; "
        "make room or choose another folder, then the same command resumes"
    )


def checksum(path: Path) -> str:
    """sha256 of a file, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_temporary(folder: Path) -> int:
    """Delete what interrupted writers left in `folder`; call it only while holding the folder's lock."""
    stale = [p for p in folder.iterdir() if p.name.startswith(TEMPORARY)] if folder.is_dir() else []
    for path in stale:
        path.unlink()
    return len(stale)


def _write_and_sync(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)
