"""LIMA's claim as a proof: `python -m reproductions.lima_proof`, 1,000 good and varied rows against many.

Zhou et al. 2023 (arXiv 2305.11206) trained on 1,000 curated rows. Here a recipe without any judge picks as many from
Alpaca's random sample and Dolly (12,225 rows): the longest responses, none nearer to a longer one than a cosine of 0.7
(`docs/methods-text.md`). Beside it stand LIMA's own 1,000 rows and the 1,000 longest responses, each proved against as
many random rows and against everything; once with equal epochs, once with equal training tokens, since long rows hold
more of them.

*The pool* is Alpaca, Dolly and LIMA, as a proof knows only subsets of its pool: random rows and everything hold LIMA's
rows at their share (8 %), which brings them a little nearer to LIMA and to nobody else. The recipe and the longest
are chosen among the other two, where LIMA's long rows don't exist.
*Variety*: with DEITA's cosine of 0.9 and this encoder 975 of the recipe's 1,000 rows are the longest ones, so the two
could hardly differ. At 0.7 the filter passes over 745 rows; that was chosen by these counts, before any training.
*The goal* is the loss on 402 human-written answers to prompts that come from none of the three: Self-Instruct's
user-oriented test prompts and CoachLM's (32 steer, 70 tune and 300 judge rows; no arm is chosen by them). Rows of
Alpaca or Dolly held out would favour whoever picks more of them. It isn't LIMA's judge: people, who prefer, on answers
of a 65B model. Protected are WikiText-2 (perplexity) and arc_easy (choice accuracy).

`--price` says what both proofs would train and stops. Trials are kept below `--state`, as in `flan_proof`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import dataworth as dw
from dataworth.api import plan_proof
from dataworth.config import ProveRequest, build
from dataworth.results import SelectResult
from reproductions import flan, flan_proof
from reproductions.kept_trials import KeptTrials

FULL = {"keep": 1_000, "alpaca_rows": 9_229, "dolly_rows": 2_996, "lima_rows": 1_000, "seeds": 5, "epochs": 2}
FULL |= {"arc_rows": 250, "wiki_rows": 100}
SOURCES = {
    "alpaca": "alpaca/alpaca_random9k.jsonl.gz",
    "dolly": "dolly/dolly_3k.jsonl.gz",
    "lima": "lima/lima_1k.jsonl.gz",
}
PARTS = {"steer": 32, "tune": 70, "judge": 300}
TAU = 0.7
QUALITY = "column:response_characters"
ENCODER = "potion_base_4m_int8"
PICKS = {"recipe": "diverse", "longest": "top_k"}
PROTOCOLS = ("epochs", "tokens")
RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def pools(args: argparse.Namespace) -> dict[str, Path]:
    """The three sources as files of one form, drawn without replacement where fewer rows are asked for."""
    out = {}
    for name, path in SOURCES.items():
        rows = flan.read(path)
        drawn = np.random.default_rng(0).permutation(len(rows))[: getattr(args, f"{name}_rows")]
        told = [rows[i] for i in sorted(drawn.tolist())]
        fields = [{"instruction": r["instruction"], "input": r.get("input", ""), "output": r["output"]} for r in told]
        lines = [{**f, "response_characters": len(f["output"])} for f in fields]
        out[name] = flan.write(args.work / f"{name}.jsonl", lines)
    return out


def goal(args: argparse.Namespace) -> Path:
    """Prompts with a human-written answer, dealt at random to the goal's parts."""
    rows = [r for r in flan.read("instruct_eval/prompts.jsonl.gz") if r["reference"]]
    order = np.random.default_rng(0).permutation(len(rows))
    told = [{"instruction": r["instruction"], "input": r["input"], "output": r["reference"]} for r in rows]
    entry: dict[str, Any] = {"name": "instructions", "judge_kind": "loss"}
    start = 0
    for part, count in PARTS.items():
        chosen = [told[i] for i in order[start : start + count]]
        entry[part] = flan.write(args.work / f"instructions-{part}.jsonl", chosen).name
        start += count
    return flan.settle(args.work / "instructions.yaml", yaml.safe_dump({"subtasks": [entry]}))


def select(args: argparse.Namespace, files: dict[str, Path], name: str) -> SelectResult:
    """A pick of Alpaca's and Dolly's rows."""
    return dw.select(
        [str(files["alpaca"]), str(files["dolly"])],
        method=QUALITY,
        pick=PICKS[name],
        option=[f"tau={args.tau}"] if name == "recipe" else [],
        keep=args.keep,
        encoder=str(args.encoder or flan.data_folder() / ENCODER),
        workers=0,
        run=str(args.work / "runs" / f"tau-{args.tau}" / name),
    )


