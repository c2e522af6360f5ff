"""Trials as committed files: what a proof that spans days goes on from, on another machine or in a fresh checkout.

One Parquet file for each set of judges, one row a trial with its number per judged set and its outcomes per item. A
trial is known by its content, so what doesn't fit (another learner, other judge rows) is simply not used.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataworth.store.artefact import Artefact
from dataworth.store.atomic import write_atomic
from dataworth.store.cache import Cache

FLAT = {"mean": np.float64, "count": np.int32, "tokens": np.int64}
RAGGED = {"value": np.float64, "weight": np.float64, "row": np.int32}
STAGES = ("trials", "learning rates")


class KeptTrials:
    """Progress on stderr that keeps finished trials below `folder`, after putting those that lie there into the cache.

    Kept are those whose first judged set is `goal`.
    """

    def __init__(self, folder: Path, goal: str) -> None:
        self.folder, self.goal = folder, goal
        for path in sorted(folder.glob("*.parquet")):
            restore(path)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Keep what a stage of trials has finished."""
        if stage in STAGES:
            self.keep()
            print(f"{stage}: {done} of {total}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Print what a proof says between trials."""
        print(text, file=sys.stderr, flush=True)

    def keep(self) -> None:
        """Write the file of every judged set that has more trials than its file."""
        root = Cache().root / "trials"
        for found in sorted(root.iterdir()) if root.is_dir() else ():
            spec = json.loads((found / "spec.json").read_text())
            if spec["judged"][0]["name"] != self.goal:
                continue
            path = self.folder / f"{found.name[:12]}.parquet"
            trials = Artefact(found, spec)
            if not path.exists() or _scored(pq.read_table(path, columns=["unscored"])) < _known(trials):
                store(path, trials)


def _scored(table: pa.Table) -> tuple[int, int]:
    return table.column("unscored").null_count, table.num_rows


def _known(trials: Artefact) -> tuple[int, int]:
    return int(trials.table(trials.ids).scored_N.sum()), len(trials)


def store(path: Path, trials: Artefact) -> None:
    """Write all trials of an artefact, whole or not at all."""
    table = trials.table(trials.ids)
    scored = [i for i in trials.ids if i not in table.unscored]
    columns: dict[str, Any] = {"id": scored}
    if scored:
        columns |= {name: list(table.column(name)) for name in FLAT}
        columns |= {name: table.ragged(name) for name in RAGGED}
    failed = [{"id": i, "unscored": why} for i, why in table.unscored.items()]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)] + failed
    written = pa.Table.from_pylist(rows, _SCHEMA.with_metadata({"spec": json.dumps(trials.spec)}))
    sink = pa.BufferOutputStream()
    pq.write_table(written, sink, compression="zstd", compression_level=19)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, sink.getvalue().to_pybytes())


def restore(path: Path) -> None:
    """Put the trials of a file into the cache, those that aren't there."""
    table = pq.read_table(path)
    trials = Cache().artefact("trials", json.loads(table.schema.metadata[b"spec"]))
    rows = {row["id"]: row for row in table.to_pylist()}
    for shard in trials.plan(trials.missing(rows), shard_rows=max(1, len(rows))):
        scored = [rows[i] for i in shard.ids if rows[i]["unscored"] is None]
        flat = {name: np.array([row[name] for row in scored], dtype) for name, dtype in FLAT.items()}
        ragged = {name: [np.array(row[name], dtype) for row in scored] for name, dtype in RAGGED.items()}
        failed = {i: rows[i]["unscored"] for i in shard.ids if rows[i]["unscored"] is not None}
        trials.commit(shard, {**flat, **ragged} if scored else {}, failed)


_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("mean", pa.list_(pa.float64())),
        ("count", pa.list_(pa.int32())),
        ("tokens", pa.int64()),
        ("value", pa.list_(pa.float64())),
        ("weight", pa.list_(pa.float64())),
        ("row", pa.list_(pa.int32())),
        ("unscored", pa.string()),
    ]
)
