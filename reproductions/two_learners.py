"""Is there one best subset? `python -m reproductions.two_learners`: two learners, on their own and each other's picks.

The learners are SmolLM2 and the same model after training on rows of dolly. `less` picks a tenth of the 1,400 rows of
`reproductions.flan_proof` for each; the overlap is told, and each learner is trained on both picks, on random rows and
on everything. Trials are kept with those of `flan_proof`, with which the first learner shares what they have in common.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from dataworth.formats import open_pool
from dataworth.judges import Trained
from dataworth.learners.causal_lm import describe_learner
from dataworth.proof.looks import looks_at
from dataworth.proof.result import ProofResult
from dataworth.proof.verdict import Arm, Rules, judge
from dataworth.recipe import Recipe
from dataworth.session import first_device
from dataworth.trial import train_on
from reproductions import flan, flan_proof
from reproductions.kept_trials import KeptTrials

FULL = {"per_source": 200, "keep": 140, "seeds": 5, "epochs": 2, "arc_rows": 250, "wiki_rows": 100, "other_rows": 1000}
LEARNERS = ("first", "second")


def second_learner(args: argparse.Namespace) -> Path:
    """The model after training on the other source, as a folder of its own."""
    out = args.work / "second-learner"
    if not (out / "config.json").is_file():
        rows = flan.read("dolly/dolly_3k.jsonl.gz")
        chosen = np.random.default_rng(0).choice(len(rows), args.other_rows, replace=False)
        parts = ("instruction", "input", "output")
        pool = open_pool(
            flan.write(args.work / "other.jsonl", [{k: rows[n][k] for k in parts} for n in sorted(chosen)])
        )
        renderer = describe_learner(args.model, Recipe(), device=args.device).renderer
        whole = [e for e in pool.examples() if not renderer.encode(e).reason]
        left = train_on(args.model, Recipe(), whole, args.work / "other-training", device=args.device)
        with Trained(args.model, Recipe(), left, device="cpu", scratch=args.work) as trained:
            aside = shutil.copytree(trained.folder, args.work / "second-learner-aside", dirs_exist_ok=True)
        aside.rename(out)
    return out


def directly(found: ProofResult, own: str, other: str) -> dict[str, Any]:
    """The own picks against the other learner's, in one of two such comparisons."""
    arms = {a.name: Arm(a.name, np.array(a.costs), redrawn=False) for a in found.arms}
    rules = Rules(looks_at((found.seeds,)), comparisons=len(LEARNERS))
    verdict = judge(arms[own], arms[other], rules, untouched=found.untouched)
    return {**verdict.to_dict(), "sentence": found.sentence(verdict)}


def main(arguments: list[str] | None = None) -> None:
    """Train the second learner, select for both, prove, print and write the results."""
    parser = flan.parser(__doc__, FULL, "two_learners")
    parser.add_argument("--goal", choices=sorted(flan_proof.GOALS), default="gsm8k")
    args = parser.parse_args(arguments)
    args.device = first_device(args.device)
    pool = flan_proof.case(args)
    keeper = KeptTrials(args.state, args.goal)
    models = dict(zip(LEARNERS, (args.model, str(second_learner(args))), strict=True))
    of, subsets = {}, {}
    for learner, model in models.items():
        of[learner] = copy.copy(args)
        of[learner].model = model
        subsets[learner] = flan_proof.select(of[learner], keeper, pool, f"picks-of-{learner}", "less")
    kept_N = [flan.told(path)[0] for path in subsets.values()]
    found = {
        learner: flan_proof.prove(
            of[learner], keeper, pool, [str(p) for p in subsets.values()], "epochs", f"on-{learner}", curve=False
        )
        for learner in LEARNERS
    }
    keeper.keep()
    names = {learner: path.stem for learner, path in subsets.items()}
    result: dict[str, Any] = {
        **flan.stated(args, FULL),
        "goal": args.goal,
        "recipe": flan.recipe_of(args),
        "shared": float((kept_N[0] & kept_N[1]).sum() / min(kept_N[0].sum(), kept_N[1].sum())),
        "shared by chance": float(kept_N[1].mean()),
        "own against other's": {
            name: directly(found[name], names[name], names[other])
            for name, other in zip(LEARNERS, LEARNERS[::-1], strict=True)
        },
        **{name: {k: v for k, v in proof.to_dict().items() if k != "run"} for name, proof in found.items()},
    }
    flan.keep_result(args, f"two_learners/{args.goal}.json", result)
    print(json.dumps(result) if args.json else report(result, found))


def report(result: dict[str, Any], found: dict[str, ProofResult]) -> str:
    """The figures as lines of text."""
    lines = [result["verdict"], f"picks in common: {result['shared']:.2f} (by chance {result['shared by chance']:.2f})"]
    lines += [f"{name} learner: {told['sentence']}" for name, told in result["own against other's"].items()]
    return "\n".join(lines + [f"\n{name} learner\n{proof.explain()}" for name, proof in found.items()])


if __name__ == "__main__":
    main()
