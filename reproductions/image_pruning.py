"""Half of the images are enough? `python -m reproductions.image_pruning --data cifar10` (or fashion_mnist).

Five nets are trained on all images and recorded; their recordings score every image (EL2N, AUM). Then a half, a tenth
and four fifths are kept at random, by EL2N's top, by strata (CCS with its hardest cut) and by prototypes, and trained
on; every training sees as many images as one on everything, as in the papers. Accuracy on the test set, by which
nothing is chosen. Prototypes are label-free given a supervised encoder: the first net's features.

Each training is a line of the ledger (committed at the stated sizes); one that was cut goes on at its last epoch.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import platform
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dataworth.dynamics import Dynamics
from dataworth.formats import open_pool
from dataworth.learners.labelled import Labelled, LabelledEncoder
from dataworth.numerics.clusters import kmeans
from dataworth.picks.random import RandomPick
from dataworth.picks.stratified import Stratified
from dataworth.picks.top_k import TopK
from dataworth.proof.looks import looks_at
from dataworth.proof.verdict import Arm, Rules, judge
from dataworth.recipe import ClassifierRecipe
from dataworth.records import Budget, hash_unit, id_order
from dataworth.results import Scored
from dataworth.scores.aum import AUM
from dataworth.scores.el2n import EL2N
from dataworth.scores.prototypes import Prototypes
from reproductions import flan
from reproductions.less_fidelity import Ledger

FULL = {"rows": 50_000, "epochs": 15, "width": 32, "seeds": 5, "small_seeds": 3}
ROWS = {"cifar10": 50_000, "fashion_mnist": 60_000}
ARMS = {
    "cifar10": ((0.5, ("random", "el2n", "ccs")), (0.8, ("random", "prototypes")), (0.1, ("random", "el2n", "ccs"))),
    "fashion_mnist": ((0.5, ("random", "el2n", "ccs")),),
}
MARGIN = 0.005
EARLY = 10
"""Epoch at which EL2N is read."""
CUT = {0.5: 0.1, 0.1: 0.3}
"""Share of the hardest images that CCS leaves out, by the share kept."""


@dataclass(frozen=True)
class Run:
    """One training: an arm, the share of images it keeps, and its number, which is its seed."""

    arm: str
    share: float
    trial: int

    @property
    def key(self) -> str:
        """The run's name in the ledger."""
        return f"{self.arm} {self.share:g} {self.trial}"


@cache
def images(data: str, rows: int) -> tuple[list[Labelled], list[Labelled]]:
    """Train (`rows` of them by hash) and test images."""
    if data == "cifar10":
        folder = flan.data_folder() / "cifar10"
        encoder = LabelledEncoder(range(10), (3, 32, 32))
        pool, held = (open_pool(sorted(folder.glob(pattern))) for pattern in ("train-*.parquet", "test.parquet"))
        train = [encoder.encode(example) for example in pool.examples(_drawn(pool.ids, rows))]
        return train, [encoder.encode(example) for example in held.examples()]
    whole, test = (_idx(flan.data_folder() / "fashion_mnist", part) for part in ("train", "t10k"))
    return [whole[i] for i in _drawn([row.id for row in whole], rows)], test


def _drawn(ids: Sequence[str], rows: int) -> list[int]:
    """Where so many rows by hash are, in order."""
    return sorted(np.argsort(hash_unit(ids, 0, "image pruning"), kind="stable")[:rows].tolist())


