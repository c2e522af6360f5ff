"""Which scores find wrong labels: `python -m reproductions.label_noise`, CIFAR-10N `worse_label` against cleanlab.

10,000 images are drawn by hash from CIFAR-10's train set and carry the label of CIFAR-10N's worst annotator; it is
wrong where it isn't the clean one (two in five). One small ResNet is trained on them and recorded; `dataworth.score`
makes `aum` and `el2n` of the recording, `pvi` and `knn_shapley` of the net's features; `aum_threshold` trains two nets
of its own. The features are in sample: the net has seen these labels. `knn_shapley` guesses the labels of 1,000 other
images: once their noisy ones, once their clean ones, which no other method is told. The peer is cleanlab, whose
predicted probabilities are out of sample, from five folds of the same net.

All rows are ranked, the most suspicious first. With as many rows taken as there are wrong labels, precision and recall
are one number, `hits`. `flagged` is what a method calls wrong by a cut of its own: cleanlab's `find_label_issues`; AUM,
PVI or a Shapley value below 0; `aum_threshold` of 0 or below. Each seed draws images, folds and nets anew. What is
finished is kept in the ledger (`--ledger`), and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from scipy.special import softmax

import dataworth as dw
from dataworth.dynamics import NAMES
from dataworth.formats import open_pool
from dataworth.learners.labelled import Labelled, LabelledEncoder
from dataworth.numerics.ranks import mean_interval
from dataworth.recipe import ClassifierRecipe
from dataworth.records import hash_unit
from dataworth.results import table
from reproductions import flan
from reproductions.less_fidelity import Ledger

FULL = {"rows": 10_000, "epochs": 10, "width": 32, "seeds": 3, "folds": 5, "goal_rows": 1_000}
CLASSES = 10
FIGURES = ("hits", "auroc", "average_precision")
PEER = "cleanlab"
Figures = dict[str, float]


@dataclass(frozen=True)
class Case:
    """One seed's images: those to rank, and others as a goal."""

    args: argparse.Namespace
    seed: int

    @property
    def folder(self) -> Path:
        """Where its pool, nets and runs lie."""
        sizes = "-".join(str(getattr(self.args, n)) for n in ("rows", "epochs", "width", "goal_rows"))
        return Path(self.args.work) / f"{sizes}-{self.seed}"

    @cached_property
    def images(self) -> tuple[pa.Table, pa.Table]:
        """Index, jpeg, noisy `label` and `clean` one of the images to rank and of the goal's."""
        data = flan.data_folder() / "cifar10"
        found = pa.concat_tables([pq.read_table(path) for path in sorted(data.glob("train-*.parquet"))])
        noisy = pq.read_table(data / "cifar10n_labels.parquet")
        if found["index"] != noisy["index"] or found["label"] != noisy["clean_label"]:
            raise SystemExit(f"{data}: expected images and noisy labels in one order; fetch them again")
        names = ["index", "jpeg", "label", "clean"]
        whole = pa.table([found["index"], found["jpeg"], noisy["worse_label"], noisy["clean_label"]], names)
        order = np.argsort(hash_unit([str(i) for i in range(len(whole))], self.seed, "label noise"), kind="stable")
        rows, goal = self.args.rows, self.args.goal_rows
        return whole.take(np.sort(order[:rows])), whole.take(np.sort(order[rows : rows + goal]))

    @property
    def label_N(self) -> NDArray[np.int64]:
        """The labels as given."""
        return np.asarray(self.images[0]["label"], dtype=np.int64)

    @property
    def wrong_N(self) -> NDArray[np.bool_]:
        """Whether a row's label isn't the clean one."""
        return self.label_N != np.asarray(self.images[0]["clean"], dtype=np.int64)

    @cached_property
    def rows(self) -> tuple[list[Labelled], list[Labelled]]:
        """The same images as a net reads them."""
        encoder, found = LabelledEncoder(range(CLASSES), (3, 32, 32)), []
        for name, images in zip(("pool", "others"), self.images, strict=True):
            path = self.folder / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file():
                pq.write_table(images.drop_columns("clean"), path)
            found.append([encoder.encode(example) for example in open_pool(path).examples()])
        return found[0], found[1]

    @property
    def recipe(self) -> ClassifierRecipe:
        """How every net is trained."""
        return ClassifierRecipe(epochs=self.args.epochs, width=self.args.width, augment="flip_crop", seed=self.seed)

    def net(self, name: str, chosen: NDArray[np.int64], record: bool = False) -> tuple[Any, Any]:
        """A net trained on some of the rows, and what the training left."""
        import torch

        from dataworth.learners.classifier import Classifier, describe_classifier
        from dataworth.learners.classifier_trainer import train_classifier

        torch.set_num_threads(1)
        device, rows = self.args.device, self.rows[0]
        encoder = LabelledEncoder(range(CLASSES), (3, 32, 32))
        net = Classifier(describe_classifier("resnet", self.recipe, encoder, device), device)
        out = self.folder / name
        done = train_classifier(net, [rows[i] for i in chosen], out=out, record="train" if record else "no")
        return net, done

    def score(self, name: str, methods: str, **request: Any) -> dict[str, NDArray[np.float64]]:
        """Scores of all rows by `dataworth.score`, by method."""
        run = str(self.folder / "runs" / name)
        found = dw.score(method=methods, run=run, workers=0, device=self.args.device, seed=self.seed, **request)
        return {method: scored.values_N for method, scored in found.scores.items()}


