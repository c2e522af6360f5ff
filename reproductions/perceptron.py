"""Keep hard when examples abound, easy when they are scarce: the perceptron. `python -m reproductions.perceptron`.

(a) The table: test error of the largest-margin perceptron on the hard, easy and random half of alpha * N examples,
simulated and by theory, and with a probe at an angle to the teacher. (b) The switch: in how many draws the side that
theory names is better. (c) The curves: error against kept size, unpruned and pruned to the hard from several initial
sizes, and the exponent of each: whether choosing beats the power law.

Every cell is kept in the ledger as it finishes; the same command goes on. One core takes some minutes at the stated
sizes.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataworth.laws.abundance import crossover, predict
from dataworth.numerics.perceptron import Keep, simulated_error
from reproductions.less_fidelity import Ledger

FULL = {"width": 150, "repetitions": 10, "curve_repetitions": 5}
LISTS = {
    "alphas": (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
    "degrees": (0.0, 30.0),
    "initial": (4.0, 8.0, 16.0, 32.0),
    "kept": (1.0, 2.0, 4.0, 8.0),
}
KEEP: tuple[Keep, ...] = ("hard", "easy", "random")
SHARE, TOLERANCE = 0.5, 0.02
TILTED = {4.0: (0.206, 0.196, 0.190), 8.0: (0.085, 0.167, 0.118)}
"""What another simulation gave with a probe at 30 degrees: hard, easy, random."""


@dataclass(frozen=True)
class Cell:
    """Draws of one setting; the same draws for all three ways of keeping."""

    width: int
    alpha: float
    share: float
    keep: Keep
    degrees: float
    repetitions: int

    @property
    def key(self) -> str:
        """The cell's name in the ledger."""
        return f"{self.width} {self.alpha:g} {self.share:g} {self.keep} {self.degrees:g} {self.repetitions}"


def errors(cell: Cell) -> list[float]:
    """Test errors of a cell's repetitions."""
    out = []
    for n in range(cell.repetitions):
        rng = np.random.default_rng([n, cell.width, round(1000 * cell.alpha)])
        out.append(simulated_error(cell.width, cell.alpha, cell.share, cell.keep, rng, cell.degrees))
    return out


def filled(cells: Iterable[Cell], ledger: Ledger, jobs: int) -> dict[Cell, list[float]]:
    """Every cell's errors: from the ledger, or made and kept there."""
    wanted = list(dict.fromkeys(cells))
    missing = [c for c in wanted if c.key not in ledger.found]
    if jobs > 1 and missing:
        with ProcessPoolExecutor(jobs) as pool:
            for cell, found in zip(missing, pool.map(errors, missing), strict=True):
                ledger.get(cell.key, lambda found=found: found)
    return {c: ledger.get(c.key, lambda c=c: errors(c)) for c in wanted}


def table(args: argparse.Namespace, ledger: Ledger) -> list[dict[str, Any]]:
    """Part (a): one line per alpha, angle and way of keeping."""
    grid = [(a, d, k) for d in args.degrees for a in args.alphas for k in KEEP if d == 0 or a in TILTED]
    cells = {g: Cell(args.width, g[0], SHARE, g[2], g[1], args.repetitions) for g in grid}
    found = filled(cells.values(), ledger, args.jobs)
    out = []
    for (alpha, degrees, keep), cell in cells.items():
        draws = np.array(found[cell])
        if degrees == 0:
            expected = predict(alpha, keep, SHARE).error
        else:
            expected = TILTED[alpha][KEEP.index(keep)] if degrees == 30 else float("nan")
        line = {"alpha": alpha, "degrees": degrees, "keep": keep, "error": float(draws.mean()), "expected": expected}
        line["se"] = float(draws.std(ddof=1) / np.sqrt(len(draws))) if len(draws) > 1 else None
        line["within"] = bool(abs(line["error"] - expected) <= TOLERANCE)
        out.append(line)
    return out


def switch(args: argparse.Namespace, ledger: Ledger) -> list[dict[str, Any]]:
    """Part (b): draws in which the side that theory names has the smaller error, with a perfect probe."""
    out = []
    for alpha in args.alphas:
        cells = {k: Cell(args.width, alpha, SHARE, k, 0.0, args.repetitions) for k in KEEP[:2]}
        found = filled(cells.values(), ledger, args.jobs)
        side = min(cells, key=lambda k: predict(alpha, k, SHARE).error)
        other: Keep = "easy" if side == "hard" else "hard"
        better = [a < b for a, b in zip(found[cells[side]], found[cells[other]], strict=True)]
        out.append({"alpha": alpha, "side": side, "right": sum(better), "draws": len(better)})
    return out


