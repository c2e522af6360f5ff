"""The command line over a million generated rows: time, and the peak memory of the whole process tree.

    python -m benchmarks.million --rows 1000000 --bm25-rows 200000 --json

`dataworth select --method length` reads, identifies, scores, picks and writes; `bm25` runs on fewer rows with a goal
of 20. Memory is the sum of resident sets over the tree, sampled ten times a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from benchmarks.pools import generate, machine


def run(words: list[str], folder: Path) -> dict[str, Any]:
    """Run a command to its end; seconds, CPU-seconds and peak summed RSS in MiB."""
    started = time.perf_counter()
    process = psutil.Popen([sys.executable, "-m", "dataworth.cli", *words], cwd=folder, stdout=subprocess.DEVNULL)
    peak, cpu = 0, 0.0
    while process.poll() is None:
        try:
            tree = [process, *process.children(recursive=True)]
            peak = max(peak, sum(p.memory_info().rss for p in tree))
            cpu = sum(sum(p.cpu_times()[:2]) for p in tree)
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.1)
    if process.returncode != 0:
        raise SystemExit(f"{words} exited with {process.returncode}")
    return {"seconds": time.perf_counter() - started, "cpu_seconds": cpu, "peak_mib": peak / 2**20}


def main() -> None:
    """Generate, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bm25-rows", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="unused: nothing here runs a model")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "pool.jsonl", args.rows, args.seed)
        generate(folder / "goal.jsonl", 20, args.seed + 1)
        with (folder / "pool.jsonl").open("rb") as source, (folder / "part.jsonl").open("wb") as part:
            part.writelines(islice(source, args.bm25_rows))
        result = {
            "length": {"rows": args.rows}
            | run(["select", "pool.jsonl", "--method", "length", "--keep", "5%", "-o", "long.jsonl"], folder),
            "bm25": {"rows": args.bm25_rows}
            | run(["select", "part.jsonl", "--goal", "goal.jsonl", "--keep", "5%", "-o", "near.jsonl"], folder),
            "machine": machine(),
        }
        kept = sum(1 for _ in (folder / "long.jsonl").open("rb"))
        assert kept == int(args.rows * 0.05), kept
    for name in ("length", "bm25"):
        result[name]["rows_per_second"] = result[name]["rows"] / result[name]["seconds"]
    sys.stdout.write(json.dumps(result, indent=None if args.json else 1) + "\n")


if __name__ == "__main__":
    main()