def _idx(folder: Path, part: str) -> list[Labelled]:
    """Images and labels of a pair of idx files."""
    pixels = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
    label_N = np.frombuffer(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    x_N = np.frombuffer(pixels, np.uint8).reshape(len(label_N), 1, 28, 28)
    return [Labelled(f"{i:032x}", x, int(y)) for i, (x, y) in enumerate(zip(x_N, label_N, strict=True))]


def recipe_of(args: argparse.Namespace) -> ClassifierRecipe:
    """How every net is trained."""
    return ClassifierRecipe(epochs=args.epochs, width=args.width, lr=args.lr, augment="flip_crop")


def train(args: argparse.Namespace, run: Run, chosen: Sequence[int]) -> dict[str, Any]:
    """Train on the chosen images, count right answers on the test set; a full training leaves its recording."""
    import torch

    from dataworth.learners.classifier import Classifier, describe_classifier
    from dataworth.learners.classifier_trainer import train_classifier

    torch.set_num_threads(1)
    rows, test = images(args.data, args.rows)
    encoder = LabelledEncoder(range(10), rows[0].x.shape)
    card = describe_classifier("resnet", replace(recipe_of(args), seed=run.trial), encoder, args.device)
    net = Classifier(card, args.device)
    out, record = args.work / args.data / run.key.replace(" ", "-"), "train" if run.arm == "full" else "no"
    done = train_classifier(net, [rows[i] for i in chosen], out=out, tokens=args.epochs * len(rows), record=record)
    right = net.logits(test).argmax(1) == [row.label for row in test]
    if run.arm == "full" and run.trial == 0:
        np.save(out / "features.npy", net.features(rows))
    return {"accuracy": float(right.mean()), "rows": len(chosen), "seen": done.tokens, "loss": done.losses[-1]}


def filled(args: argparse.Namespace, ledger: Ledger, runs: dict[Run, Sequence[int]]) -> None:
    """Train what the ledger lacks, in worker processes."""
    missing = {run: chosen for run, chosen in runs.items() if run.key not in ledger.found}
    if args.workers == 0:
        for run, chosen in missing.items():
            ledger.get(run.key, lambda run=run, chosen=chosen: train(args, run, chosen))
        return
    with ProcessPoolExecutor(args.workers) as workers:
        futures = {workers.submit(train, args, run, chosen): run for run, chosen in missing.items()}
        for future in as_completed(futures):
            ledger.get(futures[future].key, lambda future=future: future.result())


def scores_of(args: argparse.Namespace, path: Path, ids: Sequence[str]) -> dict[str, Scored]:
    """EL2N, AUM and prototypes by the full trainings; kept as the committed file, since recordings are large."""
    if not path.is_file():
        folders = [args.work / args.data / f"full-1-{trial}" for trial in range(args.seeds)]
        found = Dynamics(*np.stack([np.load(f / "dynamics.npy") for f in folders]).transpose(1, 0, 2, 3))
        clusters = kmeans(np.load(folders[0] / "features.npy"), id_order(ids), 10)
        inputs = {"ids": ids, "dynamics": found, "clusters": clusters}
        made = {"el2n": EL2N()(inputs, epoch=min(EARLY, found.epochs)), "aum": AUM()(inputs)}
        made["prototypes"] = Prototypes()(inputs)
        sink = io.BytesIO()
        np.savez_compressed(sink, **{name: s.values_N.astype(np.float32) for name, s in made.items()})
        path.write_bytes(sink.getvalue())
    with np.load(path) as stored:
        return {name: Scored(stored[name].astype(np.float64)) for name in stored.files}


def chosen_by(run: Run, scores: dict[str, Scored], ids: Sequence[str]) -> Sequence[int]:
    """Places of the images that an arm keeps; only random draws differ between trials."""
    budget, inputs = Budget("fraction", run.share), {"ids": ids, "eligible_N": np.ones(len(ids), bool), "excluded": {}}
    if run.arm == "random":
        picked = RandomPick()(inputs, budget, seed=run.trial)
    elif run.arm == "ccs":
        given = {**inputs, "score:aum": scores["aum"], "higher": AUM.higher}
        picked = Stratified()(given, budget, cut=CUT[run.share])
    else:
        picked = TopK()({**inputs, f"score:{run.arm}": scores[run.arm], "higher": "keep"}, budget)
    return np.flatnonzero(picked.kept_N).tolist()


def verdicts(args: argparse.Namespace, ledger: Ledger) -> list[dict[str, Any]]:
    """Every arm against random images and against all, within each share."""

    def arm(name: str, share: float, trials: int) -> Arm:
        values = [ledger.found[Run(name, share, t).key]["accuracy"] for t in range(trials)]
        return Arm(f"{name} {share:g}", -np.array(values), name in ("random", "full"))

    out = []
    for share, names in ARMS[args.data]:
        trials = trials_of(args, share)
        rules = Rules(looks_at((trials,)), 2 * len(names) - 1, MARGIN)
        full, drawn = arm("full", 1.0, trials), arm("random", share, trials)
        for name in names:
            subject = arm(name, share, trials)
            others = [full] if name == "random" else [drawn, full]
            told = [judge(subject, other, rules) for other in others]
            mean, sd = -float(subject.cost_R.mean()), float(subject.cost_R.std(ddof=1))
            out.append({"arm": subject.name, "accuracy": mean, "sd": sd, "verdicts": [v.to_dict() for v in told]})
            out[-1]["told"] = "; ".join(v.text for v in told)
    return out


def trials_of(args: argparse.Namespace, share: float) -> int:
    """Trials of an arm: five where half is kept, three elsewhere."""
    return int(args.seeds if share == 0.5 else args.small_seeds)


def main(arguments: list[str] | None = None) -> None:
    """Train or go on, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(ROWS), default="cifar10")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lr", type=float, default=ClassifierRecipe().lr)
    parser.add_argument("--work", type=Path, default=Path("runs/image_pruning"))
    parser.add_argument("--results", type=Path, default=Path("reproductions/results/image_pruning"))
    parser.add_argument("--json", action="store_true")
    for name, size in FULL.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=size if name != "rows" else None)
    args = parser.parse_args(arguments)
    stated = {**FULL, "rows": ROWS[args.data]}
    args.rows = args.rows or stated["rows"]
    args.results.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(args.results / f"{args.data}.jsonl")
    ids = [row.id for row in images(args.data, args.rows)[0]]
    filled(args, ledger, {Run("full", 1.0, t): range(len(ids)) for t in range(args.seeds)})
    scores = scores_of(args, args.results / f"{args.data}-scores.npz", ids)
    runs = [Run(n, share, t) for share, names in ARMS[args.data] for n in names for t in range(trials_of(args, share))]
    filled(args, ledger, {run: chosen_by(run, scores, ids) for run in runs})
    full = [ledger.found[Run("full", 1.0, t).key]["accuracy"] for t in range(args.seeds)]
    small = [n for n, v in stated.items() if getattr(args, n) < v]
    result = {
        "verdict": f"not reproduced: below the stated sizes ({', '.join(small)})" if small else "at the stated sizes",
        "data": args.data,
        "sizes": {n: getattr(args, n) for n in stated},
        "recipe": recipe_of(args).to_dict(),
        "margin": MARGIN,
        "full": {"accuracy": float(np.mean(full)), "sd": float(np.std(full, ddof=1))},
        "arms": verdicts(args, ledger),
        "machine": platform.platform(),
    }
    (args.results / f"{args.data}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as lines of text."""
    full = result["full"]
    lines = [
        result["verdict"],
        f"{result['data']}: accuracy {full['accuracy']:.4f} (sd {full['sd']:.4f}) on all images",
    ]
    lines += [f"  {a['arm']}: {a['accuracy']:.4f} (sd {a['sd']:.4f}); {a['told']}" for a in result["arms"]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
