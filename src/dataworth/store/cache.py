"""The cache: artefacts and folders by content fingerprint, shared by all runs."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataworth.store.artefact import Artefact, keep_spec
from dataworth.store.atomic import TEMPORARY, write_atomic
from dataworth.store.fingerprint import canonical_json, fingerprint
from dataworth.store.json_files import read_json
from dataworth.store.lock import LOCK_NAME, EntryLock

DONE = "done.json"


class Cache:
    """Entries `<kind>/<fingerprint of spec>/` below `root`.

    Args:
        root: The folder; by default `$DATAWORTH_CACHE`, else `.dataworth/` in the current folder. It is created on
            first use.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root or os.environ.get("DATAWORTH_CACHE") or ".dataworth")

    def artefact(self, kind: str, spec: Mapping[str, Any]) -> Artefact:
        """Arrays keyed by row id, opened; nothing is written before something is planned.

        Raises:
            FingerprintMismatch: The folder holds another spec.
            RequestError: `spec` is no plain JSON value.
            FormatError: A stored file is damaged.
        """
        return Artefact(self._entry(kind, spec), spec)

    def folder(self, kind: str, spec: Mapping[str, Any]) -> Path:
        """A folder for what isn't rows (a trained adapter, a converted model).

        Use: `if not is_done(path): with EntryLock(path): build it; mark_done(path)`.

        Raises:
            FingerprintMismatch: The folder holds another spec.
            RequestError: `spec` is no plain JSON value.
        """
        path = self._entry(kind, spec)
        keep_spec(path, spec)
        return path

    def size(self) -> dict[str, int]:
        """Bytes on disk per kind."""
        if not self.root.is_dir():
            return {}
        kinds = sorted(p for p in self.root.iterdir() if p.is_dir())
        return {kind.name: sum(f.stat().st_size for f in kind.rglob("*") if f.is_file()) for kind in kinds}

    def clear(self) -> int:
        """Delete every entry and return the bytes freed.

        Raises:
            RequestError: A live process writes an entry; entries before it are gone already.
        """
        freed = 0
        # Only folders named by a fingerprint: the root may be shared with somebody else's files.
        for entry in sorted(p for p in self.root.glob("*/*") if re.fullmatch("[0-9a-f]{64}", p.name)):
            with EntryLock(entry):
                freed += sum(f.stat().st_size for f in entry.rglob("*") if f.is_file() and f.name != LOCK_NAME)
                shutil.rmtree(entry)
            if not any(entry.parent.iterdir()):
                entry.parent.rmdir()
        return freed

    def _entry(self, kind: str, spec: Mapping[str, Any]) -> Path:
        return self.root / kind / fingerprint(dict(spec))


def mark_done(folder: Path) -> None:
    """Record that a cache folder is complete, with the size of each file in it."""
    write_atomic(folder / DONE, canonical_json(_sizes(folder)))


def is_done(folder: Path) -> bool:
    """Whether a cache folder was marked complete and still holds files of the recorded sizes.

    Raises:
        FormatError: The marker is damaged.
    """
    marker = folder / DONE
    return marker.exists() and read_json(marker, f"delete the folder {folder} to recompute") == _sizes(folder)


def _sizes(folder: Path) -> dict[str, int]:
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(TEMPORARY))
    return {p.relative_to(folder).as_posix(): p.stat().st_size for p in files if p.name not in (DONE, LOCK_NAME)}
