"""The run folder: what was asked, what was picked, why, under which fingerprints; enough to replay it.

config.yaml          the request; a folder that holds another one is refused
record.json          {"content": deterministic facts, "timings": when and how long}
report.html          what `view --html` wrote, if it was asked
card.md              a proof to paste
<name>.parquet       tables: selection, scores/<score>, pictures (of sample rows), ...
finished.json        written last
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from dataworth.errors import FormatError, RequestError
from dataworth.store.artefact import differing_keys
from dataworth.store.atomic import TEMPORARY, make_folder, remove_temporary, write_atomic
from dataworth.store.fingerprint import canonical_json, fingerprint
from dataworth.store.json_files import damaged, read_json
from dataworth.store.lock import LOCK_NAME, EntryLock

DEFAULT_RUNS = "runs"
REPORT, CARD, PICTURES = "report.html", "card.md", "pictures"
EXEMPT_FILES = (LOCK_NAME, f"{TEMPORARY}*", "*.log", REPORT, CARD)
"""File names (patterns) that may differ between an undisturbed and a resumed run."""
EXEMPT_KEYS = ("timings",)
"""Top-level keys of record.json that may differ between an undisturbed and a resumed run."""

_AGAIN = "delete it, and the command that made the run makes it again"

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]


def said(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a request says: an option left alone and one that a release didn't have yet are the same request."""
    return {k: v for k, v in config.items() if v is not None and v is not False and v not in ([], (), {})}


class RunFolder:
    """One run on disk.

    Args:
        path: The folder; created if absent.
        config: The request as plain JSON values, without what may change between resumptions (device, workers).

    Raises:
        RequestError: The folder belongs to another request, holds something else, or can't be written.
    """

    def __init__(self, path: Path | str, config: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.config: dict[str, Any] = json.loads(canonical_json(dict(config)))
        self.lock = EntryLock(self.path)
        found = self.path / "config.yaml"
        if found.exists():
            keys = differing_keys(said(_read_config(found)), said(self.config))
            if keys:
                raise RequestError(
                    f"run folder {self.path} belongs to another request (differs in {', '.join(keys)}): "
                    "expected the same request; choose another --run or delete it"
                )
            return
        foreign = [p.name for p in self.path.iterdir()] if self.path.is_dir() else []
        foreign = [name for name in foreign if not _exempt(name)]
        if foreign:
            raise RequestError(
                f"run folder {self.path} holds {foreign[0]!r} but no config.yaml: expected a run or an empty folder; "
                "choose another --run"
            )
        make_folder(self.path)
        write_atomic(found, yaml.safe_dump(self.config, sort_keys=True).encode())

    @classmethod
    def existing(cls, path: Path | str) -> RunFolder:
        """Open a run by its own config.

        Raises:
            RequestError: The folder holds no run.
        """
        found = Path(path) / "config.yaml"
        if not found.exists():
            runs = _runs_in(Path(path))
            if runs:
                more = f"{len(runs):,} run{'s' * (len(runs) > 1)}"
                raise RequestError(f"{path} holds {more}: expected one of them; the newest is {runs[-1]}")
            raise RequestError(f"{path} holds no config.yaml: expected a run folder; check the path")
        return cls(path, _read_config(found))

    @property
    def finished(self) -> bool:
        """Whether `finish` was called and its files are still those of that moment (exemptions and new files aside).

        Raises:
            FormatError: The marker or the record is damaged.
        """
        marker = self.path / "finished.json"
        if not marker.exists():
            return False
        said: dict[str, str] = read_json(marker, _AGAIN)
        self.read_record()
        return all((self.path / name).is_file() and _digest(self.path / name) == was for name, was in said.items())

    def finish(self) -> None:
        """Mark the run as complete."""
        for folder in (self.path, *(p for p in self.path.rglob("*") if p.is_dir())):
            remove_temporary(folder)
        write_atomic(self.path / "finished.json", canonical_json(self._digests()))

    def write_record(self, content: Mapping[str, Any], timings: Mapping[str, Any]) -> None:
        """Write record.json.

        Args:
            content: Versions, fingerprints, seeds, counts: the same for an undisturbed and a resumed run.
            timings: Moments, durations, rates, machine: whatever may differ.

        Raises:
            RequestError: A value is no plain JSON value, or the disk refuses.
        """
        record = json.loads(canonical_json({"content": dict(content), "timings": dict(timings)}))
        write_atomic(self.path / "record.json", (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())

    def read_record(self) -> dict[str, Any]:
        """The record as {"content", "timings"}; both empty if none was written.

        Raises:
            FormatError: The file is damaged.
        """
        path = self.path / "record.json"
        if not path.exists():
            return {"content": {}, "timings": {}}
        return read_json(path, _AGAIN, {"content": dict, "timings": dict})

    def write_table(self, name: str, columns: Columns) -> Path:
        """Write `<name>.parquet` (for example "selection", or "scores/less") in one step and return its path.

        Raises:
            RequestError: The columns differ in length, or the disk refuses.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        lengths = {column: len(values) for column, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise RequestError(f"table {name!r} has columns of lengths {lengths}: expected one length; fix the caller")
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({k: pa.array(v) for k, v in columns.items()}), sink, compression="zstd")
        path = self.path / f"{name}.parquet"
        make_folder(path.parent)
        write_atomic(path, sink.getvalue().to_pybytes())
        return path

    def read_table(self, name: str) -> dict[str, Any]:
        """The columns of `<name>.parquet`: numbers and booleans as arrays, the rest as lists.

        Raises:
            RequestError: The run has no such table.
            FormatError: The file is damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path / f"{name}.parquet"
        if not path.exists():
            raise RequestError(f"{path} does not exist: expected a run that wrote {name!r}; run its verb first")
        try:
            table = pq.read_table(path.absolute())
        except pa.ArrowInvalid as error:
            raise FormatError(f"{path} is damaged ({error}): expected Parquet; delete it and run again") from error
        return {c: _plain(table.column(c)) for c in table.column_names}

    def _digests(self) -> dict[str, str]:
        return {name: digest for name, digest in digests(self.path).items() if name != "finished.json"}


def digests(folder: Path) -> dict[str, str]:
    """sha256 of each file below `folder` by relative name: what must be equal between undisturbed and resumed.

    Files in `EXEMPT_FILES` are left out, and so are the `EXEMPT_KEYS` of record.json.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not _exempt(p.name))
    return {p.relative_to(folder).as_posix(): _digest(p) for p in files}


def _exempt(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in EXEMPT_FILES)


def _digest(path: Path) -> str:
    if path.name == "record.json":
        return fingerprint({k: v for k, v in read_json(path, _AGAIN).items() if k not in EXEMPT_KEYS})
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise damaged(path, error.__class__.__name__, "YAML", "delete the folder") from error
    if not isinstance(config or {}, dict):
        raise damaged(path, f"a {type(config).__name__}", "a mapping", "delete the folder")
    return dict(config or {})


def _plain(column: Any) -> Any:
    import pyarrow as pa

    numeric = pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
    return np.asarray(column.to_numpy()) if numeric and not column.null_count else column.to_pylist()


def _runs_in(folder: Path) -> list[Path]:
    """The runs in a folder, the newest last."""
    found = []
    for path in folder.glob("*/config.yaml"):
        with suppress(OSError, UnicodeDecodeError):  # whatever else lies there is no run
            if re.search(r"^verb: ", path.read_text(encoding="utf-8"), re.MULTILINE):
                found.append((path.stat().st_mtime, path.parent))
    return [path for _, path in sorted(found)]