def by_dynamics(case: Case) -> dict[str, Figures]:
    """AUM and EL2N of the recorded training."""
    _, done = case.net("net", np.arange(case.args.rows), record=True)
    path = case.folder / "dynamics.npz"
    arrays = dict(zip(NAMES, done.values_5EN, strict=True))
    np.savez(path, ids=np.array([row.id for row in case.rows[0]]), **arrays)
    last = [f"epoch={case.args.epochs}"]  # of el2n: by the end wrong labels stand out most, where hard rows are fitted
    pool = str(case.folder / "pool.parquet")
    found = case.score("dynamics", "aum,el2n", pool=pool, dynamics=[str(path)], option=last)
    return {"aum": figures(-found["aum"], case.wrong_N, found["aum"] < 0), "el2n": figures(found["el2n"], case.wrong_N)}


def by_threshold_classes(case: Case) -> dict[str, Figures]:
    """AUM beyond the cut-off of threshold classes, from two trainings of the verb's own."""
    path = flan.settle(case.folder / "recipe.yaml", yaml.safe_dump(case.recipe.to_dict()))
    asked = {"pool": str(case.folder / "pool.parquet"), "model": "resnet", "recipe": str(path)}
    values_N = case.score("threshold", "aum_threshold", **asked)["aum_threshold"]
    return {"aum_threshold": figures(-values_N, case.wrong_N, values_N <= 0)}


def by_features(case: Case) -> dict[str, Figures]:
    """PVI, and kNN-Shapley values for goals with noisy and with clean labels."""
    net, _ = case.net("net", np.arange(case.args.rows), record=True)
    pool, others = (net.features(rows) for rows in case.rows)
    images = case.images
    files = {"pool": (pool, images[0]["label"]), "noisy": (others, images[1]["label"])}
    files["clean"] = (others, images[1]["clean"])
    for (name, (vectors, labels)), of in zip(files.items(), (images[0], images[1], images[1]), strict=True):
        index = np.asarray(of["index"])
        np.savez(case.folder / f"{name}.npz", vector=vectors, label=np.asarray(labels), index=index)
    of_pool = {"pool": str(case.folder / "pool.npz")}
    found = case.score("pvi", "pvi", **of_pool)
    for goal, name in (("noisy", "knn_shapley"), ("clean", "knn_shapley, clean goal")):
        given = case.score(goal, "knn_shapley", goal=str(case.folder / f"{goal}.npz"), **of_pool)
        found[name] = given["knn_shapley"]
    return {name: figures(-values_N, case.wrong_N, values_N < 0) for name, values_N in found.items()}


