"""Formats that hold rows as columns with exact values: what they have in common, and which class reads which."""

from __future__ import annotations

from pathlib import Path

from dataworth.formats.arrays import ArrayFile
from dataworth.formats.images import ImageFolder
from dataworth.formats.streams import sha256_of as sha256_of_file
from dataworth.formats.tables import TableFile

TABLES = ("parquet", "arrow", "npz", "images")
Table = TableFile | ArrayFile | ImageFolder


def open_table(path: Path, format: str) -> Table:
    """The file (for images the folder) as a table: `rows()` in order, `row(number)`."""
    if format == "images":
        return ImageFolder(path)
    return ArrayFile(path) if format == "npz" else TableFile(path, format)


def stamp_of(path: Path) -> tuple[int, int]:
    """Bytes and time of last change (ns) of a file, or of all images of a folder.

    Raises:
        OSError: It can't be looked at.
    """
    if path.is_dir():
        return ImageFolder(path).stamp()
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, or of a folder's images and their names."""
    return ImageFolder(path).sha256() if path.is_dir() else sha256_of_file(path)