def curves(args: argparse.Namespace, ledger: Ledger) -> dict[str, Any]:
    """Part (c): errors by kept size, of the unpruned and of each initial size, and the two exponents."""
    cells: dict[tuple[str, float], Cell] = {}
    for kept in args.kept:
        cells["unpruned", kept] = Cell(args.width, kept, 1.0, "random", 0.0, args.curve_repetitions)
        for initial in args.initial:
            if initial > kept:
                cells[f"{initial:g}", kept] = Cell(
                    args.width, initial, kept / initial, "hard", 0.0, args.curve_repetitions
                )
    found = filled(cells.values(), ledger, args.jobs)
    lines = [
        {
            "initial": name,
            "kept": kept,
            "error": float(np.mean(found[cell])),
            "theory": predict(cell.alpha, cell.keep, cell.share).error,
        }
        for (name, kept), cell in cells.items()
    ]
    draws = {key: np.array(found[cell]) for key, cell in cells.items()}
    return {
        "lines": lines,
        "exponents": exponents(draws, args.kept),
        "exponents by theory": slopes({(p["initial"], p["kept"]): p["theory"] for p in lines}, args.kept),
    }


def exponents(draws: dict[tuple[str, float], np.ndarray], kept: list[float], resamples: int = 1000) -> dict[str, Any]:
    """Both exponents of the mean errors and of their difference, with 95 % intervals over resampled repetitions."""
    rng = np.random.default_rng(0)
    point = slopes({key: float(values.mean()) for key, values in draws.items()}, kept)
    again = [
        slopes({key: float(rng.choice(values, len(values)).mean()) for key, values in draws.items()}, kept)
        for _ in range(resamples)
    ]
    out: dict[str, Any] = {}
    for name, value in point.items():
        low, high = np.quantile([a[name] for a in again], [0.025, 0.975])
        out[name] = {"value": value, "low": float(low), "high": float(high)}
    return out


def slopes(errors_by: dict[tuple[str, float], float], kept: list[float]) -> dict[str, float]:
    """Exponents b of error ~ kept^-b: without pruning, and of the least error of all initial sizes at a kept size."""
    best = [min(e for (_, k), e in errors_by.items() if k == size) for size in kept]
    plain = [errors_by["unpruned", size] for size in kept]
    log_size = np.log(kept)
    fits = {n: -float(np.polyfit(log_size, np.log(e), 1)[0]) for n, e in (("unpruned", plain), ("pruned", best))}
    return {**fits, "pruned - unpruned": fits["pruned"] - fits["unpruned"]}


def stated(args: argparse.Namespace) -> str:
    """What the result says of its sizes first."""
    small = [n for n, v in FULL.items() if getattr(args, n) < v]
    small += [n for n, v in LISTS.items() if not set(v) <= set(getattr(args, n))]
    return f"not reproduced: below the stated sizes ({', '.join(small)})" if small else "at the stated sizes"


def main(arguments: list[str] | None = None) -> None:
    """Run or resume, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--ledger", type=Path, default=Path("reproductions/results/perceptron.jsonl"))
    parser.add_argument("--json", action="store_true")
    for name, size in FULL.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=size)
    for name, values in LISTS.items():
        parser.add_argument(f"--{name}", type=float, nargs="+", default=list(values))
    args = parser.parse_args(arguments)
    ledger = Ledger(args.ledger)
    lines = table(args, ledger)
    result = {
        "verdict": stated(args),
        "sizes": {n: getattr(args, n) for n in (*FULL, *LISTS)},
        "machine": platform.platform(),
        "table": lines,
        "within tolerance": f"{sum(p['within'] for p in lines)} of {len(lines)} cells within {TOLERANCE}",
        "crossover at half by theory": crossover(SHARE),
        "switch": switch(args, ledger),
        "curves": curves(args, ledger),
    }
    args.ledger.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [result["verdict"], "half kept; test error (expected):"]
    by_row: dict[tuple[float, float], list[str]] = {}
    for p in result["table"]:
        mark = "" if p["within"] else " !"
        cell = f"{p['keep']} {p['error']:.3f} ({p['expected']:.3f}){mark}"
        by_row.setdefault((p["degrees"], p["alpha"]), []).append(cell)
    lines += [f"  probe at {d:2g} degrees, alpha {a:4g}: {'  '.join(cells)}" for (d, a), cells in by_row.items()]
    lines += [result["within tolerance"], f"crossover by theory at alpha {result['crossover at half by theory']:.2f}"]
    lines += [f"alpha {s['alpha']:4g}: {s['side']} better in {s['right']} of {s['draws']}" for s in result["switch"]]
    lines.append("error against kept size (theory):")
    by_initial: dict[str, list[str]] = {}
    for p in result["curves"]["lines"]:
        by_initial.setdefault(p["initial"], []).append(f"{p['kept']:g}: {p['error']:.4f} ({p['theory']:.4f})")
    lines += [f"  from {name:>8}: {'  '.join(cells)}" for name, cells in by_initial.items()]
    for name, e in result["curves"]["exponents"].items():
        theory = result["curves"]["exponents by theory"][name]
        lines.append(f"exponent {name}: {e['value']:.2f} [{e['low']:.2f}, {e['high']:.2f}] (theory {theory:.2f})")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
