"""Does a proof see what is known? `python -m reproductions.demo_proof`: the demo's good rows, and its harmful ones.

The demo's pool has 44 good rows of 200, by construction. They are proved against random draws and against everything,
and so are as many of the others. Resumable: trials are cached by content.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml

import dataworth as dw
from dataworth.demo import RECIPE, ROWS
from dataworth.demo_pool import write_demo

FULL = {"seeds": 5}


def main(arguments: list[str] | None = None) -> None:
    """Write the demo's files, prove both subsets, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--seeds", type=int, default=FULL["seeds"])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--work", type=Path, default=Path("runs/demo_proof"))
    parser.add_argument("--out", type=Path, default=Path("reproductions/results/demo_proof.json"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    paths = write_demo(args.work / "demo", 0, args.rows)
    labels = [json.loads(line)["label"] for line in paths["labels"].read_text().splitlines()]
    lines = paths["pool"].read_text().splitlines(keepends=True)
    good = [line for line, label in zip(lines, labels, strict=True) if label == "good"]
    bad = [line for line, label in zip(lines, labels, strict=True) if label != "good"][: len(good)]
    subsets = {"good": good, "others": bad}
    for name, listed in subsets.items():
        (args.work / f"{name}.jsonl").write_text("".join(listed))
    (args.work / "recipe.yaml").write_text(yaml.safe_dump(RECIPE.to_dict()))
    parts = {part: str(paths[key].relative_to(args.work)) for part, key in (("steer", "goal"), ("judge", "judge"))}
    goal = args.work / "goal.yaml"
    goal.write_text(yaml.safe_dump({"subtasks": [{"name": "urgency", **parts}]}))
    found = dw.prove(
        [str(args.work / f"{name}.jsonl") for name in subsets],
        pool=str(paths["pool"]),
        goal=str(goal),
        model=args.model,
        against="random,full",
        recipe=str(args.work / "recipe.yaml"),
        seeds=args.seeds,
        curve=False,
        lr_search=False,
        device=args.device,
        workers=args.workers,
    )
    small = args.seeds < FULL["seeds"] or args.rows < ROWS
    verdict = "not reproduced: below the stated sizes" if small else "at the stated sizes"
    told = found.to_dict()
    told.pop("run")
    args.out.write_text(json.dumps({"verdict": verdict, **told}, indent=1) + "\n")
    print(json.dumps({"verdict": verdict, **told}) if args.json else f"{verdict}\n{found.explain()}")


if __name__ == "__main__":
    main()
