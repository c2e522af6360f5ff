"""What a proof costs beyond its trainings: `python -m benchmarks.proof_overhead --json` (goal: at most 5 %).

The demo's known good rows are proved against random draws in this process, in a fresh cache; then the same trainings
and judgings run bare, by the trial trainer alone. CPU-seconds of both, imports and a first load of the model aside.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

import dataworth as dw
from dataworth.demo import RECIPE
from dataworth.demo_pool import write_demo
from dataworth.formats import open_pool
from dataworth.learners.load import find_smollm2
from dataworth.proof.arms import RANDOM_DRAWS, random_arm
from dataworth.records import Example
from dataworth.trial import response_loss, train_on


def bare(model: str, arms: list[list[list[Example]]], judge: list[Example], folder: Path) -> float:
    """CPU-seconds of judging the untouched model, and of training and judging every arm's trials."""
    began = time.process_time()
    response_loss(model, RECIPE, None, judge)
    for n, trials in enumerate(arms):
        for seed, rows in enumerate(trials):
            recipe = replace(RECIPE, seed=seed)
            adapter = train_on(model, recipe, rows, folder / f"{n}-{seed}")
            response_loss(model, recipe, adapter, judge)
    return time.process_time() - began


def main(arguments: list[str] | None = None) -> None:
    """Measure both, print and write the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="SmolLM2 from its package unless told")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=200, help="of the demo's pool")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/proof-overhead.json"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    model = args.model or str(find_smollm2())
    with tempfile.TemporaryDirectory() as aside:
        work = Path(aside)
        os.environ["DATAWORTH_CACHE"] = str(work / "cache")
        paths = write_demo(work / "demo", 0, args.rows)
        labels = [json.loads(line)["label"] for line in paths["labels"].read_text().splitlines()]
        lines = paths["pool"].read_text().splitlines(keepends=True)
        good = [n for n, label in enumerate(labels) if label == "good"]
        (work / "good.jsonl").write_text("".join(lines[n] for n in good))
        (work / "recipe.yaml").write_text(yaml.safe_dump(RECIPE.to_dict()))
        parts = {"steer": str(paths["goal"]), "judge": str(paths["judge"])}
        (work / "goal.yaml").write_text(yaml.safe_dump({"subtasks": [{"name": "urgency", **parts}]}))
        judge, pool = list(open_pool(paths["judge"]).examples()), open_pool(paths["pool"])
        response_loss(model, RECIPE, None, judge[:2])  # imports, and whatever is made once
        began = time.process_time()
        found = dw.prove(
            str(work / "good.jsonl"),
            pool=str(paths["pool"]),
            goal=str(work / "goal.yaml"),
            model=model,
            recipe=str(work / "recipe.yaml"),
            against="random",
            seeds=args.seeds,
            curve=False,
            lr_search=False,
            device="cpu",
            workers=0,
            run=str(work / "run"),
        )
        proof = time.process_time() - began
        drawn = random_arm(pool.ids, len(good), RANDOM_DRAWS * args.seeds)
        rows = [[[pool.example(n) for n in good]] * args.seeds]
        rows.append([[pool.example(pool.position[i]) for i in draw.ids] for draw in drawn.draws])
        alone = bare(model, rows, judge, work / "bare")
    result: dict[str, Any] = {
        "proof_cpu_seconds": proof,
        "bare_cpu_seconds": alone,
        "overhead": proof / alone - 1,
        "trainings": sum(len(a.costs) for a in found.arms),
        "rows": len(good),
        "machine": platform.platform(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    said = f"{proof:.1f} CPU-seconds, {alone:.1f} bare: {result['overhead']:+.1%} over {result['trainings']} trainings"
    print(json.dumps(result) if args.json else said)


if __name__ == "__main__":
    main()
