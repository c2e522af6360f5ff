"""Reading somebody's subset of a pool: a run of ours, a file we wrote, or rows that another tool or a hunch picked.

A file's rows are found in the pool by id (the hash of their columns), else by their text, so that another tool may have
renamed or added columns. A row given twice counts twice. Rows that aren't found are listed; more than 1 % of them is an
error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dataworth.errors import FormatError, RequestError
from dataworth.formats import ORIGIN, sidecar_of
from dataworth.proof.forecast import Forecast
from dataworth.records import Example, Pool
from dataworth.store.json_files import damaged, read_json
from dataworth.store.run import RunFolder

MOST_UNMATCHED = 0.01
_SAID = 60
"""Characters by which a row that isn't in the pool is told."""


@dataclass(frozen=True)
class Subset:
    """Rows of the pool with weights, under a name.

    `unmatched` are rows that aren't in the pool, the first of a file in words, others by id; `seen` are the goal rows
    that it was selected by, `forecast` what it was foretold to be worth, and `of` what that is about, as far as a run
    folder or a sidecar tells.
    """

    name: str
    ids: tuple[str, ...]
    weights: tuple[float, ...]
    unmatched: tuple[str, ...] = ()
    seen: frozenset[str] = frozenset()
    forecast: Forecast | None = None
    of: Mapping[str, str | None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


def read_subset(path: str | Path, pool: Pool, mapping: Mapping[str, str] | None = None) -> Subset:
    """A subset of `pool` from a `select` run folder or a file of rows.

    Args:
        path: A run folder, or a file as `--pool` takes them; weights come from its sidecar if there is one.
        pool: What it was picked from.
        mapping: Of the pool's columns, for a file whose rows don't have the pool's ids.

    Raises:
        RequestError: It isn't there, or shares too little with the pool.
    """
    path = Path(path).expanduser()
    if (path / "config.yaml").is_file():
        run = RunFolder.existing(path)
        if not run.finished or run.config.get("verb") != "select":
            raise RequestError(f"{path} is no finished select run: expected one, or a file of rows; finish it first")
        table = run.read_table("weights")
        weight_of = dict(zip(table["id"], table["weight"], strict=True))
        here = {i: w for i, w in weight_of.items() if i in pool.position}
        subset = _checked(path.name, pool, here, [i for i in weight_of if i not in here])
        return _with_origin(subset, path)
    rows = _open_rows(path, mapping)
    weight_of = _sidecar_weights(path)
    found: dict[str, float] = {}
    unmatched: list[str] = []
    for n, (row_id, place) in enumerate(_places(rows, pool).items()):
        if place is None:
            unmatched.append(row_id if unmatched else _told(rows, n))
        else:
            found[place] = found.get(place, 0.0) + weight_of.get(row_id, 1.0)
    unmatched += [f"{rows.rejected} unreadable rows"] * rows.rejected
    return _with_origin(_checked(path.stem.split(".")[0], pool, found, unmatched), sidecar_of(path))


def read_reasons(path: str | Path) -> dict[str, tuple[bool, str]]:
    """Row id -> (kept, why in plain words), from a `select` run or a subset's sidecar; empty where neither tells.

    Raises:
        FormatError: The sidecar is damaged.
    """
    path = Path(path).expanduser()
    if (path / "config.yaml").is_file():
        run = RunFolder.existing(path)
        texts = run.read_record()["content"].get("selection", {}).get("reasons", {})
        rows = run.read_table("selection")
        why = [texts.get(code, {}).get("text", code) for code in rows["reason"]]
        return {i: (bool(kept), w) for i, kept, w in zip(rows["id"], rows["kept"], why, strict=True)}
    columns = _columns(sidecar_of(path) / "reasons.parquet")
    if not {"id", "kept", "reason_text"} <= set(columns):  # another tool's
        return {}
    return {i: (k, w) for i, k, w in zip(columns["id"], columns["kept"], columns["reason_text"], strict=True)}


def _open_rows(path: Path, mapping: Mapping[str, str] | None) -> Pool:
    """The file read as the pool is, or by its own columns where it has others."""
    from dataworth.formats import open_pool

    try:
        return open_pool(path, mapping=mapping)
    except (RequestError, FormatError):
        if not mapping or not path.exists():
            raise
        return open_pool(path)


def _places(rows: Pool, pool: Pool) -> dict[str, str | None]:
    """Row id -> id in the pool, or None.

    A row that the file holds more often than the pool is the pool's row again, so that its weights add up.
    """
    place: dict[str, str | None] = {}
    for row_id in rows.ids:
        bare = row_id.partition("#")[0]
        place[row_id] = row_id if row_id in pool.position else bare if bare in pool.position else None
    if None in place.values():
        by_text: dict[bytes, str] = {}
        for example in pool.examples():
            by_text.setdefault(_text_key(example), example.id)
        for n, row_id in enumerate(rows.ids):
            if place[row_id] is None:
                place[row_id] = by_text.get(_text_key(rows.example(n)))
    return place


def _told(rows: Pool, number: int) -> str:
    """A row for a person who has the file before him."""
    said = " ".join(rows.example(number).shown.split())
    which = "readable row" if rows.rejected else "row"
    return f"{which} {number + 1:,}, {said[:_SAID]!r}"


def _text_key(example: Example) -> bytes:
    turns = [(m.role, " ".join(m.content.split())) for m in example.messages]
    told: tuple[object, ...] = (turns, " ".join(example.text.split()))
    if example.kind == "classify":  # a class is part of what is learned, and an image has no text
        content = example.content if example.content is None else np.asarray(example.content).tobytes()
        told = (*told, example.label, content)
    return hashlib.blake2b(repr(told).encode(), digest_size=16).digest()


def _sidecar_weights(path: Path) -> dict[str, float]:
    columns = _columns(sidecar_of(path) / "weights.parquet")
    return dict(zip(columns["id"], columns["weight"], strict=True)) if columns else {}


def _with_origin(subset: Subset, folder: Path) -> Subset:
    path = folder / ORIGIN
    if not path.is_file():
        if (folder / "config.yaml").is_file():
            raise RequestError(f"{folder} doesn't say which goal rows it saw: select again with this version")
        return subset
    found = read_json(path, "restore or delete it", {"steer": list})
    try:
        told = Forecast.from_dict(found["forecast"]) if found.get("forecast") else None
    except TypeError:
        raise damaged(path, "a forecast with other fields", "what `select` wrote", "restore or delete it") from None
    return replace(subset, seen=frozenset(found["steer"]), forecast=told, of=found.get("of") or {})


def _columns(table: Path) -> dict[str, list[Any]]:
    """Columns of a table beside the rows; none if it isn't there.

    Raises:
        FormatError: It is damaged.
    """
    if not table.is_file():
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return dict(pq.read_table(table.absolute()).to_pydict())
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{table} can't be read: expected a Parquet table; restore or delete it") from error


def _checked(name: str, pool: Pool, found: Mapping[str, float], unmatched: list[str]) -> Subset:
    total = len(found) + len(unmatched)
    if not found or len(unmatched) > MOST_UNMATCHED * total:
        first = "".join(unmatched[:1])
        raise RequestError(
            f"{name}: {len(unmatched):,} of {total:,} rows are not in the pool (first {first}): expected at most "
            f"{MOST_UNMATCHED:.0%}; give the pool it was picked from, and its --map"
        )
    order = np.argsort([pool.position[i] for i in found])
    ids = [list(found)[n] for n in order]
    return Subset(name, tuple(ids), tuple(found[i] for i in ids), tuple(unmatched))
