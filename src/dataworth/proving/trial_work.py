"""What a worker does for one trial: train on its rows unless that is done, then judge what was trained."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dataworth.errors import NonsenseRefused
from dataworth.proving.trainers import OUT, TrainerFailed, UserTrainer, environment_of
from dataworth.recipe import ClassifierRecipe, Recipe
from dataworth.records import Example
from dataworth.store.cache import is_done, mark_done
from dataworth.store.lock import EntryLock

if TYPE_CHECKING:
    from dataworth.judges import Trained, TrainedNet
    from dataworth.learners.classifier import ClassifierCard
    from dataworth.learners.labelled import Labelled
    from dataworth.outcome import Judge

AGAIN = ("quarantined", "not trained: ")
"""How the reasons begin of trials that are tried again: a dying machine or a broken environment is no property of
theirs."""


@dataclass(frozen=True)
class Job:
    """A trial as a worker gets it: what it trains on and where that is kept; no folder for the untouched model.

    `rows` are encoded; a classifier's rows of the pool are ids instead, since every worker has the pool mapped. For a
    trainer of the user's own there is `given`, what it is told, instead of rows; `tokens` is then what it is known to
    train on.
    """

    rows: tuple[Any, ...]
    weights: tuple[float, ...]
    recipe: Mapping[str, Any]
    tokens: int | None
    folder: str
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """Rows that every trial is judged on, under a name, by a judge."""

    name: str
    judge: Judge
    rows: tuple[Example, ...]


class Apprentice(ABC):
    """The learner of a proof in a worker: trains on a job's rows and opens what that left."""

    @abstractmethod
    def train(self, job: Job) -> tuple[Path, int]:
        """Train in the job's folder, which is locked and unfinished; the folder to be judged, tokens trained on."""

    @abstractmethod
    def trained(self, job: Job) -> tuple[Path, int]:
        """What a finished training left, as `train` says it."""

    @abstractmethod
    def opened(self, job: Job, left: Path | None) -> Trained | TrainedNet:
        """What the judges measure; None: the untouched learner."""


class LanguageApprentice(Apprentice):
    """Adapters of a language model; `states` is where hidden states of its frozen layers are kept."""

    def __init__(self, model: str, device: str, states: Path | None) -> None:
        self.model, self.device, self.states = model, device, states

    def train(self, job: Job) -> tuple[Path, int]:
        """Leaves the adapter alone: what it took to get there is thrice its size, and no judge reads it."""
        from dataworth.learners.causal_lm import CausalLM
        from dataworth.learners.checkpoint import MOMENTS, STATE
        from dataworth.learners.trainer import train

        folder = Path(job.folder)
        train(
            CausalLM.load(self.model, recipe=Recipe.from_dict(dict(job.recipe)), device=self.device),
            job.rows,
            out=folder,
            weights=job.weights or None,
            checkpoints=1,
            tokens=job.tokens,
            states=self.states,
        )
        for spent in (folder / STATE, *folder.glob(f"checkpoint-*/{MOMENTS}")):
            spent.unlink(missing_ok=True)
        return self.trained(job)

    def trained(self, job: Job) -> tuple[Path, int]:
        """The last checkpoint."""
        from dataworth.learners.trainer import load_trained

        done = load_trained(Path(job.folder))
        return done.folders[-1], done.tokens

    def opened(self, job: Job, left: Path | None) -> Trained:
        """The model with its adapter."""
        from dataworth.judges import Trained

        recipe = Recipe.from_dict(dict(job.recipe))
        return Trained(self.model, recipe, left, device=self.device, states=self.states)


