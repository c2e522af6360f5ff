"""Does `plan` tell what a selection will cost? `python -m reproductions.plan_check --case demo`.

`plan` (calibrated) and `select --method less` run one after the other as commands, the second from an empty
cache; predicted CPU-seconds are compared with what the second's processes used, children included, to within 30 %.
What finished is kept in `--work`; an interrupted select starts again from an empty cache, since only a whole one has a
price.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from dataworth.demo import RECIPE, WARMUP
from dataworth.demo_pool import GOOD_SHARE, write_demo
from dataworth.learners.load import find_smollm2, resolve_model
from reproductions import flan
from reproductions.less_fidelity import Ledger

ROWS = {"demo": 300, "flan": 2800}
TOLERANCE = 0.30


def demo_case(folder: Path, rows: int) -> list[str]:
    """The demo's pool, goal, recipe and warm-up, as flags."""
    paths = write_demo(folder, 0, rows)
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE.to_dict(), sort_keys=False))
    keep = str(round(GOOD_SHARE * rows))
    return [
        str(paths["pool"]),
        "--goal",
        str(paths["goal"]),
        "--recipe",
        str(recipe),
        "--option",
        WARMUP,
        "--keep",
        keep,
    ]


def flan_case(folder: Path, rows: int) -> list[str]:
    """Rows of every source of flan_cot with 32 rows of gsm8k as the goal, as flags."""
    pool = flan.mixture(folder / "flan.jsonl", rows // 7)
    goal = flan.goal("gsm8k", "gsm8k/test.jsonl.gz", folder)
    return [str(pool), "--goal", str(goal), *(part for m in flan.MAP for part in ("--map", m))]


def command(verb: str, flags: list[str], folder: Path) -> dict[str, Any]:
    """Run a verb on the case; what it printed, and the CPU and wall seconds of its processes."""
    run = [sys.executable, "-m", "dataworth.cli", verb, *flags, "--method", "less", "--json"]
    if verb == "select":
        shutil.rmtree(folder / "cache", ignore_errors=True)
        shutil.rmtree(folder / "run", ignore_errors=True)
        run += ["--run", str(folder / "run"), "--out", str(folder / "picked.jsonl")]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    env = {**os.environ, "DATAWORTH_CACHE": str(folder / "cache")}
    done = subprocess.run(run, check=True, env=env, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wall = time.perf_counter() - began
    out: dict[str, Any] = {
        "cpu_seconds": spent,
        "wall_seconds": wall,
        "load": os.getloadavg(),
        "said": json.loads(done.stdout),
    }
    if verb == "select":
        out["stages"] = json.loads((folder / "run" / "record.json").read_text())["timings"]["costs"]
    return out


def compare(case: str, rows: int, plan: dict[str, Any], real: dict[str, Any]) -> dict[str, Any]:
    """Predicted against real, in all and by stage."""
    predicted, spent = plan["said"]["cpu_seconds"], real["cpu_seconds"]
    off = predicted / spent - 1
    small = rows < ROWS[case] or plan["said"]["calibration"]["seconds"] < 60
    held = "not reproduced: below the stated size" if small else "held" if abs(off) <= TOLERANCE else "missed"
    return {
        "case": case,
        "rows": rows,
        "verdict": held,
        "predicted_cpu_seconds": predicted,
        "real_cpu_seconds": spent,
        "off": off,
        "real_wall_seconds": real["wall_seconds"],
        "plan_wall_seconds": plan["wall_seconds"],
        "load_average": {"plan": plan["load"], "select": real["load"]},
        "predicted_stages": {s["name"]: s["cpu_seconds"] for s in plan["said"]["stages"]},
        "real_stages": {name: cost["cpu_seconds"] for name, cost in real["stages"].items()},
        "calibration": plan["said"]["calibration"],
        "notes": plan["said"]["notes"],
        "machine": platform.platform(),
    }


def main() -> None:
    """Run or resume, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=sorted(ROWS), required=True)
    parser.add_argument("--rows", type=int, default=None, help="rows of the pool; the stated size by default")
    parser.add_argument("--model", default=None, help="the learner; SmolLM2 from its package by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--work", type=Path, default=Path("runs/plan_check"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = args.rows or ROWS[args.case]
    # A .gguf is converted once; that is no part of a selection's price.
    model = resolve_model(args.model or str(find_smollm2())).folder
    folder = (args.work / f"{args.case}-{rows}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / "ledger.jsonl")
    make = demo_case if args.case == "demo" else flan_case
    flags = ledger.get("case", lambda: make(folder, rows))
    flags += ["--model", str(model), "--device", args.device]
    flags += ["--workers", str(args.workers)] if args.workers is not None else []
    plan = ledger.get("plan", lambda: command("plan", flags, folder))
    real = ledger.get("select", lambda: command("select", flags, folder))
    result = compare(args.case, rows, plan, real)
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as lines of text."""
    head = (
        f"{result['case']}, {result['rows']} rows: predicted {result['predicted_cpu_seconds']:.0f} CPU-s, "
        f"real {result['real_cpu_seconds']:.0f} CPU-s, off by {result['off']:+.0%}: {result['verdict']}"
    )
    lines = [f"  predicted {name}: {seconds:.1f} s" for name, seconds in result["predicted_stages"].items()]
    lines += [f"  real {name}: {seconds:.1f} s" for name, seconds in result["real_stages"].items()]
    return "\n".join([head, *lines, *result["notes"]])


if __name__ == "__main__":
    main()
