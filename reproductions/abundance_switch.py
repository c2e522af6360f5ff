"""Does `--policy auto` find the end worth keeping? `python -m reproductions.abundance_switch`.

Pools of alpha * N Gaussian vectors in N dimensions with a random teacher's labels and their distance to its boundary as
a column; `select --method column:distance --policy auto --keep 50%` with a linear classifier, judged by tune rows of a
goal from the same teacher. Theory (`laws.abundance`) says which half is worth keeping: easy at alpha 1, hard at alpha
16. The verb isn't told alpha, nor which end is hard. At alpha 16 the halves differ by 0.0055 in theory: a fifth of the
goal's rows are tune rows, and 1,000 of them (`--goal-rows 5000`) leave that within their noise. Every draw is kept in
the ledger; the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

import dataworth as dw
from dataworth.laws.abundance import predict
from reproductions.less_fidelity import Ledger

FULL = {"width": 150, "draws": 10, "epochs": 100, "goal_rows": 50_000}
ALPHAS = (1.0, 16.0)
GOAL = 9
"""Of 10 draws at each alpha, as the claim was stated."""
_NOTE = re.compile(r"kept (the score's usual end|the other end).*accuracy ([\d.]+) on the usual end and ([\d.]+) on")


def right_side(alpha: float) -> str:
    """The half that theory keeps: hard, near the boundary, or easy."""
    return "hard" if predict(alpha, "hard", 0.5).error < predict(alpha, "easy", 0.5).error else "easy"


def draw(args: argparse.Namespace, alpha: float, number: int) -> dict[str, Any]:
    """One pool, goal and selection: which end was kept, and the two pilots' accuracies on tune rows."""
    rng = np.random.default_rng([number, args.width, round(1000 * alpha)])
    teacher = rng.normal(size=args.width) / np.sqrt(args.width)
    pool_ND, goal_ND = (
        rng.normal(size=(n, args.width)).astype(np.float32) for n in (round(alpha * args.width), args.goal_rows)
    )
    with TemporaryDirectory() as folder:
        place = Path(folder)
        for name, x_ND in (("pool", pool_ND), ("goal", goal_ND)):
            field_N = x_ND @ teacher
            np.savez(place / f"{name}.npz", vector=x_ND, label=(field_N > 0).astype(int), distance=np.abs(field_N))
        recipe = {"epochs": args.epochs, "batch_size": 64, "lr": 0.5, "augment": "none", "weight_decay": 0.0}
        (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        dw.goal(place / "goal.npz", place / "goal")
        found = dw.select(
            str(place / "pool.npz"),
            goal=str(place / "goal" / "goal.yaml"),
            model="linear",
            recipe=str(place / "recipe.yaml"),
            method="column:distance",
            policy="auto",
            keep="50%",
            workers=args.workers,
            device="cpu",
            run=str(place / "run"),
        )
    note = next(n for n in found.record["notes"] if n.startswith("--policy auto"))
    said = _NOTE.search(note)
    assert said is not None, note
    # The column is kept from its high end: rows far from the boundary, the easy ones.
    kept = "easy" if said[1] == "the score's usual end" else "hard"
    return {"kept": kept, "easy": float(said[2]), "hard": float(said[3]), "in doubt": "within its noise" in note}


def main(arguments: list[str] | None = None) -> None:
    """Run or resume, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, size in FULL.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=size)
    parser.add_argument("--alphas", type=float, nargs="+", default=list(ALPHAS))
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--ledger", type=Path, default=Path("reproductions/results/abundance_switch.jsonl"))
    args = parser.parse_args(arguments)
    ledger, lines = Ledger(args.ledger), []
    for alpha in args.alphas:
        sizes = " ".join(f"{getattr(args, n):g}" for n in FULL if n != "draws")
        draws = [ledger.get(f"{alpha:g} {sizes} {n}", lambda a=alpha, n=n: draw(args, a, n)) for n in range(args.draws)]
        side = right_side(alpha)
        right = sum(d["kept"] == side for d in draws)
        means = {end: float(np.mean([d[end] for d in draws])) for end in ("easy", "hard")}
        lines.append({"alpha": alpha, "side": side, "right": right, "draws": len(draws), "accuracy": means})
    small = [n for n, v in FULL.items() if getattr(args, n) < v] + (
        ["alphas"] if set(ALPHAS) - set(args.alphas) else []
    )
    result = {
        "verdict": f"not reproduced: below the stated sizes ({', '.join(small)})" if small else "at the stated sizes",
        "sizes": {n: getattr(args, n) for n in FULL},
        "machine": platform.platform(),
        "met": all(p["right"] >= GOAL / 10 * p["draws"] for p in lines),
        "switch": lines,
    }
    args.ledger.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(report(result) + "\n")


def report(result: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [
        f"alpha {p['alpha']:g}: kept the {p['side']} half, as theory does, in {p['right']} of {p['draws']} draws "
        f"(pilots' mean accuracy: easy {p['accuracy']['easy']:.3f}, hard {p['accuracy']['hard']:.3f})"
        for p in result["switch"]
    ]
    return "\n".join([result["verdict"], *lines, "met" if result["met"] else "not met"])


if __name__ == "__main__":
    main()