def by_cleanlab(case: Case) -> dict[str, Figures]:
    """Cleanlab's label quality by predicted probabilities out of sample, and the issues it finds."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.model_selection import StratifiedKFold

    rows, p_NK = case.rows[0], np.zeros((case.args.rows, CLASSES))
    folds = StratifiedKFold(case.args.folds, shuffle=True, random_state=case.seed)
    for fold, (others, held) in enumerate(folds.split(p_NK, case.label_N)):
        net, _ = case.net(f"fold-{fold}", others)
        p_NK[held] = softmax(net.logits([rows[i] for i in held]).astype(np.float64), axis=1)
    quality_N = get_label_quality_scores(case.label_N, p_NK)
    return {PEER: figures(-quality_N, case.wrong_N, find_label_issues(case.label_N, p_NK, n_jobs=1))}


WAYS: dict[str, Callable[[Case], dict[str, Figures]]] = {
    "dynamics": by_dynamics,
    "features": by_features,
    "threshold classes": by_threshold_classes,
    PEER: by_cleanlab,
}


def figures(
    suspicion_N: NDArray[np.float64], wrong_N: NDArray[np.bool_], flagged_N: NDArray[np.bool_] | None = None
) -> Figures:
    """How well a ranking finds the wrong labels; rows without a number come last, and equal ones in pool order."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    lowest = np.nanmin(suspicion_N) - 1
    ranked_N = np.where(np.isnan(suspicion_N), lowest, suspicion_N)
    first = np.argsort(-ranked_N, kind="stable")[: wrong_N.sum()]
    out = {
        "hits": float(wrong_N[first].mean()),
        "auroc": float(roc_auc_score(wrong_N, ranked_N)),
        "average_precision": float(average_precision_score(wrong_N, ranked_N)),
        "unscored": int(np.isnan(suspicion_N).sum()),
    }
    if flagged_N is None:
        return out
    right = int((flagged_N & wrong_N).sum())
    precision = right / max(1, int(flagged_N.sum()))
    return {**out, "flagged": int(flagged_N.sum()), "precision": precision, "recall": right / int(wrong_N.sum())}


def summary(by_seed: list[dict[str, Figures]]) -> list[dict[str, Any]]:
    """Every method's figures over the seeds with 95 % intervals, and its hits minus the peer's."""
    out = []
    for method in by_seed[0]:
        found = [seed[method] for seed in by_seed]
        entry: dict[str, Any] = {"method": method, "unscored": sum(int(f["unscored"]) for f in found)}
        for name in (*FIGURES, "flagged", "precision", "recall"):
            if name in found[0]:
                entry[name] = mean_interval([f[name] for f in found]).to_dict()
        if method != PEER:
            paired = [f["hits"] - seed[PEER]["hits"] for f, seed in zip(found, by_seed, strict=True)]
            entry["minus_peer"] = mean_interval(paired).to_dict()
        out.append(entry)
    return sorted(out, key=lambda entry: -entry["hits"]["value"])


def main(arguments: list[str] | None = None) -> None:
    """Train and score or go on, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--work", type=Path, default=Path("runs/label_noise"))
    parser.add_argument("--ledger", type=Path, default=Path("reproductions/results/label_noise.jsonl"))
    parser.add_argument("--out", type=Path, default=None, help="the result; reproductions/results/label_noise.json")
    parser.add_argument("--json", action="store_true")
    for name, size in FULL.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=size)
    args = parser.parse_args(arguments)
    ledger = Ledger(args.ledger)
    sizes = " ".join(str(getattr(args, n)) for n in FULL if n != "seeds")
    by_seed, share = [], []
    for seed in range(args.seeds):
        case = Case(args, seed)
        share.append(float(case.wrong_N.mean()))
        found: dict[str, Figures] = {}
        for way, make in WAYS.items():
            found |= ledger.get(f"{way} {sizes} {seed}", lambda make=make, case=case: make(case))
        by_seed.append(found)
    result = {
        **flan.stated(args, FULL),
        "wrong": float(np.mean(share)),
        "methods": summary(by_seed),
        "machine": platform.platform(),
    }
    flan.keep_result(args, "label_noise.json", result)
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as a table."""

    def cell(entry: dict[str, Any], name: str) -> str:
        found = entry.get(name)
        return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" if found else ""

    names = (*FIGURES, "minus_peer", "precision", "recall")
    lines = [[entry["method"], *(cell(entry, name) for name in names)] for entry in result["methods"]]
    told = f"{100 * result['wrong']:.1f} % of the labels are wrong, which is what a random order hits"
    header = ["method", "hits", "AUROC", "average precision", "hits minus cleanlab's", "flagged: precision", "recall"]
    return "\n".join([result["verdict"], told, table(lines, header)])


if __name__ == "__main__":
    main()
