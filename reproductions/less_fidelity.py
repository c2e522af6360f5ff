"""Does LESS predict what training does, and does it tell twins apart? `python -m reproductions.less_fidelity`.

(a) Group retraining on a flan_cot mixture: subsets are trained, and the rank correlation of a score's mean over a
subset with the goal loss after training on it is reported within uniform and within source-weighted subsets, beside the
noise ceiling from reseeded trainings of one subset. Forms of LESS are compared on tune rows; the default is judged.
(b) Recovery inside one format, length-matched: share of picks from the side the goal came from.

Every score and every trial is kept in the ledger (`--ledger`, committed at the stated sizes) as it finishes; the same
command goes on. Arrays and adapters lie in `--work`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import dataworth as dw
from dataworth.formats import open_goal, open_pool
from dataworth.learners.load import find_smollm2
from dataworth.numerics.ranks import mean_interval, spearman
from dataworth.recipe import Recipe
from dataworth.records import Example, Pool
from dataworth.trial import response_loss, train_on
from reproductions import flan
from reproductions.forms import fill_forms

FORMS = {
    "less": ("less", ()),
    "less (repository: eps inside, no bias correction)": ("less", ("eps_mode=inside", "bias_correction=false")),
    "less (Adam without momentum)": ("less", ("optimizer=adam_no_momentum",)),
    "less (SGD)": ("less", ("optimizer=sgd", "bias_correction=false")),
    "less (one-sided, k=16)": ("less", ("kind=onesided", "bias_correction=false")),
    "less (centroid)": ("less", ("variant=centroid",)),
    "rds": ("rds", ()),
    "bm25": ("bm25", ()),
    "length": ("length", ()),
    "loss": ("loss", ()),
}
TWINS = ("creak", "strategyqa")
JUDGED = ("less", "rds", "bm25", "length", "loss")
"""What judge rows are opened for; the other forms are compared on tune rows alone."""
GOALS = {"gsm8k": "gsm8k/test.jsonl.gz", "arc_easy": "eval_small/arc_easy.jsonl.gz"}
FULL = {"per_source": 400, "subsets": 30, "subset_rows": 280, "seeds": 5, "twin_rows": 1000, "twin_seeds": 3}


class Ledger:
    """Results that are final, one JSON line each, keyed by a name: what makes the command resumable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        if text and not text.endswith("\n"):  # a killed run's last line stays broken, and alone
            path.write_text(text + "\n")
        self.found: dict[str, Any] = {}
        self.read()

    def read(self) -> None:
        """What the file holds by now: another process may share it."""
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the last line of a killed run
                continue
            self.found[entry["key"]] = entry["value"]

    def get(self, key: str, make: Any) -> Any:
        """The stored value, or `make()` stored."""
        if key not in self.found:
            self.read()
        if key not in self.found:
            started = time.perf_counter()
            self.found[key] = make()
            seconds = time.perf_counter() - started
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, "value": self.found[key], "seconds": seconds}) + "\n")
            print(f"{key}: {seconds:.1f} s", file=sys.stderr, flush=True)
        return self.found[key]


def fields_of(args: argparse.Namespace, pool: Path, goal: Path, seed: int) -> dict[str, Any]:
    """What every request about this pool and goal says."""
    return {
        "pool": str(pool),
        "goal": str(goal),
        "map": flan.MAP,
        "goal_map": flan.MAP if "twin" in pool.stem else (),
        "device": args.device,
        "keep_near_goal": False,
        "seed": seed,
    }


def fill_all(args: argparse.Namespace, pool: Path, goal: Path, seed: int = 0) -> None:
    """The pool's features under every form of `less`, as far as one pass gives them."""
    options = [o for method, o in FORMS.values() if method == "less"]
    fill_forms(options, model=args.model, workers=args.workers, **fields_of(args, pool, goal, seed))


def scores_of(args: argparse.Namespace, pool: Path, goal: Path, form: str, seed: int = 0) -> list[float | None]:
    """Scores of the pool under one form, in pool order, to seven digits; None where a row is unscored."""
    method, options = FORMS[form]
    needs_model = method in ("less", "rds", "loss")
    found = dw.score(
        method=method,
        option=options,
        model=args.model if needs_model else None,
        workers=args.workers,
        run=str(args.work / "runs" / f"{pool.stem}-{goal.stem}-{list(FORMS).index(form)}-{seed}"),
        **fields_of(args, pool, goal, seed),
    )
    values = found.scores[method].values_N
    return [None if np.isnan(v) else float(f"{v:.7g}") for v in values]


def subsets(pool: Pool, count: int, rows: int, seed: int = 0) -> dict[str, list[str]]:
    """Half uniform draws, half draws with random source weights (Dirichlet(1) over the sources)."""
    rng = np.random.default_rng(seed)
    out: dict[str, list[str]] = {}
    ids = np.array(pool.ids)
    for n in range(count):
        if n < count // 2:
            chosen = rng.choice(len(ids), rows, replace=False)
        else:
            weight = rng.dirichlet(np.ones(len(pool.sources)))[pool.source_N]
            chosen = rng.choice(len(ids), rows, replace=False, p=weight / weight.sum())
        out[f"{'uniform' if n < count // 2 else 'weighted'}-{n:02d}"] = sorted(ids[chosen].tolist())
    return out


