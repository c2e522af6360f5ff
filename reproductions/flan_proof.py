"""A real proof: `python -m reproductions.flan_proof --goal gsm8k` (or arc_easy), five methods on rows of flan_cot.

`less`, `rds`, `bm25`, `longest` and `loss` each keep a tenth of 1,400 rows; each is proved against random rows and
everything, with the random curve and the learning-rate search on tune rows; then the best three by tune rows again with
equal training tokens; then two random draws in a subset's place (an A/A proof). Protected: arc_easy (choice accuracy,
where it isn't the goal) and WikiText-2 (perplexity). The trials are the state: they are kept below `--state` (committed
at the stated sizes) as they finish, and a fresh checkout goes on from there.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import dataworth as dw
from dataworth.proof.result import ProofResult
from reproductions import flan, kept_picks
from reproductions.kept_trials import KeptTrials

FULL = {"per_source": 200, "keep": 140, "seeds": 5, "epochs": 2, "arc_rows": 250, "wiki_rows": 100, "finalists": 3}
METHODS = {"less": "less", "rds": "rds", "bm25": "bm25", "longest": "length", "loss": "loss"}
GOALS = {"gsm8k": "gsm8k/test.jsonl.gz", "arc_easy": "eval_small/arc_easy.jsonl.gz"}
PROOFS = ("epochs", "tokens", "random draws")
LONG = 400
"""Characters from which a line of WikiText-2 is a paragraph worth reading."""


def case(args: argparse.Namespace) -> Path:
    """The pool's file, with goal and recipe beside it."""
    flan.goal(args.goal, GOALS[args.goal], args.work)
    flan.settle(args.work / "recipe.yaml", yaml.safe_dump(flan.recipe_of(args)))
    return flan.mixture(args.work / "flan.jsonl", args.per_source)


def select(args: argparse.Namespace, keeper: KeptTrials, pool: Path, name: str, method: str) -> Path:
    """The best rows by a method, written under a name."""
    return kept_picks.select(
        args.state / "picks",
        pool,
        args.work / f"{args.goal}-{name}.jsonl",
        map=flan.MAP,
        goal=args.work / f"{args.goal}.yaml",
        model=args.model if method in ("less", "rds", "loss") else None,
        recipe=str(args.work / "recipe.yaml"),
        method=method,
        keep=args.keep,
        device=args.device,
        workers=args.workers,
        run=args.work / "runs" / f"select-{args.goal}-{name}",
        progress=keeper,
    )


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


def prove(
    args: argparse.Namespace,
    keeper: KeptTrials,
    pool: Path,
    subsets: list[str],
    protocol: str,
    name: str = "",
    *,
    curve: bool | None = None,
) -> ProofResult:
    """One proof of subsets under a protocol; with the random curve by epochs, unless told."""
    return dw.prove(
        subsets,
        pool=str(pool),
        map=flan.MAP,
        goal=str(args.work / f"{args.goal}.yaml"),
        model=args.model,
        against="random,full",
        recipe=str(args.work / "recipe.yaml"),
        protect=protected(args),
        protocol=protocol,
        curve=protocol == "epochs" if curve is None else curve,
        seeds=args.seeds,
        device=args.device,
        workers=args.workers,
        run=str(args.work / "runs" / f"prove-{args.goal}-{name or protocol}"),
        progress=keeper,
    )


def finalists(found: ProofResult, goal: str, count: int) -> list[str]:
    """The methods whose trial of the learning-rate search did best on tune rows: judge rows have no say."""
    tuned = {
        a.name.removeprefix(f"{goal}-"): a.tuned for a in found.arms if a.role == "subject" and a.tuned is not None
    }
    return sorted((name for name in tuned if name in METHODS), key=lambda name: tuned[name])[:count]


def draws(args: argparse.Namespace, pool: Path, selected: Path) -> list[str]:
    """Two files of random rows as many as a selection's, without near-goal rows."""
    rng, near_N = np.random.default_rng(1), flan.told(selected)[1]
    out = []
    for name in ("first-draw", "second-draw"):
        chosen_N = np.zeros(len(near_N), dtype=bool)
        chosen_N[rng.choice(np.flatnonzero(~near_N), args.keep, replace=False)] = True
        out.append(str(flan.write_lines(args.work / f"{args.goal}-{name}.jsonl", pool, chosen_N)))
    return out


def main(arguments: list[str] | None = None) -> None:
    """Select, prove, print and write the results."""
    parser = flan.parser(__doc__, FULL, "flan_proof")
    parser.add_argument("--goal", choices=sorted(GOALS), default="gsm8k")
    args = parser.parse_args(arguments)
    pool = case(args)
    keeper = KeptTrials(args.state, args.goal)
    subsets = {name: select(args, keeper, pool, name, method) for name, method in METHODS.items()}
    proofs: dict[str, ProofResult] = {}

    def found(name: str, proof: ProofResult) -> ProofResult:
        """The result so far is kept after each proof: all three take days of one core."""
        proofs[name] = proof
        keeper.keep()
        flan.keep_result(args, f"flan_proof/{args.goal}.json", result_of(args, proofs))
        return proof

    first = found("epochs", prove(args, keeper, pool, [str(path) for path in subsets.values()], "epochs"))
    best = finalists(first, args.goal, args.finalists)
    found("tokens", prove(args, keeper, pool, [str(subsets[name]) for name in best], "tokens"))
    # Two draws are random rows themselves, so whatever is said of them is false.
    same = draws(args, pool, next(iter(subsets.values())))
    found("random draws", prove(args, keeper, pool, same, "epochs", "random-draws"))
    result = result_of(args, proofs)
    told = "\n\n".join(proof.explain() for proof in proofs.values())
    print(json.dumps(result) if args.json else f"{result['verdict']}\n{told}")


def result_of(args: argparse.Namespace, proofs: Mapping[str, ProofResult]) -> dict[str, Any]:
    """What the proofs that are there say, and at which sizes."""
    said = flan.stated(args, FULL)
    said["verdict"] = flan.so_far(said["verdict"], [name for name in PROOFS if name not in proofs])
    of = {name: {k: v for k, v in proof.to_dict().items() if k != "run"} for name, proof in proofs.items()}
    return {**said, "goal": args.goal, "recipe": flan.recipe_of(args), **of}


if __name__ == "__main__":
    main()
