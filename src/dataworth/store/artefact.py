"""Arrays keyed by row id under one fingerprint: planned, committed part by part, read as one table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataworth.errors import FingerprintMismatch, RequestError
from dataworth.records import id_order
from dataworth.store.atomic import TEMPORARY, make_folder, remove_temporary, write_atomic
from dataworth.store.fingerprint import canonical_json, fingerprint
from dataworth.store.json_files import read_json
from dataworth.store.lock import EntryLock
from dataworth.store.part import (
    MARKER,
    Column,
    Part,
    layout_of,
    read_part,
    scored_only,
    verify_part,
    write_part,
)
from dataworth.store.table import Table


@dataclass(frozen=True)
class Shard:
    """Rows that are computed together and become one part."""

    name: str
    ids: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    """A persisted promise: which rows go into which part. `retry` plans redo rows that were unscored."""

    name: str
    ids: tuple[str, ...]
    shard_rows: int
    retry: bool

    def shards(self) -> Iterator[Shard]:
        for n, start in enumerate(range(0, len(self.ids), self.shard_rows)):
            yield Shard(f"{self.name}-{n:06d}", self.ids[start : start + self.shard_rows])


class Artefact:
    """One kind of array for many rows, in `folder`: spec.json, plans/ and immutable parts/.

    Rows are `stored` (they have values) or unscored (they have a reason). Readers need no lock and write nothing;
    `plan` and `commit` take the entry's lock for themselves unless the caller holds it (`with artefact.lock:`).

    Raises:
        FingerprintMismatch: The folder holds another spec.
    """

    def __init__(self, folder: Path, spec: Mapping[str, Any]) -> None:
        self.folder = folder
        self.spec = dict(spec)
        self.fingerprint = fingerprint(self.spec)
        self.lock = EntryLock(folder)
        self._plans, self._parts_folder = folder / "plans", folder / "parts"
        same_spec(folder, self.spec)
        self._load()

    def __len__(self) -> int:
        """Rows known: stored or unscored."""
        return len(self._row) + len(self._unscored)

    @property
    def ids(self) -> list[str]:
        """Ids of the rows known, sorted."""
        return sorted({*self._row, *self._unscored})

    def missing(self, ids: Iterable[str], *, retry_unscored: bool = False) -> list[str]:
        """The ids, each once and in the order given, that are not stored and not unscored.

        With `retry_unscored`, unscored rows count as missing.
        """
        return [i for i in dict.fromkeys(ids) if i not in self._row and (retry_unscored or i not in self._unscored)]

    def plan(self, ids: Sequence[str], shard_rows: int = 256, *, retry_unscored: bool = False) -> list[Shard]:
        """Shards that, once committed, leave none of `ids` missing.

        What an interrupted plan left open comes first, as it was cut then, so that resumed files equal undisturbed
        ones. The remaining rows are sorted by id, cut into shards and persisted before they are returned. Temporary
        files and files of parts that were never finished are removed, and parts of unfinished plans are checked by
        sha256.

        Args:
            ids: Row ids, in any order.
            shard_rows: Rows of a new shard.
            retry_unscored: Plan rows that are known as unscored again.

        Raises:
            RequestError: Another process writes this artefact, or the disk refuses.
            FormatError: A part is damaged.
        """
        if shard_rows < 1:
            raise RequestError(f"shard_rows={shard_rows}: expected at least 1; correct it")
        with self.lock:
            keep_spec(self.folder, self.spec)
            self._load()
            self._clean()
            asked = set(ids)
            plans = self._read_plans()
            shards: list[Shard] = []
            planned: set[str] = set()
            for shard in (s for plan in plans for s in self._open_shards(plan, asked)):
                # Two interrupted plans may overlap; the earlier one's promise stands.
                if planned.isdisjoint(shard.ids):
                    shards.append(shard)
                    planned |= set(shard.ids)
            self._verify_plans_of(shards)
            fresh = [i for i in self.missing(ids, retry_unscored=retry_unscored) if i not in planned]
            if fresh:
                ordered = tuple(fresh[n] for n in id_order(fresh))
                plan = _Plan(f"{len(plans):04d}", ordered, shard_rows, retry_unscored)
                self._persist(plan)
                shards += plan.shards()
            return shards

    def commit(self, shard: Shard, columns: Mapping[str, Column], unscored: Mapping[str, str]) -> None:
        """Store a shard as one part; a shard that is already stored is left as it is.

        Args:
            shard: A shard of `plan`.
            columns: name -> array [rows, ...] or list of 1-D arrays, with one row per id of the shard or one per
                scored id.
            unscored: id -> reason for rows without values.

        Raises:
            RequestError: The columns don't fit the shard or the earlier parts, or the disk refuses.
        """
        with self.lock:
            if (self._parts_folder / f"{shard.name}{MARKER}").exists():
                return
            ids, kept = scored_only(shard.ids, columns, unscored)
            self._check_layout(layout_of(kept))
            make_folder(self._parts_folder)
            self._add(write_part(self._parts_folder, shard.name, self.fingerprint, ids, kept, unscored))

    def table(self, ids: Sequence[str], *, verify: bool = False) -> Table:
        """The asked rows as a table in the order of `ids`.

        Args:
            ids: Row ids; each must be stored or unscored.
            verify: Compare the sha256 of every file first (reads everything).

        Raises:
            RequestError: A row was never computed.
            FormatError: A file is damaged.
        """
        if verify:
            self.verify()
        row_N = np.fromiter((self._row.get(i, -1) for i in ids), dtype=np.int64, count=len(ids))
        without = [ids[n] for n in np.flatnonzero(row_N < 0).tolist()]
        absent = [i for i in without if i not in self._unscored]
        if absent:
            raise RequestError(
                f"{len(absent)} of {len(ids)} rows are not computed (first {absent[0]!r}): "
                "expected stored or unscored rows; run the probe for them"
            )
        unscored = {i: self._unscored[i] for i in without}
        return Table(ids, row_N, unscored, self._parts, np.array(self._starts, dtype=np.int64))

    def verify(self) -> None:
        """Compare the sha256 of every file with its marker.

        Raises:
            FormatError: A file is damaged.
        """
        for part in self._parts:
            verify_part(part.folder, part.name)

    def _load(self) -> None:
        self._parts: list[Part] = []
        self._starts: list[int] = []
        self._row: dict[str, int] = {}
        self._unscored: dict[str, str] = {}
        self._rows = 0
        names = (p.name for p in self._parts_folder.iterdir()) if self._parts_folder.is_dir() else ()
        for name in sorted(n for n in names if n.endswith(MARKER) and not n.startswith(TEMPORARY)):
            self._add(read_part(self._parts_folder, name.removesuffix(MARKER), self.fingerprint))

    def _add(self, part: Part) -> None:
        self._parts.append(part)
        self._starts.append(self._rows)
        for n, row_id in enumerate(part.ids, start=self._rows):
            self._row[row_id] = n
            self._unscored.pop(row_id, None)
        self._unscored.update((i, r) for i, r in part.unscored.items() if i not in self._row)
        self._rows += len(part.ids)

    def _check_layout(self, layout: Mapping[str, Mapping[str, Any]]) -> None:
        known = next((p.layout for p in self._parts if p.layout), layout)
        if layout and canonical_json(known) != canonical_json(layout):
            raise RequestError(
                f"columns {json.dumps(layout)} differ from the stored {json.dumps(known)}: "
                "expected one layout per artefact; name the difference in its spec"
            )

    def _clean(self) -> None:
        for folder in (self.folder, self._plans, self._parts_folder):
            remove_temporary(folder)
        finished = {p.name for p in self._parts}
        if self._parts_folder.is_dir():
            for path in list(self._parts_folder.iterdir()):
                if path.name.split(".", 1)[0] not in finished:
                    path.unlink()

    def _read_plans(self) -> list[_Plan]:
        plans = []
        for path in sorted(self._plans.iterdir()) if self._plans.is_dir() else ():
            keys = {"ids": list, "shard_rows": int, "retry": bool}
            raw = read_json(path, f"delete the folder {self.folder} to recompute", keys)
            plans.append(_Plan(path.stem, tuple(raw["ids"]), raw["shard_rows"], raw["retry"]))
        return plans

    def _persist(self, plan: _Plan) -> None:
        make_folder(self._plans)
        content = {"ids": list(plan.ids), "shard_rows": plan.shard_rows, "retry": plan.retry}
        write_atomic(self._plans / f"{plan.name}.json", canonical_json(content))

    def _open_shards(self, plan: _Plan, asked: set[str]) -> Iterator[Shard]:
        """Uncommitted shards that lie within `asked` and that no later plan has overtaken."""
        finished = {p.name for p in self._parts}
        for shard in plan.shards():
            if shard.name in finished or not asked.issuperset(shard.ids):
                continue
            overtaken = any(i in self._row or (not plan.retry and i in self._unscored) for i in shard.ids)
            if not overtaken:
                yield shard

    def _verify_plans_of(self, shards: Sequence[Shard]) -> None:
        unfinished = {s.name.split("-")[0] for s in shards}
        for part in self._parts:
            if part.name.split("-")[0] in unfinished:
                verify_part(part.folder, part.name)


def same_spec(folder: Path, spec: Mapping[str, Any]) -> bool:
    """Whether `folder/spec.json` is there; it must then be `spec`.

    Raises:
        FingerprintMismatch: The folder holds another spec.
        FormatError: The stored spec is damaged.
        RequestError: `spec` is no plain JSON value.
    """
    wanted, path = canonical_json(dict(spec)), folder / "spec.json"
    if not path.exists():
        return False
    found = path.read_bytes()
    if found != wanted:
        stored = read_json(path, f"delete the folder {folder} to recompute")
        keys = ", ".join(differing_keys(stored, json.loads(wanted)))
        raise FingerprintMismatch(
            f"{folder} was made under another spec (differs in {keys}): delete it, or use another cache"
        )
    return True


def keep_spec(folder: Path, spec: Mapping[str, Any]) -> None:
    """Write `folder/spec.json` unless it is there; raises as `same_spec` does, and when the disk refuses."""
    if not same_spec(folder, spec):
        make_folder(folder)
        write_atomic(folder / "spec.json", canonical_json(dict(spec)))


def differing_keys(one: Any, other: Any) -> list[str]:
    """Dotted names of the keys in which two JSON values differ, sorted ("." for the whole value)."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if canonical_json(one) == canonical_json(other) else ["."]
    out = []
    for key in sorted({*one, *other}):
        if key not in one or key not in other:
            out.append(key)
        else:
            out += [key if sub == "." else f"{key}.{sub}" for sub in differing_keys(one[key], other[key])]
    return out
