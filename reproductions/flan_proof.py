"""A real proof: `python -m reproductions.flan_proof --goal gsm8k` (or arc_easy), five methods on rows of flan_cot.

`less`, `rds`, `bm25`, `longest` and `loss` each keep a tenth of 1,400 rows; each is proved against random rows and
everything, with the random curve and the learning-rate search on tune rows; then the best three by tune rows
again with equal training tokens. Protected: arc_easy (choice accuracy, where it isn't the goal) and WikiText-2
(perplexity). The trials are the state: they are kept below `--state` (committed at the stated sizes) as they finish,
and a fresh checkout goes on from there.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import dataworth as dw
from dataworth.proof.result import ProofResult
from reproductions import flan
from reproductions.kept_trials import KeptTrials

FULL = {"per_source": 200, "keep": 140, "seeds": 5, "epochs": 2, "arc_rows": 250, "wiki_rows": 100, "finalists": 3}
METHODS = {"less": "less", "rds": "rds", "bm25": "bm25", "longest": "length", "loss": "loss"}
GOALS = {"gsm8k": "gsm8k/test.jsonl.gz", "arc_easy": "eval_small/arc_easy.jsonl.gz"}
LONG = 400
"""Characters from which a line of WikiText-2 is a paragraph worth reading."""


def protected(args: argparse.Namespace) -> list[str]:
    """What `--protect` names: arc_easy by choice accuracy unless it is the goal, and paragraphs of WikiText-2."""
    rng = np.random.default_rng(0)
    with gzip.open(flan.data_folder() / "wikitext2" / "test.txt.gz", "rt", encoding="utf-8") as lines:
        long = [line.strip() for line in lines if len(line) >= LONG]
    texts = [{"text": long[i]} for i in sorted(rng.choice(len(long), args.wiki_rows, replace=False))]
    found = [f"wikitext={flan.write(args.work / 'wikitext.jsonl', texts)}:ppl"]
    if args.goal != "arc_easy":
        rows = flan.read(GOALS["arc_easy"])
        chosen = [rows[i] for i in sorted(rng.choice(len(rows), args.arc_rows, replace=False))]
        found.append(f"arc_easy={flan.write(args.work / 'arc_easy-choice.jsonl', chosen)}:choice")
    return found


def prove(args: argparse.Namespace, keeper: KeptTrials, pool: Path, subsets: list[str], protocol: str) -> ProofResult:
    """One proof of subsets under a protocol."""
    return dw.prove(
        subsets,
        pool=str(pool),
        map=flan.MAP,
        goal=str(args.work / f"{args.goal}.yaml"),
        model=args.model,
        recipe=str(args.work / "recipe.yaml"),
        protect=protected(args),
        protocol=protocol,
        curve=protocol == "epochs",
        seeds=args.seeds,
        device=args.device,
        workers=args.workers,
        run=str(args.work / "runs" / f"prove-{args.goal}-{protocol}"),
        progress=keeper,
    )


def finalists(found: ProofResult, goal: str, count: int) -> list[str]:
    """The methods whose trial of the learning-rate search did best on tune rows: judge rows have no say."""
    tuned = {
        a.name.removeprefix(f"{goal}-"): a.tuned for a in found.arms if a.role == "subject" and a.tuned is not None
    }
    return sorted((name for name in tuned if name in METHODS), key=lambda name: tuned[name])[:count]


def main(arguments: list[str] | None = None) -> None:
    """Select, prove, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goal", choices=sorted(GOALS), default="gsm8k")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--work", type=Path, default=Path("runs/flan_proof"))
    parser.add_argument("--state", type=Path, default=Path("reproductions/results/flan_proof/trials"))
    parser.add_argument("--out", type=Path, default=None, help="reproductions/results/flan_proof/GOAL.json unless told")
    parser.add_argument("--json", action="store_true")
    for name, value in FULL.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    args = parser.parse_args(arguments)
    pool = flan.mixture(args.work / "flan.jsonl", args.per_source)
    flan.goal(args.goal, GOALS[args.goal], args.work)
    flan.settle(args.work / "recipe.yaml", yaml.safe_dump({"epochs": args.epochs}))
    keeper = KeptTrials(args.state, args.goal)
    subsets = {name: args.work / f"{args.goal}-{name}.jsonl" for name in METHODS}
    for name, method in METHODS.items():
        dw.select(
            str(pool),
            map=flan.MAP,
            goal=str(args.work / f"{args.goal}.yaml"),
            model=args.model if method in ("less", "rds", "loss") else None,
            method=method,
            keep=args.keep,
            device=args.device,
            workers=args.workers,
            run=str(args.work / "runs" / f"select-{args.goal}-{name}"),
            out=str(subsets[name]),
            progress=keeper,
        )
    first = prove(args, keeper, pool, [str(path) for path in subsets.values()], "epochs")
    best = finalists(first, args.goal, args.finalists)
    second = prove(args, keeper, pool, [str(subsets[name]) for name in best], "tokens")
    keeper.keep()
    small = [n for n, v in FULL.items() if getattr(args, n) < v]
    result: dict[str, Any] = {
        "verdict": f"not reproduced: below the stated sizes ({', '.join(small)})" if small else "at the stated sizes",
        "sizes": {n: getattr(args, n) for n in FULL},
        "goal": args.goal,
        "epochs": {k: v for k, v in first.to_dict().items() if k != "run"},
        "tokens": {k: v for k, v in second.to_dict().items() if k != "run"},
    }
    out = args.out or Path("reproductions/results/flan_proof") / f"{args.goal}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else f"{result['verdict']}\n{first.explain()}\n\n{second.explain()}")


if __name__ == "__main__":
    main()
