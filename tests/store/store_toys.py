"""A deterministic artefact for the store's tests: values are functions of the id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dataworth.store import Artefact, Cache, Shard

SPEC = {"probe": "toy", "width": 3}


def row_ids(n: int, salt: str = "") -> list[str]:
    return [hashlib.md5(f"{salt}{i}".encode()).hexdigest() for i in range(n)]


def value(row_id: str) -> int:
    return int(row_id[:6], 16)


def columns_of(ids: Sequence[str]) -> dict:
    return {
        "wide": np.array([[value(i), value(i) + 1, value(i) + 2] for i in ids], dtype=np.int64).reshape(-1, 3),
        "ragged": [np.full(int(i[0], 16), value(i), dtype=np.int32) for i in ids],
    }


def unscored_of(shard: Shard) -> dict[str, str]:
    return {i: "empty mask" for i in shard.ids if i.endswith("0")}


def fill(root: Path, ids: Sequence[str], shard_rows: int = 16) -> Artefact:
    artefact = Cache(root).artefact("toy", SPEC)
    for shard in artefact.plan(ids, shard_rows):
        artefact.commit(shard, columns_of(shard.ids), unscored_of(shard))
    return artefact