class NetApprentice(Apprentice):
    """Nets over rows with a class; `inputs` is the folder that holds the pool as they see it."""

    def __init__(
        self, model: str, classes: Sequence[str | int], shape: Sequence[int], inputs: str, device: str
    ) -> None:
        self.model, self.classes, self.shape, self.device = model, classes, tuple(shape), device
        self.inputs = Path(inputs)
        self.encoded: dict[int, tuple[Example, Labelled]] = {}

    @cached_property
    def _row_of(self) -> dict[str, Labelled]:
        from dataworth.probes.nets import read_inputs

        return {row.id: row for row in read_inputs(self.inputs)}

    def _card(self, job: Job) -> ClassifierCard:
        from dataworth.learners.classifier import describe_classifier
        from dataworth.learners.labelled import LabelledEncoder

        recipe = ClassifierRecipe.from_dict(dict(job.recipe))
        return describe_classifier(self.model, recipe, LabelledEncoder(self.classes, self.shape), self.device)

    def train(self, job: Job) -> tuple[Path, int]:
        """Leaves the net."""
        from dataworth.learners.classifier import Classifier
        from dataworth.learners.classifier_trainer import train_classifier

        rows = [self._row_of[row] if isinstance(row, str) else row for row in job.rows]
        net, weights = Classifier(self._card(job), self.device), job.weights or None
        done = train_classifier(net, rows, out=Path(job.folder), weights=weights, tokens=job.tokens)
        return done.folder, done.tokens

    def trained(self, job: Job) -> tuple[Path, int]:
        """The folder itself."""
        from dataworth.learners.classifier_trainer import load_trained_classifier

        done = load_trained_classifier(Path(job.folder))
        return done.folder, done.tokens

    def opened(self, job: Job, left: Path | None) -> TrainedNet:
        """The net; rows are made arrays once for all trials of the worker."""
        from dataworth.judges import TrainedNet

        return TrainedNet(self._card(job), left, device=self.device, encoded=self.encoded)


class TrialWork:
    """What an engine calls per shard: train each job's learner unless that is done, then judge it.

    Columns, with `J` judged sets: `mean` float64 `[n, J]`, `count` int32 `[n, J]` judged rows, `tokens` int64 `[n]`
    trained on; ragged `value`, `weight` (float64) and `row` (int32, position among the set's rows), the sets one behind
    another. A trial whose loss isn't finite, or of which a set has nothing to judge, is unscored with that reason.
    """

    def __init__(
        self,
        apprentice: Apprentice,
        judged: Sequence[Judged],
        trainer: UserTrainer | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.apprentice, self.judged, self.trainer, self.environ = apprentice, judged, trainer, environ or {}

    def __call__(self, ids: Sequence[str], payload: Sequence[Job]) -> tuple[dict[str, Any], dict[str, str]]:
        """Columns of the trials that trained, and reasons for the others."""
        found: list[dict[str, Any]] = []
        unscored: dict[str, str] = {}
        for trial_id, job in zip(ids, payload, strict=True):
            try:
                found.append(self._trial(job))
            except TrainerFailed as error:
                unscored[trial_id] = f"{AGAIN[1]}{error}"
            except NonsenseRefused as error:
                unscored[trial_id] = str(error)
        flat = {name: np.array([f[name] for f in found], dtype) for name, dtype in _FLAT}
        ragged = {name: [f[name] for f in found] for name in _RAGGED}
        return ({**flat, **ragged} if found else {}), unscored

    def _trial(self, job: Job) -> dict[str, Any]:
        left, tokens = self._train(job) if job.folder else (None, 0)
        with self.apprentice.opened(job, left) as model:
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

    def _train(self, job: Job) -> tuple[Path, int]:
        folder = Path(job.folder)
        if not is_done(folder):
            with EntryLock(folder):
                if self.trainer is None:
                    self.apprentice.train(job)
                else:
                    self.trainer.train(folder, job.given, self.environ)
                mark_done(folder)
        return self.apprentice.trained(job) if self.trainer is None else (folder / OUT, job.tokens or 0)


_FLAT = (("mean", np.float64), ("count", np.int32), ("tokens", np.int64))
_RAGGED = ("value", "weight", "row")


def open_trials(config: dict[str, Any], device: str) -> TrialWork:
    """Engine runner. `config`: `judged`, the sets that every trial is judged on; `trainer` of the user's own.

    `net` or `language` holds what makes the learner. With a trainer goes `environ`, the environment in which the user
    typed, and `alone`, whether it has the machine for itself.
    """
    environ = environment_of(config["environ"], device, config["alone"]) if config["trainer"] else None
    made: Apprentice
    if "net" in config:
        made = NetApprentice(**config["net"], device=device)
    else:
        made = LanguageApprentice(**config["language"], device=device)
    return TrialWork(made, config["judged"], config["trainer"], environ)
