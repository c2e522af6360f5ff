"""What stands beside a written subset: why each row was kept or dropped, weights, and the dataset card."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataworth.formats.images import ImageFolder
from dataworth.formats.subset import all_or_nothing
from dataworth.records import Pool
from dataworth.results import Scored, Selection

ORIGIN = "origin.json"
"""What a selection saw of the goal and what it foretold, in its run folder and beside its subset."""


def sidecar_of(out: str | Path) -> Path:
    """The folder beside a subset: `picked.jsonl` -> `picked.jsonl.dataworth`."""
    return Path(f"{out}.dataworth")


def write_sidecar(
    out: str | Path,
    pool: Pool,
    selection: Selection,
    scores: Mapping[str, Scored],
    card: str,
    origin: Mapping[str, Any],
) -> list[Path]:
    """Write `OUT.dataworth/{reasons.parquet, weights.parquet, origin.json, card.md}`, each whole or not at all.

    `reasons.parquet` has one row per pool row, in pool order: id, file and offset (byte offset of its line, row number
    in tables), source, for rows with a class its label and for folders of images the file_name, kept, reason,
    reason_text, and per score its value (null where the row is unscored) and why it is unscored. `weights.parquet` has
    id and weight of the kept rows. `origin.json` has the ids of the goal rows that the selection saw (`steer`), so that
    no proof judges it by them, and its `forecast`.

    Returns:
        The files.

    Raises:
        RequestError: They can't be written.
    """
    folder = sidecar_of(out)
    weights = pa.table(
        {"id": pa.array(selection.ids, pa.string()), "weight": pa.array(selection.weights, pa.float64())}
    )
    written = {
        "reasons.parquet": lambda path: pq.write_table(_reasons(pool, selection, scores), path.absolute()),
        "weights.parquet": lambda path: pq.write_table(weights, path.absolute()),
        ORIGIN: lambda path: path.write_text(json.dumps(dict(origin)) + "\n", encoding="utf-8"),
        "card.md": lambda path: path.write_text(card, encoding="utf-8"),
    }
    targets = [folder / name for name in written]
    with all_or_nothing(targets) as aside:
        for target, write in zip(targets, written.values(), strict=True):
            write(aside[target])
            with aside[target].open("rb") as file:
                os.fsync(file.fileno())
    return targets


def _reasons(pool: Pool, selection: Selection, scores: Mapping[str, Scored]) -> pa.Table:
    ids = pool.ids
    codes = pa.array(selection.reason_code_N.astype(np.int32))
    texts = [selection.reason_texts.get(reason, reason) for reason in selection.reasons]
    columns: dict[str, Any] = {
        "id": pa.array(ids, pa.string()),
        "file": _words(pa.array(pool.file_N), [str(f.path) for f in pool.files]),
        "offset": pa.array(pool.offset_N),
        "source": _words(pa.array(pool.source_N), list(pool.sources)),
        **_named(pool),
        "kept": pa.array(selection.kept_N),
        "reason": _words(codes, list(selection.reasons)),
        "reason_text": _words(codes, texts),
    }
    for name, scored in scores.items():
        columns[f"score_{name}"] = pa.array(scored.values_N, pa.float64(), mask=np.isnan(scored.values_N))
        if scored.unscored:
            columns[f"unscored_{name}"] = pa.array([scored.unscored.get(i) for i in ids], pa.string())
    return pa.table(columns)


def _named(pool: Pool) -> dict[str, Any]:
    """What a person knows a row with a class by."""
    if pool.kinds != {"classify"}:
        return {}
    found: dict[str, Any] = {"label": pa.array([str(e.label) for e in pool.examples()], pa.string())}
    if all(file.format == "images" for file in pool.files):
        folders = [ImageFolder(file.path).names for file in pool.files]
        places = zip(pool.file_N.tolist(), pool.offset_N.tolist(), strict=True)
        names = (folders[file][number].as_posix() for file, number in places)
        found["file_name"] = pa.array([n.encode("utf-8", "backslashreplace").decode() for n in names], pa.string())
    return found


def _words(codes: pa.Array, words: list[str]) -> pa.Array:
    # A source name may hold a lone surrogate, which Arrow's UTF-8 can't.
    plain = [w.encode("utf-8", "backslashreplace").decode() for w in words]
    return pa.DictionaryArray.from_arrays(codes, pa.array(plain, pa.string()))
