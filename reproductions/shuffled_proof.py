"""Does less beat more where some answers are wrong? `python -m reproductions.shuffled_proof`, on rows of flan_cot.

In 1,400 rows three in ten answers are exchanged within their source and answer type, so that neither format nor
vocabulary gives them away. Blind picks of as many rows as are right (`less`, `rds`, the lowest `loss`) and the right
rows themselves, what a perfect pick would be, are proved against random rows and everything, on the answers of other
rows; question and rationale are the prompt. Once by the recipe's epochs, with the random curve, and once by equal
training tokens. Trials are kept below `--state`, as in `reproductions.flan_proof`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import dataworth as dw
from dataworth.proof.result import ProofResult
from reproductions import flan, kept_picks
from reproductions.kept_trials import KeptTrials

FULL = {"per_source": 200, "seeds": 5, "epochs": 2}
PROTOCOLS = ("epochs", "tokens")
WRONG = 0.3
METHODS = {"less": ("less", ()), "rds": ("rds", ()), "lowest loss": ("loss", ("direction=low",))}
GOAL = "answers"
MARGIN = 0.02
"""Nats a token of an answer that don't matter, set before a trial was run: the claim to test is "as good as full"."""
MAP = ("prompt=question+rationale", "completion=answer")
"""The rationale is given and the answer learned, or 60 tokens of right rationale would outweigh 3 of a wrong answer."""


