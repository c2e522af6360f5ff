"""Pools and goals of the reproductions, written from the real datasets under DATAWORTH_DATA."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml

MAP = ("prompt=question", "completion=rationale+answer")
PARTS = {"steer": 32, "tune": 200, "judge": 500}


def data_folder() -> Path:
    """Where the datasets are."""
    if not os.environ.get("DATAWORTH_DATA"):
        raise SystemExit("set DATAWORTH_DATA to the folder of the datasets")
    return Path(os.environ["DATAWORTH_DATA"])


def read(name: str) -> list[dict[str, Any]]:
    """Rows of a .jsonl.gz below the data folder."""
    with gzip.open(data_folder() / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSON lines."""
    return settle(path, "".join(json.dumps(r) + "\n" for r in rows))


def settle(path: Path, text: str) -> Path:
    """A file with this text; an equal one is left alone, since a run knows its inputs by size and date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path


def mixture(out: Path, per_source: int, seed: int = 0) -> Path:
    """`per_source` rows of every source of flan_cot."""
    rows = read("flan_cot/flan_cot.jsonl.gz")
    rng = np.random.default_rng(seed)
    chosen = []
    for source in sorted({r["source"] for r in rows}):
        of_source = [r for r in rows if r["source"] == source]
        chosen += [of_source[i] for i in sorted(rng.choice(len(of_source), per_source, replace=False))]
    return write(out, chosen)


def goal(name: str, dataset: str, folder: Path, seed: int = 0) -> Path:
    """A goal.yaml with 32 steer, 200 tune and 500 judge rows of a dataset, drawn in that order."""
    rows = read(dataset)
    order = np.random.default_rng(seed).permutation(len(rows))
    entry: dict[str, str] = {"name": name, "judge_kind": "loss"}
    start = 0
    for part, count in PARTS.items():
        positions, start = order[start : start + count], start + count
        entry[part] = write(folder / f"{name}-{part}.jsonl", [rows[i] for i in positions]).name
    return settle(folder / f"{name}.yaml", yaml.safe_dump({"subtasks": [entry]}))


def twin_pool(folder: Path, sides: tuple[str, str], per_side: int, seed: int) -> tuple[Path, list[str], list[Path]]:
    """A length-matched pool of two sources in one format, its labels, and 32 other rows of each side as two goals.

    Both sides get the same number of rows from each of 20 bins of the length in characters of all that is read: matched
    on completions alone, the score `length` told the sides apart by their prompts.
    """
    rows = [r for r in read("flan_cot/flan_cot.jsonl.gz") if r["source"] in sides]
    rng = np.random.default_rng(seed)
    rng.shuffle(rows)  # type: ignore[arg-type]
    steer = {s: [r for r in rows if r["source"] == s][: PARTS["steer"]] for s in sides}
    taken = {json.dumps(r) for of_side in steer.values() for r in of_side}
    rows = [r for r in rows if json.dumps(r) not in taken]
    length = np.array([sum(len(r[part]) for part in ("question", "rationale", "answer")) for r in rows])
    edges = np.quantile(length, np.linspace(0, 1, 21)[1:-1])
    bins = np.digitize(length, edges)
    side = np.array([r["source"] for r in rows])
    matched = {b: min(int(((bins == b) & (side == s)).sum()) for s in sides) for b in range(20)}
    share = min(1.0, per_side / sum(matched.values()))
    chosen: list[int] = []
    for b, count in matched.items():
        for s in sides:
            chosen += np.flatnonzero((bins == b) & (side == s))[: int(count * share)].tolist()
    chosen = [chosen[i] for i in rng.permutation(len(chosen))]

    def bare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: r[k] for k in ("question", "answer", "rationale")} for r in rows]

    name = f"twin-{'-'.join(sides)}-{seed}"
    goals = [write(folder / f"{name}-goal-{s}.jsonl", bare(of_side)) for s, of_side in steer.items()]
    return write(folder / f"{name}.jsonl", bare([rows[i] for i in chosen])), [side[i] for i in chosen], goals