def trial(
    args: argparse.Namespace, pool: Pool, ids: list[str], name: str, seed: int, judged: dict[str, list[Example]]
) -> Any:
    """Train on a subset and return the loss on every judged set; without rows, that of the untouched model."""
    recipe = replace(Recipe(), seed=seed)
    rows = [pool.example(pool.position[i]) for i in ids]
    where = args.work / "trainings" / f"{name}-{seed}"
    adapter = train_on(args.model, recipe, rows, where, device=args.device) if rows else None
    every = [e for examples in judged.values() for e in examples]
    found = response_loss(args.model, recipe, adapter, every, device=args.device)
    out, start = {}, 0
    for key, examples in judged.items():
        part = slice(start, start + len(examples))
        out[key] = float(found.sum_Q[part].sum() / found.targets_Q[part].sum())
        start += len(examples)
    return out


def group_retraining(args: argparse.Namespace, ledger: Ledger) -> dict[str, Any]:
    """Part (a)."""
    path = flan.mixture(args.work / "flan.jsonl", args.per_source)
    goals = {name: flan.goal(name, dataset, args.work) for name, dataset in GOALS.items()}
    if args.only != "trials":
        fill_all(args, path, next(iter(goals.values())))
        scores = {
            f"{g}/{form}": ledger.get(
                f"scores {g} {form}", lambda g=g, form=form: scores_of(args, path, goals[g], form)
            )
            for g in goals
            for form in FORMS
        }
    if args.only == "scores":
        return {}
    pool = open_pool(path, mapping=dict(m.split("=") for m in flan.MAP))
    judged: dict[str, list[Example]] = {}
    for name, goal_path in goals.items():
        sub = open_goal(goal_path).subtasks[0]
        assert sub.tune is not None and sub.judge is not None
        judged[f"{name} tune"] = list(sub.tune.examples())
        judged[f"{name} judge"] = list(sub.judge.open_for("proof").examples())
    groups = subsets(pool, args.subsets, args.subset_rows)
    first = next(iter(groups))
    plan = [(name, 0) for name in groups] + [(first, seed) for seed in range(1, args.seeds)]
    trials = {
        (n, s): ledger.get(f"trial {n} {s}", lambda n=n, s=s: trial(args, pool, groups[n], n, s, judged))
        for n, s in (plan[::-1] if args.backwards else plan)
    }
    if args.only == "trials":
        return {}
    untouched = ledger.get("untouched", lambda: trial(args, pool, [], "untouched", 0, judged))
    losses = {name: trials[name, 0] for name in groups}
    reseeded = [trials[first, seed] for seed in range(args.seeds)]
    by_id = {k: {i: v for i, v in zip(pool.ids, s, strict=True) if v is not None} for k, s in scores.items()}
    return {
        "correlations": correlations(by_id, groups, losses, reseeded),
        "against default": against_default(by_id, groups, losses),
        "untouched": untouched,
        "losses": losses,
        "reseeded": reseeded,
    }


def correlations(scores: Any, groups: Any, losses: Any, reseeded: Any) -> dict[str, Any]:
    """Rank correlation of mean score and minus the loss per goal, split, kind of subset and form; the noise ceiling."""
    out: dict[str, Any] = {}
    for goal in GOALS:
        for split in ("tune", "judge"):
            key = f"{goal} {split}"
            noise = float(np.var([r[key] for r in reseeded], ddof=1))
            for kind in ("uniform", "weighted"):
                names = [n for n in groups if n.startswith(kind)]
                measured = np.array([-losses[n][key] for n in names])
                total = float(np.var(measured, ddof=1))
                cell: dict[str, Any] = {
                    "noise_sd": noise**0.5,
                    "total_sd": total**0.5,
                    "ceiling": max(0.0, 1 - noise / total) ** 0.5,
                }
                for form in FORMS if split == "tune" else JUDGED:
                    of = scores[f"{goal}/{form}"]
                    predicted = [float(np.mean([of[i] for i in groups[n] if i in of])) for n in names]
                    cell[form] = spearman(predicted, measured).to_dict()
                out[f"{key} {kind}"] = cell
    return out


