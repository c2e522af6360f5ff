"""Stored int8 rows against a goal: exact int8 products against the fp32 way, interleaved in one process.

    python -m benchmarks.similarity --rows 1000000 --width 8192 --goal 256 --json

Every block of rows is read from a memory map once and given to every way, in rotating order, so that all of them meet
the same machine. Ways:

    fp32      what the LESS repository does: rows to float32, one fp32 product with all goal rows, then the reduction
    int8      exact int8 products with all goal rows (one plane), the same reduction
    int8x2    the same with the goal in two planes (rounding 2^-15)
    means     what the library does: products with the subtasks' mean directions (two planes), the same numbers

The reduction is LESS's: mean within a subtask, max over subtasks. Rows are random codes: speed doesn't depend on
them. The file holds `--file-rows` rows and is passed over until `--rows` rows were scored.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dataworth.numerics.similarity import unit_rows
from dataworth.probes.similarity import BLOCK_ROWS, GoalProduct

Way = Callable[[NDArray[np.int8], NDArray[np.float32]], NDArray[np.float32]]


def ways(goals_QP: NDArray[np.float32], subtasks: int, device: str) -> dict[str, Way]:
    """The ways to turn a block of codes and scales into one score per row."""
    goals = torch.from_numpy(goals_QP).to(device)
    one, two = (GoalProduct(goals_QP, device, planes) for planes in (1, 2))
    means = GoalProduct(goals_QP.reshape(subtasks, -1, goals_QP.shape[1]).mean(axis=1), device)

    def fp32(codes: NDArray[np.int8], scale: NDArray[np.float32]) -> NDArray[np.float32]:
        rows = torch.from_numpy(codes).to(device).float()
        product = (rows @ goals.t()).mul_(torch.from_numpy(scale).to(device)[:, None])
        return reduced(product.cpu().numpy())

    def reduced(product: NDArray[np.float32]) -> NDArray[np.float32]:
        return product.reshape(len(product), subtasks, -1).mean(axis=2).max(axis=1)

    return {
        "fp32": fp32,
        "int8": lambda codes, scale: reduced(one(codes, scale)),
        "int8x2": lambda codes, scale: reduced(two(codes, scale)),
        "means": lambda codes, scale: means(codes, scale).max(axis=1),
    }


def private_mib() -> float:
    """This process's private memory; mapped file pages, which the system may take back at any time, don't count."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) / 1024


def measure(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Score `--rows` rows by every way."""
    rng = np.random.default_rng(0)
    stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.int8, shape=(args.file_rows, args.width))
    for a in range(0, args.file_rows, BLOCK_ROWS):
        stored[a : a + BLOCK_ROWS] = rng.integers(-127, 128, size=stored[a : a + BLOCK_ROWS].shape, dtype=np.int8)
    stored.flush()
    scale_N = np.full(args.file_rows, 1 / np.sqrt(args.width * 127**2 / 3), dtype=np.float32)
    goals = unit_rows(rng.normal(size=(args.goal, args.width))).astype(np.float32)
    all_ways = ways(goals, args.subtasks, args.device)
    for way in all_ways.values():
        way(stored[:BLOCK_ROWS], scale_N[:BLOCK_ROWS])
    cpu, wall, gap = (dict.fromkeys(all_ways, 0.0) for _ in range(3))
    names, done, turn, memory = list(all_ways), 0, 0, []
    while done < args.rows:
        start = done % args.file_rows
        codes, scale = stored[start : start + BLOCK_ROWS], scale_N[start : start + BLOCK_ROWS]
        codes = np.ascontiguousarray(codes[: args.rows - done])
        scale = scale[: len(codes)]
        found = {}
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            before = time.process_time(), time.perf_counter()
            found[name] = all_ways[name](codes, scale)
            cpu[name] += time.process_time() - before[0]
            wall[name] += time.perf_counter() - before[1]
        for name in names:
            gap[name] = max(gap[name], float(np.abs(found[name] - found["fp32"]).max()))
        done, turn = done + len(codes), turn + 1
        memory.append(private_mib())
    # On a shared CPU the seconds spent on it are the measure; a GPU's work isn't in them.
    spent = cpu if args.device == "cpu" else wall
    return {
        "rows": done,
        "passes_over_the_file": round(done / args.file_rows, 2),
        "rows_per_second": {n: round(done / wall[n]) for n in names},
        "rows_per_cpu_second": {n: round(done / cpu[n]) for n in names},
        "ratio_to_fp32": {n: round(spent["fp32"] / spent[n], 2) for n in names},
        "largest_difference_to_fp32": {n: float(f"{gap[n]:.2g}") for n in names},
        "private_mib_first_tenth": round(max(memory[: max(1, len(memory) // 10)]), 1),
        "private_mib_peak": round(max(memory), 1),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--file-rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=8192)
    parser.add_argument("--goal", type=int, default=256)
    parser.add_argument("--subtasks", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.file_rows = min(args.file_rows, args.rows)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args, Path(folder) / "rows.npy")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    cpu = next((s.split(": ")[1] for s in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in s), "")
    result = {
        "benchmark": "similarity",
        "hardware": f"{cpu} ({torch.cuda.get_device_name() if args.device.startswith('cuda') else 'cpu'})",
        "threads": args.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit,
        "width": args.width,
        "goal_rows": args.goal,
        "subtasks": args.subtasks,
        "file_rows": args.file_rows,
        **result,
    }
    print(json.dumps(result, indent=None if args.json else 1))


if __name__ == "__main__":
    main()