def exchanged(rows: list[dict[str, Any]], rng: np.random.Generator) -> tuple[list[dict[str, Any]], list[bool]]:
    """The rows with three in ten answers of every source wrong, and which are right.

    Rows of a source exchange answers (its answers are of one type); no row gets its own. ecqa's answers are words of
    its own options, so a wrong one is another of them: somebody else's would be known by not being an option.
    """
    out, right = [dict(row) for row in rows], [True] * len(rows)
    for source in sorted({row["source"] for row in rows}):
        listed = [n for n, row in enumerate(rows) if row["source"] == source]
        order = [listed[n] for n in rng.permutation(len(listed))]
        count = round(WRONG * len(listed))
        if source == "ecqa":
            chosen = [n for n in order if len(options(rows[n])) > 1][:count]
            wrong = [str(rng.choice([o for o in options(rows[n]) if o != rows[n]["answer"]])) for n in chosen]
        else:
            chosen = balanced(order, rows, count)
            answers = [rows[n]["answer"] for n in chosen]
            wrong = answers[len(answers) // 2 :] + answers[: len(answers) // 2]
        for n, answer in zip(chosen, wrong, strict=True):
            assert answer != rows[n]["answer"]
            out[n]["answer"], right[n] = answer, False
    return out, right


def balanced(order: list[int], rows: list[dict[str, Any]], count: int) -> list[int]:
    """The first rows of which no answer has more than half, in the order of their answers: half a turn moves each."""
    taken: Counter[str] = Counter()
    chosen = []
    for n in order:
        answer = rows[n]["answer"]
        if len(chosen) < count and taken[answer] < count // 2:
            taken[answer] += 1
            chosen.append(n)
    chosen = chosen[: len(chosen) // 2 * 2]
    most = max(Counter(rows[n]["answer"] for n in chosen).values(), default=0)
    assert 2 * most <= len(chosen), "no exchange gives every row another answer"
    return sorted(chosen, key=lambda n: (rows[n]["answer"], n))


def options(row: dict[str, Any]) -> list[str]:
    """The listed options of a question, in order."""
    lines = row["question"].partition("Options:")[2].splitlines()
    return list(dict.fromkeys(line.removeprefix("-").strip() for line in lines if line.strip()))


def case(folder: Path, per_source: int, seed: int = 0) -> tuple[Path, Path, list[bool]]:
    """The pool's file, the goal's, and which rows are right."""
    rng = np.random.default_rng(seed)
    rows = flan.read("flan_cot/flan_cot.jsonl.gz")
    pool: list[dict[str, Any]] = []
    held: list[dict[str, Any]] = []
    sources = sorted({r["source"] for r in rows})
    wanted = -(-sum(flan.PARTS.values()) // len(sources))
    for source in sources:
        of_source = [r for r in rows if r["source"] == source]
        order = rng.permutation(len(of_source))[: per_source + wanted]
        pool += [of_source[n] for n in sorted(order[:per_source])]
        held += [of_source[n] for n in order[per_source:]]
    found, right = exchanged(pool, rng)
    mapped = {"map": dict(part.split("=") for part in MAP)}
    goal = flan.goal_of(GOAL, [held[n] for n in rng.permutation(len(held))], folder, mapped)
    return flan.write(folder / "pool.jsonl", found), goal, right


def select(
    args: argparse.Namespace,
    keeper: KeptTrials,
    pool: Path,
    name: str,
    method: str,
    option: tuple[str, ...],
    keep: int,
) -> Path:
    """The best rows by a method, written under a name."""
    return kept_picks.select(
        args.state / "picks",
        pool,
        args.work / f"{name}.jsonl",
        map=MAP,
        goal=args.work / f"{GOAL}.yaml",
        model=None if method == "bm25" else args.model,
        recipe=str(args.work / "recipe.yaml"),
        method=method,
        option=option,
        keep=keep,
        device=args.device,
        workers=args.workers,
        run=args.work / "runs" / f"select-{name}",
        progress=keeper,
    )


def prove(args: argparse.Namespace, keeper: KeptTrials, pool: Path, subsets: list[Path], protocol: str) -> ProofResult:
    """One proof of all subsets under a protocol."""
    return dw.prove(
        [str(path) for path in subsets],
        pool=str(pool),
        map=MAP,
        goal=str(args.work / f"{GOAL}.yaml"),
        model=args.model,
        against="random,full",
        margin=MARGIN,
        recipe=str(args.work / "recipe.yaml"),
        protocol=protocol,
        curve=protocol == "epochs",
        seeds=args.seeds,
        device=args.device,
        workers=args.workers,
        run=str(args.work / "runs" / f"prove-{protocol}"),
        progress=keeper,
    )


def main(arguments: list[str] | None = None) -> None:
    """Select, prove, print and write the results."""
    args = flan.parser(__doc__, FULL, "shuffled_proof").parse_args(arguments)
    pool, _, right = case(args.work, args.per_source)
    recipe = flan.recipe_of(args)
    flan.settle(args.work / "recipe.yaml", yaml.safe_dump(recipe))
    keeper = KeptTrials(args.state, GOAL)
    subsets, right_share = {}, {"pool": sum(right) / len(right)}
    gated = select(args, keeper, pool, "bm25", "bm25", (), keep=len(right) // 10)
    clean_N = np.array(right) & ~flan.told(gated)[1]
    for name, (method, option) in METHODS.items():
        subsets[name] = select(args, keeper, pool, name.replace(" ", "-"), method, option, keep=int(clean_N.sum()))
        right_share[name] = float(np.array(right)[flan.told(subsets[name])[0]].mean())
    subsets["clean"] = flan.write_lines(args.work / "clean.jsonl", pool, clean_N)
    proofs: dict[str, ProofResult] = {}
    result: dict[str, Any] = {**flan.stated(args, FULL), "recipe": recipe, "right answers": right_share}
    whole = result["verdict"]
    for protocol in PROTOCOLS:
        found = proofs[protocol] = prove(args, keeper, pool, list(subsets.values()), protocol)
        result[protocol] = {k: v for k, v in found.to_dict().items() if k != "run"}
        result["verdict"] = flan.so_far(whole, [p for p in PROTOCOLS if p not in proofs])
        keeper.keep()
        flan.keep_result(args, f"shuffled_proof/{GOAL}.json", result)
    shares = "; ".join(f"{name} {share:.3f}" for name, share in right_share.items())
    told = "\n\n".join(found.explain() for found in proofs.values())
    print(json.dumps(result) if args.json else f"{result['verdict']}\nshare of right answers: {shares}\n{told}")


if __name__ == "__main__":
    main()
