"""Pools and goals of the reproductions, written from the real datasets under DATAWORTH_DATA."""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from dataworth.formats.sidecar import sidecar_of
from dataworth.store import atomic

MAP = ("prompt=question", "completion=rationale+answer")
PARTS = {"steer": 32, "tune": 200, "judge": 500}
UPPER = 10
"""Layers of SmolLM2's 30 that the proofs train, over cached states of the others: a third of the time."""


def parser(doc: str | None, full: Mapping[str, int], name: str) -> argparse.ArgumentParser:
    """The flags of a reproduction of proofs called `name`; the stated sizes in `full` are flags, too."""
    out = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--model", default="smollm2")
    out.add_argument("--device", default="auto")
    out.add_argument("--workers", type=int, default=None)
    out.add_argument("--lora-layers", type=int, default=UPPER, help="as in the recipe; 0: adapters everywhere")
    out.add_argument("--dtype", choices=("auto", "bf16", "fp32"), default="auto", help="as in the recipe")
    out.add_argument("--work", type=Path, default=Path("runs") / name, help="runs, picks and pools")
    state = Path("reproductions/results/trials")
    out.add_argument("--state", type=Path, default=state, help="the trials that are kept, of all these proofs")
    out.add_argument("--out", type=Path, default=None, help="the result; below reproductions/results unless told")
    out.add_argument("--json", action="store_true")
    for size, value in full.items():
        out.add_argument(f"--{size.replace('_', '-')}", type=int, default=value)
    return out


def recipe_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the recipe says beyond its defaults."""
    told = {"epochs": args.epochs, "lora_layers": args.lora_layers}
    return told if args.dtype == "auto" else {**told, "dtype": args.dtype}


def stated(args: argparse.Namespace, full: Mapping[str, int]) -> dict[str, Any]:
    """What a result says of its sizes first."""
    small = [n for n, v in full.items() if getattr(args, n) < v]
    verdict = f"not reproduced: below the stated sizes ({', '.join(small)})" if small else "at the stated sizes"
    return {"verdict": verdict, "sizes": {n: getattr(args, n) for n in full}}


def so_far(verdict: str, missing: Sequence[str]) -> str:
    """What a result says of its sizes while some of its proofs are still to be run."""
    return f"{verdict}; so far without {' and '.join(missing)}" if missing else verdict


def keep_result(args: argparse.Namespace, default: str, result: Mapping[str, Any]) -> None:
    """Write a result where it was asked for, or to `default` below the committed ones."""
    out = args.out or Path("reproductions/results") / default
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


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
    """A file with this text; an equal one is left alone."""
    return atomic.settle(path, text.encode())


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
    return goal_of(name, [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))], folder)


def goal_of(name: str, rows: list[dict[str, Any]], folder: Path, more: dict[str, Any] | None = None) -> Path:
    """A goal.yaml with the first rows as its parts, in order; `more` goes into its subtask."""
    entry: dict[str, Any] = {"name": name, "judge_kind": "loss", **(more or {})}
    start = 0
    for part, count in PARTS.items():
        entry[part] = write(folder / f"{name}-{part}.jsonl", rows[start : start + count]).name
        start += count
    return settle(folder / f"{name}.yaml", yaml.safe_dump({"subtasks": [entry]}))


def told(out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of every row of the pool, by what `select` wrote beside its picks: is it kept, and is it near the goal."""
    why = pq.read_table(sidecar_of(out) / "reasons.parquet", columns=["kept", "reason"]).to_pydict()
    return np.array(why["kept"]), np.array(why["reason"]) == "near-goal"


def write_lines(path: Path, pool: Path, keep_N: np.ndarray) -> Path:
    """The lines of a pool's file at which `keep_N` is true, byte for byte."""
    lines = pool.read_text().splitlines(keepends=True)
    return settle(path, "".join(line for line, keep in zip(lines, keep_N, strict=True) if keep))


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
