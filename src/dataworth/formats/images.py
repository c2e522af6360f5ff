"""A folder of images as a table: `CLASS/.../name.png` is a row with its bytes, its class and its name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix."""
    return path.suffix.lower() in SUFFIXES


class ImageFolder:
    """Images below a folder, by path; the first folder of a path is the image's class, as in torchvision."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def names(self) -> list[Path]:
        """Paths of the images below the folder; hidden files and folders are left out."""
        inside = (p.relative_to(self.path) for p in self.path.rglob("*") if is_image(p) and p.is_file())
        return sorted(p for p in inside if not any(part.startswith(".") for part in p.parts))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row in order."""
        return (self.row(n) for n in range(len(self.names)))

    def row(self, number: int) -> dict[str, Any]:
        """One row by number; an image outside any class folder has no label."""
        name = self.names[number]
        columns: dict[str, Any] = {"image": (self.path / name).read_bytes(), "file_name": name.as_posix()}
        return {**columns, "label": name.parts[0]} if len(name.parts) > 1 else columns

    def stamp(self) -> tuple[int, int]:
        """Bytes of all images, and a number made of their names, sizes and dates: a renamed image is a change, too."""
        stats = [((self.path / name).stat(), name.as_posix()) for name in self.names]
        said = "\n".join(f"{name} {s.st_size} {s.st_mtime_ns}" for s, name in stats)
        number = int.from_bytes(hashlib.sha256(said.encode("utf-8", "surrogateescape")).digest()[:7], "big")
        return sum(s.st_size for s, _ in stats), number

    def sha256(self) -> str:
        """Over names and bytes."""
        total = hashlib.sha256()
        for name in self.names:
            content = hashlib.sha256((self.path / name).read_bytes()).digest()
            total.update(os.fsencode(name.as_posix()) + b"\0" + content)
        return total.hexdigest()

    def write(self, rows: NDArray[np.int64], target: Path) -> None:
        """Copy the rows' images to a new folder, under their own names."""
        target.mkdir()
        for n in rows.tolist():
            to = target / self.names[n]
            to.parent.mkdir(parents=True, exist_ok=True)
            with to.open("wb") as file:
                file.write((self.path / self.names[n]).read_bytes())
                file.flush()
                os.fsync(file.fileno())

    def copied_to(self, rows: NDArray[np.int64], target: Path) -> bool:
        """Whether a folder holds exactly these rows' images, as an interrupted command left them."""
        names = [self.names[n] for n in rows.tolist()]
        found = {p.relative_to(target) for p in target.rglob("*") if p.is_file()}
        return found == set(names) and all(
            (self.path / name).read_bytes() == (target / name).read_bytes() for name in names
        )
