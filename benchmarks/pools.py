"""Rates and memory of reading a pool, making ids, reading rows back and writing a subset.

    python -m benchmarks.pools --rows 1000000 --json

The text is generated (seeded), a prompt and a completion of some 40 words together per row; one row in a
hundred repeats an earlier one. Peak RSS is that of this process, which does everything but writing the text.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dataworth.formats import open_pool, write_subset
from dataworth.records import hash_unit

_SYLLABLES = (
    "ka",
    "lo",
    "mi",
    "ren",
    "ta",
    "vos",
    "shi",
    "ul",
    "per",
    "en",
    "dra",
    "quo",
    "fi",
    "ba",
    "stel",
    "o",
)


def generate(path: Path, rows: int, seed: int) -> None:
    """Write `rows` JSON lines with the columns source, prompt and completion."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(20_000)]
    recent = ""
    with path.open("w", encoding="utf-8") as file:
        for i in range(rows):
            if i % 100 == 99:
                file.write(recent)
                continue
            picked = rng.choices(words, k=rng.randint(20, 60))
            cut = len(picked) // 3
            row = {
                "source": f"s{i % 7}",
                "prompt": " ".join(picked[:cut]) + "?",
                "completion": " ".join(picked[cut:]),
            }
            recent = json.dumps(row) + "\n"
            file.write(recent)


def measure(path: Path, out: Path, seed: int) -> dict[str, Any]:
    """Index, read back and write 5 %; seconds, rates and peak resident memory after each step."""
    steps: dict[str, Any] = {}

    def timed(name: str, work: Callable[[], Any], rows: int | None = None) -> Any:
        start, start_cpu = time.perf_counter(), time.process_time()
        result = work()
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        count = len(result) if rows is None else rows
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        steps[name] = {
            "rows": count,
            "seconds": round(seconds, 3),
            "rows_per_s": round(count / seconds),
            "rows_per_cpu_s": round(count / cpu),
            "peak_rss_gib": round(peak, 3),
        }
        return result

    pool = timed("index", lambda: open_pool(path))
    timed("ids", lambda: pool.ids)
    timed("examples", lambda: sum(len(e.response) for e in pool.examples()), rows=len(pool))
    keep = np.flatnonzero(hash_unit(pool.ids, seed, "benchmark") < 0.05)
    timed("write_subset", lambda: write_subset(pool, keep, out), rows=len(keep))
    return {"bytes": path.stat().st_size, "copies": pool.copies, "steps": steps}


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--generate-into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.generate_into:
        generate(options.generate_into, options.rows, options.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.jsonl"
        again = [
            sys.executable,
            "-m",
            "benchmarks.pools",
            "--rows",
            str(options.rows),
            "--seed",
            str(options.seed),
        ]
        subprocess.run([*again, "--generate-into", str(path)], check=True)
        figures = measure(path, Path(folder) / "picked.jsonl", options.seed)
    figures = {
        "benchmark": "pools",
        "rows": options.rows,
        "seed": options.seed,
        **figures,
        "machine": machine(),
    }
    print(json.dumps(figures) if options.json else _lines(figures))


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "commit": commit.stdout.strip(),
    }


def _lines(figures: dict[str, Any]) -> str:
    return "\n".join(
        f"{name:<13}{step['rows']:>11,} rows {step['seconds']:>8.2f} s {step['rows_per_s']:>11,} rows/s"
        f"{step['rows_per_cpu_s']:>11,} rows/CPU-s   peak {step['peak_rss_gib']:.2f} GiB"
        for name, step in figures["steps"].items()
    )


if __name__ == "__main__":
    main()