def against_default(scores: Any, groups: Any, losses: Any, draws: int = 2000) -> dict[str, Any]:
    """Each form's rank correlation minus that of `less`, in the mean of both goals and kinds of subsets, on tune rows.

    The interval (95 %) resamples subsets within their kind, for both forms and goals at once. The paper's form stays
    the default unless another form's interval lies above zero: a rule written after the uniform subsets' correlations
    were seen and before the weighted ones' were.
    """
    rng = np.random.default_rng(0)
    kinds = [[n for n in groups if n.startswith(kind)] for kind in ("uniform", "weighted")]
    picks = [np.vstack([np.arange(len(k)), rng.integers(0, len(k), (draws, len(k)))]) for k in kinds]

    def correlation(form: str) -> np.ndarray:
        cells = []
        for goal in GOALS:
            of = scores[f"{goal}/{form}"]
            for names, picks_Sn in zip(kinds, picks, strict=True):
                predicted = np.array([np.mean([of[i] for i in groups[n] if i in of]) for n in names])
                measured = np.array([-losses[n][f"{goal} tune"] for n in names])
                a, b = (stats.rankdata(x[picks_Sn], axis=1) for x in (predicted, measured))
                a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
                with np.errstate(invalid="ignore"):  # a resample of one subset alone has no correlation
                    cells.append((a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1)))
        return np.mean(cells, axis=0)

    default = correlation("less")
    out = {"less": {"value": float(default[0])}}
    for form in FORMS:
        if form != "less":
            gap = correlation(form) - default
            low, high = np.nanquantile(gap[1:], [0.025, 0.975])
            out[form] = {"value": float(gap[0]), "low": float(low), "high": float(high)}
    return out


def recovery(args: argparse.Namespace, ledger: Ledger) -> dict[str, Any]:
    """Part (b)."""
    shares: dict[str, list[float]] = {}
    for seed in range(args.twin_seeds):
        path, labels, goals = flan.twin_pool(args.work, TWINS, args.twin_rows, seed)
        fill_all(args, path, goals[0], seed)
        pool = open_pool(path, mapping=dict(m.split("=") for m in flan.MAP))
        of = dict(zip(pool.ids, labels, strict=True))
        for side, goal in zip(TWINS, goals, strict=True):
            # One-sided features don't come with the others' pass and cost as much again for each pool.
            for form in (f for f in FORMS if "one-sided" not in f):
                key = f"twin {side} {seed} {form}"
                listed = ledger.get(key, lambda p=path, g=goal, f=form, s=seed: scores_of(args, p, g, f, s))
                found = {i: v for i, v in zip(pool.ids, listed, strict=True) if v is not None}
                best = sorted(found, key=lambda i: (-found[i], i))[: len(pool) // 10]
                shares.setdefault(f"goal {side}: {form}", []).append(float(np.mean([of[i] == side for i in best])))
    return {k: {"shares": v, "mean": mean_interval(v).to_dict()} for k, v in shares.items()}


def main(arguments: list[str] | None = None) -> None:
    """Run or resume, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="the learner; SmolLM2 from its package by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--work", type=Path, default=Path("runs/less_fidelity"))
    parser.add_argument("--ledger", type=Path, default=Path("reproductions/results/less_fidelity.jsonl"))
    parser.add_argument("--parts", default="ab")
    parser.add_argument(
        "--only", choices=("scores", "trials"), help="this half alone, to run both side by side; then run without it"
    )
    parser.add_argument("--backwards", action="store_true", help="trials from the last one on: a second process")
    parser.add_argument("--json", action="store_true")
    for name, value in FULL.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    args = parser.parse_args(arguments)
    args.model = args.model or str(find_smollm2())
    if args.device == "auto":
        from dataworth.session import first_device

        args.device = first_device("auto")
    ledger = Ledger(args.ledger)
    small = [n for n, v in FULL.items() if getattr(args, n) < v]
    result: dict[str, Any] = {
        "verdict": f"not reproduced: below the stated sizes ({', '.join(small)})" if small else "at the stated sizes",
        "sizes": {n: getattr(args, n) for n in FULL},
        "machine": platform.platform(),
        "device": args.device,
    }
    if "a" in args.parts:
        result["group_retraining"] = group_retraining(args, ledger)
    if "b" in args.parts and args.only != "trials":
        result["recovery"] = recovery(args, ledger)
    if args.only:
        return
    args.ledger.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [result["verdict"]]
    for name, cell in result.get("group_retraining", {}).get("correlations", {}).items():
        lines.append(
            f"{name}: ceiling {cell['ceiling']:.2f} (noise sd {cell['noise_sd']:.4f}, total sd {cell['total_sd']:.4f})"
        )
        lines += [
            f"  {form:52s} {cell[form]['value']:+.2f} [{cell[form]['low']:+.2f}, {cell[form]['high']:+.2f}]"
            for form in FORMS
            if form in cell
        ]
    for form, cell in result.get("group_retraining", {}).get("against default", {}).items():
        what = "tune, mean of goals and kinds" if form == "less" else "beyond that"
        interval = f" [{cell['low']:+.2f}, {cell['high']:+.2f}]" if "low" in cell else ""
        lines.append(f"{what}: {form:52s} {cell['value']:+.2f}{interval}")
    for name, cell in result.get("recovery", {}).items():
        mean = cell["mean"]
        lines.append(f"{name:80s} {mean['value']:.2f} [{mean['low']:.2f}, {mean['high']:.2f}]")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
