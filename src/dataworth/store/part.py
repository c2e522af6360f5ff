"""One immutable part of an artefact on disk: how columns become files and back.

<part>.rows.json             ids of the rows with values, in order, and {id: reason} of those without
<part>.<column>.npy          fixed width: array [rows, ...]
<part>.<column>.flat.npy     ragged: all rows end to end, and
<part>.<column>.offsets.npy  int64 [rows + 1]
<part>.ok.json               written last: counts, layout, size and sha256 of each file, the artefact's fingerprint
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import FingerprintMismatch, FormatError, RequestError
from dataworth.store.atomic import checksum, sync, write_atomic
from dataworth.store.fingerprint import canonical_json
from dataworth.store.json_files import damaged, read_json

Column = NDArray[Any] | Sequence[NDArray[Any]]
MARKER = ".ok.json"


@dataclass(frozen=True)
class Part:
    """A committed part: its rows and the layout of its columns (name -> {"dtype", "shape", "ragged"})."""

    folder: Path
    name: str
    ids: tuple[str, ...]
    unscored: Mapping[str, str]
    layout: Mapping[str, Mapping[str, Any]]

    def fixed(self, column: str) -> NDArray[Any]:
        """A fixed-width column, memory-mapped, one row per id."""
        return _load(self.folder / f"{self.name}.{column}.npy")

    def ragged(self, column: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """A ragged column as (flat values, int64 offsets [rows + 1]), memory-mapped."""
        stem = self.folder / f"{self.name}.{column}"
        return _load(stem.with_name(stem.name + ".flat.npy")), _load(stem.with_name(stem.name + ".offsets.npy"))


def scored_only(
    ids: Sequence[str], columns: Mapping[str, Column], unscored: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, Column]]:
    """The rows that have values, and columns of exactly those rows.

    A column may come with one row per id, or with one row per scored id; rows of unscored ids are dropped here, so no
    placeholder reaches the disk.

    Raises:
        RequestError: A column has another number of rows, or `unscored` names a row that is not in `ids`.
    """
    strangers = [i for i in unscored if i not in set(ids)]
    if strangers:
        raise RequestError(
            f"unscored row {strangers[0]!r} is not in the shard: expected ids of the shard; fix the probe"
        )
    keep = [n for n, i in enumerate(ids) if i not in unscored]
    out: dict[str, Column] = {}
    for name, column in columns.items():
        if len(column) == len(keep):
            out[name] = column
        elif len(column) == len(ids):
            out[name] = (
                column[np.array(keep, dtype=np.int64)] if isinstance(column, np.ndarray) else [column[n] for n in keep]
            )
        else:
            raise RequestError(
                f"column {name!r} has {len(column)} rows: expected {len(ids)} (the shard) or {len(keep)} "
                "(its scored rows); fix the probe"
            )
    if keep and not out:
        raise RequestError(f"{len(keep)} scored rows came without any column: expected at least one; fix the probe")
    return tuple(ids[n] for n in keep), out if keep else {}


def layout_of(columns: Mapping[str, Column]) -> dict[str, dict[str, Any]]:
    """dtype, shape of a row and raggedness of each column.

    Raises:
        RequestError: Objects instead of numbers, ragged rows of several dtypes or dimensions, or an unusable name.
    """
    layout = {}
    for name, column in columns.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise RequestError(f"column name {name!r}: expected letters, digits and underscores; rename it")
        ragged = not isinstance(column, np.ndarray)
        dtypes = {np.asarray(row).dtype for row in column} if ragged else {column.dtype}  # type: ignore[union-attr]
        if len(dtypes) != 1 or next(iter(dtypes)).hasobject:
            found = ", ".join(sorted(map(str, dtypes)))
            raise RequestError(f"column {name!r} holds {found}: expected one plain numeric or text type; convert it")
        if ragged and any(np.ndim(row) != 1 for row in column):
            raise RequestError(
                f"column {name!r} has rows that are not 1-D: expected a list of 1-D arrays; flatten them"
            )
        shape = [] if ragged else list(column.shape[1:])  # type: ignore[union-attr]
        layout[name] = {"dtype": next(iter(dtypes)).str, "shape": shape, "ragged": ragged}
    return layout


def write_part(
    folder: Path,
    name: str,
    owner: str,
    ids: Sequence[str],
    columns: Mapping[str, Column],
    unscored: Mapping[str, str],
) -> Part:
    """Write a part's files, then its marker; `ids` and `columns` are the scored rows only.

    Raises:
        RequestError: The columns can't be stored, or the disk refuses.
    """
    layout = layout_of(columns)
    rows = {"ids": list(ids), "unscored": dict(sorted(unscored.items()))}
    contents = {f"{name}.rows.json": canonical_json(rows)}
    for column, values in columns.items():
        if layout[column]["ragged"]:
            arrays = [np.asarray(row) for row in values]
            ends = np.cumsum([0, *(len(a) for a in arrays)], dtype=np.int64)
            contents[f"{name}.{column}.flat.npy"] = _npy(np.concatenate(arrays))
            contents[f"{name}.{column}.offsets.npy"] = _npy(ends)
        else:
            contents[f"{name}.{column}.npy"] = _npy(np.asarray(values))
    files = {
        file: {"bytes": len(data), "sha256": write_atomic(folder / file, data, sync_folder=False)}
        for file, data in sorted(contents.items())
    }
    sync(folder)
    marker = {
        "artefact": owner,
        "rows": len(ids),
        "unscored": len(unscored),
        "layout": layout,
        "files": files,
    }
    write_atomic(folder / f"{name}{MARKER}", canonical_json(marker))
    return Part(folder, name, tuple(ids), rows["unscored"], layout)  # type: ignore[arg-type]


def read_part(folder: Path, name: str, owner: str) -> Part:
    """Open a committed part, checking its fingerprint and the size of each file.

    Raises:
        FingerprintMismatch: The part belongs to another artefact.
        FormatError: A file is missing or has another size than its marker says.
    """
    marker = _marker(folder, name)
    if marker["artefact"] != owner:
        raise FingerprintMismatch(
            f"{folder / name} belongs to artefact {marker['artefact'][:12]}: expected {owner[:12]}; "
            f"delete the folder {folder.parent}"
        )
    for file, said in marker["files"].items():
        path = folder / file
        size = path.stat().st_size if path.exists() else -1
        if size != said["bytes"]:
            raise _damaged(path, f"{size} bytes" if size >= 0 else "no file", f"{said['bytes']} bytes")
    rows = read_json(folder / f"{name}.rows.json", _todo(folder), {"ids": list, "unscored": dict})
    if len(rows["ids"]) != marker["rows"] or len(rows["unscored"]) != marker["unscored"]:
        raise _damaged(folder / f"{name}.rows.json", f"{len(rows['ids'])} rows", f"{marker['rows']} rows")
    return Part(folder, name, tuple(rows["ids"]), rows["unscored"], marker["layout"])


def verify_part(folder: Path, name: str) -> None:
    """Compare the sha256 of each of a part's files with its marker.

    Raises:
        FormatError: A file's content is not what was committed.
    """
    for file, said in _marker(folder, name)["files"].items():
        found = checksum(folder / file)
        if found != said["sha256"]:
            raise _damaged(folder / file, f"sha256 {found[:12]}", said["sha256"][:12])


def _marker(folder: Path, name: str) -> dict[str, Any]:
    keys = {"artefact": str, "rows": int, "unscored": int, "layout": dict, "files": dict}
    return read_json(folder / f"{name}{MARKER}", _todo(folder), keys)


def _damaged(path: Path, found: str, expected: str) -> FormatError:
    return damaged(path, found, expected, _todo(path.parent))


def _todo(folder: Path) -> str:
    return f"delete the folder {folder.parent} to recompute"


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _load(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
