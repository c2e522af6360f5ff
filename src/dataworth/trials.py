"""Trials run: each is one row of a cached artefact, trained and judged in a worker, found again by its content.

A trial's id is a hash of what it trains on and how (rows, weights, recipe with its seed, tokens); what it is judged on
is the artefact's spec. So another arm, seed or run costs only the trials that nobody has run, another judge costs only
judging (trained adapters are kept by content too), and a killed proof goes on inside the training that was cut.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dataworth.errors import NonsenseRefused
from dataworth.recipe import Recipe
from dataworth.records import Example, Pool, Protected, Subtask
from dataworth.store.atomic import write_atomic
from dataworth.store.cache import is_done, mark_done
from dataworth.store.fingerprint import fingerprint
from dataworth.store.lock import EntryLock

if TYPE_CHECKING:
    from dataworth.learners.render import Encoded
    from dataworth.outcome import Judge

RUNNER = "dataworth.trials:open_trials"
SECONDS = "seconds.log"
"""CPU-seconds of a training's last call: what later trainings of its size will take."""


@dataclass(frozen=True)
class Training:
    """What decides the bytes of a trained adapter. `tokens` is the budget of the equal-token protocol."""

    ids: tuple[str, ...]
    weights: tuple[float, ...]
    recipe: Recipe
    tokens: int | None = None

    def spec(self, learner: Mapping[str, Any]) -> dict[str, Any]:
        """Its key in the cache; the order of the rows doesn't matter."""
        weights = self.weights or (1.0,) * len(self.ids)
        rows = sorted(zip(self.ids, weights, strict=True))
        return {
            "learner": dict(learner),
            "recipe": self.recipe.to_dict(),
            "rows": fingerprint({"rows": rows}),
            **({} if self.tokens is None else {"tokens": self.tokens}),
        }


@dataclass(frozen=True)
class Job:
    """A trial as a worker gets it: encoded rows, or none for the untouched model, and where its training is kept."""

    rows: tuple[Encoded, ...]
    weights: tuple[float, ...]
    recipe: Mapping[str, Any]
    tokens: int | None
    folder: str


@dataclass(frozen=True)
class Judged:
    """Rows that every trial is judged on, under a name, by a judge."""

    name: str
    judge: Judge
    rows: tuple[Example, ...]


def open_judged(parts: Sequence[tuple[Subtask | Protected, Pool]]) -> list[Judged]:
    """Judged sets of subtasks and protected skills with the rows that judge them."""
    from dataworth.judges import judge_named

    return [Judged(s.name, judge_named(s.judge_kind), tuple(pool.examples())) for s, pool in parts]


class TrialWork:
    """What an engine calls per shard: train each job's adapter unless it is there, then judge it.

    Columns, with `J` judged sets: `mean` float64 `[n, J]`, `count` int32 `[n, J]` judged rows, `tokens` int64 `[n]`
    trained on; ragged `value`, `weight` (float64) and `row` (int32, position among the set's rows), the sets one behind
    another. A trial whose loss isn't finite, or of which a set has nothing to judge, is unscored with that reason.
    """

    def __init__(self, model: str, judged: Sequence[Judged], device: str) -> None:
        self.model, self.judged, self.device = model, judged, device

    def __call__(self, ids: Sequence[str], payload: Sequence[Job]) -> tuple[dict[str, Any], dict[str, str]]:
        """Columns of the trials that trained, and reasons for the others."""
        found: list[dict[str, Any]] = []
        unscored: dict[str, str] = {}
        for trial_id, job in zip(ids, payload, strict=True):
            try:
                found.append(self._trial(job))
            except NonsenseRefused as error:
                unscored[trial_id] = str(error)
        flat = {name: np.array([f[name] for f in found], dtype) for name, dtype in _FLAT}
        ragged = {name: [f[name] for f in found] for name in _RAGGED}
        return ({**flat, **ragged} if found else {}), unscored

    def _trial(self, job: Job) -> dict[str, Any]:
        from dataworth.judges import Trained

        recipe = Recipe.from_dict(dict(job.recipe))
        adapter, tokens = self._train(job, recipe) if job.rows else (None, 0)
        with Trained(self.model, recipe, adapter, device=self.device) as model:
            outcomes = [j.judge(model, j.rows) for j in self.judged]
        place = [{r.id: n for n, r in enumerate(j.rows)} for j in self.judged]
        rows = [at.get(i, -1) for o, at in zip(outcomes, place, strict=True) for i in o.ids]
        return {
            "mean": [o.mean for o in outcomes],
            "count": [len(o.ids) for o in outcomes],
            "value": np.concatenate([o.value_Q for o in outcomes]),
            "weight": np.concatenate([o.weight_Q for o in outcomes]),
            "row": np.array(rows, dtype=np.int32),
            "tokens": tokens,
        }

    def _train(self, job: Job, recipe: Recipe) -> tuple[Path, int]:
        from dataworth.learners.causal_lm import CausalLM
        from dataworth.learners.checkpoint import MOMENTS, STATE
        from dataworth.learners.trainer import load_trained, train

        folder = Path(job.folder)
        if not is_done(folder):
            with EntryLock(folder):
                learner = CausalLM.load(self.model, recipe=recipe, device=self.device)
                began = time.process_time()
                train(learner, job.rows, out=folder, weights=job.weights or None, checkpoints=1, tokens=job.tokens)
                write_atomic(folder / SECONDS, f"{time.process_time() - began:.2f}\n".encode())
                # A judge reads the adapter alone; what it took to get there is thrice its size.
                for spent in (folder / STATE, *folder.glob(f"checkpoint-*/{MOMENTS}")):
                    spent.unlink(missing_ok=True)
                mark_done(folder)
        done = load_trained(folder)
        return done.folders[-1], done.tokens


def open_trials(config: dict[str, Any], device: str) -> TrialWork:
    """Engine runner. `config`: `model`, and `judged`, the pickled sets that every trial is judged on."""
    return TrialWork(config["model"], config["judged"], device)


_FLAT = (("mean", np.float64), ("count", np.int32), ("tokens", np.int64))
_RAGGED = ("value", "weight", "row")
