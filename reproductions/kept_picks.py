"""Picks as committed files: scores differ in their last bits between CPUs, and with them a few of the rows kept.

A proof that goes on elsewhere must train the same rows, or its trials aren't those that are kept. What stands beside a
subset says which they are, without their texts; one folder a pick, with the request it answers.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import dataworth as dw
from dataworth.formats.sidecar import sidecar_of
from dataworth.store.atomic import settle
from reproductions import flan

BESIDE = ("reasons.parquet", "weights.parquet", "origin.json")
REQUEST = "request.json"


def select(folder: Path, pool: Path, out: Path, *, goal: Path, run: Path, progress: Any, **request: Any) -> Path:
    """`dw.select` from a pool into `out`, or what it kept when `folder` has the same request's."""
    kept, beside = folder / goal.stem / out.stem, sidecar_of(out)
    asked = {name: value for name, value in request.items() if name not in ("device", "workers")}
    asked["recipe"] = Path(request["recipe"]).read_text()
    asked["files"] = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (pool, *parts(goal))}
    asked = json.loads(json.dumps(asked))
    if (kept / REQUEST).is_file() and json.loads((kept / REQUEST).read_text()) == asked:
        beside.mkdir(parents=True, exist_ok=True)
        for name in BESIDE:
            settle(beside / name, (kept / name).read_bytes())
        return flan.write_lines(out, pool, flan.told(out)[0])
    dw.select(str(pool), goal=str(goal), run=str(run), out=str(out), progress=progress, **request)
    kept.mkdir(parents=True, exist_ok=True)
    for name in BESIDE:
        shutil.copyfile(beside / name, kept / name)
    (kept / REQUEST).write_text(json.dumps(asked, indent=1) + "\n")
    return out


def parts(goal: Path) -> list[Path]:
    """A goal's file and those of its parts, which lie beside it under its name."""
    return [goal, *(goal.parent / f"{goal.stem}-{part}.jsonl" for part in flan.PARTS)]