def alike(picked: dict[str, SelectResult]) -> dict[str, int]:
    """How many of the recipe's rows are the longest ones, and how many longer rows its filter passed over."""
    recipe, longest = picked["recipe"].selection, picked["longest"].selection
    shared = len(set(recipe.ids) & set(longest.ids))
    return {"among_the_longest": shared, "passed_over": recipe.counts().get("too-near", 0)}


def request(args: argparse.Namespace, files: dict[str, Path], subsets: list[str], protocol: str) -> dict[str, Any]:
    """What a proof is asked under a protocol."""
    return {
        "pool": [str(path) for path in files.values()],
        "goal": str(goal(args)),
        "model": args.model,
        "against": "random,full",
        "recipe": str(flan.settle(args.work / "recipe.yaml", yaml.safe_dump(flan.recipe_of(args)))),
        "protect": flan_proof.protected(args),
        "protocol": protocol,
        "curve": False,
        "seeds": args.seeds,
        "device": args.device,
        "workers": args.workers,
        "run": str(args.work / "runs" / f"tau-{args.tau}" / f"prove-{protocol}"),
        "subset": subsets,
    }


def price(asked: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Training tokens of every arm, and the CPU-hours of training alone at the trial trainer's measured rates."""
    rate = json.loads((RESULTS / "trainer-cpu.json").read_text())["tokens_per_second"]["trial trainer"]
    faster = json.loads((RESULTS / "upper-layers.json").read_text())["times as fast"]["upper, cached"]
    out: dict[str, Any] = {"tokens_per_cpu_second": rate, "faster_on_upper_layers": faster}
    for protocol, fields in asked.items():
        plan = plan_proof(build(ProveRequest, fields))
        tokens = sum(count * trials for *_, count, trials in plan.arms)
        hours = {"adapters everywhere": tokens / rate / 3600, "upper layers": tokens / rate / faster / 3600}
        out[protocol] = {"tokens": tokens, "cpu_hours": hours, "told": plan.explain()}
    return out


def main(arguments: list[str] | None = None) -> None:
    """Select, price or prove, print and write the results."""
    parser = flan.parser(__doc__, FULL, "lima_proof")
    parser.add_argument("--encoder", type=Path, default=None, help="of the recipe's variety; the data folder's potion")
    parser.add_argument("--tau", type=float, default=TAU, help="cosine above which a row is too near a longer one")
    parser.add_argument("--price", action="store_true", help="say what it would train, and stop")
    args = parser.parse_args(arguments)
    args.goal = "instructions"  # what flan_proof's protected skills ask for
    files = pools(args)
    picked = {name: select(args, files, name) for name in PICKS}
    subsets = [*(str(found.run) for found in picked.values()), str(files["lima"])]
    asked = {protocol: request(args, files, subsets, protocol) for protocol in PROTOCOLS}
    if args.price:
        found = {"recipe": {"tau": args.tau, **alike(picked)}, **price(asked)}
        flan.keep_result(args, "lima_proof_price.json", {**flan.stated(args, FULL), **found})
        print(json.dumps(found) if args.json else told(found))
        return
    keeper = KeptTrials(args.state, args.goal)
    proofs = {
        protocol: dw.prove(fields["subset"], **{k: v for k, v in fields.items() if k != "subset"}, progress=keeper)
        for protocol, fields in asked.items()
    }
    keeper.keep()
    result: dict[str, Any] = {**flan.stated(args, FULL), "recipe": flan.recipe_of(args), "tau": args.tau}
    result["picked"] = alike(picked)
    result |= {name: {k: v for k, v in proof.to_dict().items() if k != "run"} for name, proof in proofs.items()}
    flan.keep_result(args, "lima_proof.json", result)
    lines = [result["verdict"], *(proof.explain() for proof in proofs.values())]
    print(json.dumps(result) if args.json else "\n\n".join(lines))


def told(found: dict[str, Any]) -> str:
    """The price as lines of text."""
    recipe = found["recipe"]
    out = [
        f"recipe at tau {recipe['tau']}: {recipe['among_the_longest']} of its rows are among the longest, and longer"
    ]
    out[0] += f" ones passed over are {recipe['passed_over']}"
    for protocol in PROTOCOLS:
        hours = ", ".join(f"{h:.1f} h with {how}" for how, h in found[protocol]["cpu_hours"].items())
        out += [f"{protocol}: {found[protocol]['told']}", f"training alone: {hours} of one core", ""]
    return "\n".join(out)


if __name__ == "__main__":
    main()
