"""What a request resolves to: pool, goal, learner, cache, engine, and a ledger of guards and costs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from dataworth import config
from dataworth.errors import NonsenseRefused, RequestError, TooManyRejects
from dataworth.options import ClassifierOptions, GeometryOptions, GradientOptions
from dataworth.recipe import CLASSIFIERS, ClassifierRecipe, Recipe
from dataworth.records import Goal, Pool
from dataworth.results import ScoreResult, SelectResult
from dataworth.store.artefact import Artefact
from dataworth.store.cache import Cache
from dataworth.store.table import Table

if TYPE_CHECKING:
    from dataworth.diagnosing.diagnosis import Diagnosis
    from dataworth.engines.local import LocalEngine
    from dataworth.learners.causal_lm import LearnerCard
    from dataworth.learners.classifier import ClassifierCard
    from dataworth.proof.result import ProofResult
    from dataworth.proving.trainee import Trainee
    from dataworth.proving.trainers import Metric, UserTrainer


class Progress(Protocol):
    """How a verb tells what it does: called with (stage, rows done, rows in all), and `say` for a line of text."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` rows of a stage are finished."""
        ...

    def say(self, text: str) -> None:
        """Tell something worth reading, once."""
        ...


class Silent:
    """Tells nothing."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


SILENT = Silent()


@dataclass
class Session:
    """Everything a verb works with. `guards` and `costs` end up in the run's record; a `dry` one runs no model.

    `with` it, so that the engine's workers end with the verb.
    """

    request: config.Request
    pool: Pool
    goal: Goal | None
    recipe: Recipe
    cache: Cache
    progress: Progress
    gradient: GradientOptions = field(default_factory=GradientOptions)
    geometry: GeometryOptions = field(default_factory=GeometryOptions)
    classifier_options: ClassifierOptions = field(default_factory=ClassifierOptions)
    classifier_recipe: ClassifierRecipe = field(default_factory=ClassifierRecipe)
    excluded: dict[str, tuple[str, str]] = field(default_factory=dict)
    warmup_ids: tuple[str, ...] | None = None
    warmup_record: dict[str, Any] | None = None
    guards: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unscored: dict[str, str] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)
    made: dict[Any, Any] = field(default_factory=dict)
    dry: bool = False

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if "engine" in self.__dict__:
            self.engine.close()

    @cached_property
    def learner(self) -> LearnerCard:
        """Model folder, renderer and fingerprints; no weights are loaded.

        Raises:
            RequestError: No model was named, or it can't be found.
        """
        if self.request.model is None:
            raise RequestError("this needs a learner: expected --model FOLDER, FILE.gguf or a hub id")
        from dataworth.learners.causal_lm import describe_learner

        return describe_learner(self.request.model, self.recipe, device=self.request.device)

    @property
    def classifies(self) -> bool:
        """Whether the pool's rows have classes, so that the learner is a classifier."""
        return self.pool.kinds == {"classify"}

    @cached_property
    def classifier(self) -> ClassifierCard:
        """The classifier of the request, fingerprinted; no net is made.

        Raises:
            RequestError: No model was named, or the rows have no classes.
        """
        from dataworth.classifying import describe

        return describe(self)

    @property
    def recipe_in_force(self) -> Recipe | ClassifierRecipe:
        """How the learner of this pool is trained."""
        return self.classifier_recipe if self.classifies else self.recipe

    @cached_property
    def trainer(self) -> UserTrainer | None:
        """The user's own trainer of a proof; None where the trial trainer trains.

        Raises:
            RequestError: It can't be one.
        """
        from dataworth.proving.trainers import trainer_of

        return trainer_of(self.request) if isinstance(self.request, config.TrialRequest) else None

    @cached_property
    def trainee(self) -> Trainee:
        """The learner as the trials of a proof train it.

        Raises:
            RequestError: No model was named, or it doesn't fit the rows.
        """
        from dataworth.proving.trainee import trainee_of

        return trainee_of(self)

    @property
    def metric(self) -> Metric | None:
        """The number by which the user's own trainer judges what it trains; None where judge rows judge."""
        return self.trainer.metric if self.trainer else None

    @cached_property
    def engine(self) -> LocalEngine:
        """Where shards run: one worker per GPU or core, or this process for `--workers 0`, for all stages."""
        from dataworth.engines.local import LocalEngine

        devices = worker_devices(self.request.device, self.request.workers)
        return LocalEngine(workers=len(devices), devices=devices or [first_device(self.request.device)])

    def artefact(self, kind: str, spec: Mapping[str, Any]) -> Artefact:
        """An artefact of the cache, noted as used by this run."""
        found = self.cache.artefact(kind, dict(spec))
        self.used[found.fingerprint] = kind
        return found

    def fill(
        self,
        stage: str,
        artefact: Artefact,
        ids: Sequence[str],
        runner: str,
        settings: Mapping[str, Any],
        payload: Callable[[Sequence[str]], Any],
        most_rows: int = 256,
    ) -> Table:
        """Compute the missing rows of an artefact and return the asked ones."""
        missing = artefact.missing(ids)
        if missing:
            with self.costing(stage, len(missing)):
                self.engine.run(
                    artefact,
                    list(ids),
                    runner=runner,
                    config=dict(settings),
                    payload=payload,
                    shard_rows=shard_size(len(missing), most_rows),
                    progress=lambda done, total: self.progress(stage, done, total),
                )
        return artefact.table(list(ids))

    @contextmanager
    def costing(self, stage: str, rows: int) -> Iterator[None]:
        """Add the wall and CPU seconds of a stage, workers included, to the ledger."""
        wall, cpu = time.perf_counter(), self._cpu_seconds()
        yield
        cost = self.costs.setdefault(stage, {"rows": 0, "wall_seconds": 0.0, "cpu_seconds": 0.0})
        cost["rows"] += rows
        cost["wall_seconds"] += time.perf_counter() - wall
        cost["cpu_seconds"] += self._cpu_seconds() - cpu

    def _cpu_seconds(self) -> float:
        return cpu_seconds() + (self.engine.worker_seconds() if "engine" in self.__dict__ else 0.0)

    def guard(self, name: str, passed: bool, evidence: str, advice: str) -> None:
        """Record a guard of law 6 and refuse if it fails.

        What was found is recorded once, however often it is looked for: a resumed run looks less often.

        Raises:
            NonsenseRefused: The guard failed.
        """
        found = {"guard": name, "passed": passed, "evidence": evidence}
        if found not in self.guards:
            self.guards.append(found)
        if not passed:
            raise NonsenseRefused(f"{evidence}; {advice}")


def shard_size(rows: int, most: int) -> int:
    """Rows of a shard: about 16 shards for small jobs, so that workers end together; never more than `most`.

    It depends on the rows alone, so that the stored bytes don't depend on the number of workers.
    """
    return min(most, max(16, -(-rows // 16)))


def open_session(request: config.Request, run: Path | None, progress: Progress = SILENT) -> Session:
    """Read the pool and the goal and set up the rest; rejected rows are listed in the run folder.

    Raises:
        RequestError: Something of the request can't be read or doesn't exist.
    """
    from dataworth.formats import open_goal

    wall, cpu = time.perf_counter(), cpu_seconds()
    check_device(request.device, request.workers)
    pool = open_pool_of(request, run)
    goal = None
    if request.goal is not None:
        mapping = config.pairs(request.goal_map, "--goal-map") or None
        rejects = run / "goal-rejected.jsonl" if run else None
        # Rows to classify have a goal of such rows; whatever else the pool is, a goal's answers are answers.
        task = "classify" if request.task == "classify" else None
        goal = open_goal(request.goal, mapping=mapping, rejects=rejects, task=task)
    classes = pool.kinds == {"classify"}
    recipe = config.load_recipe(None if classes else request.recipe, {"mask_like": request.mask_like})
    session = Session(request, pool, goal, recipe, Cache(), progress)
    if classes:
        session.classifier_recipe = config.load_classifier_recipe(request.recipe)
        if request.model is not None and session.trainer is None:
            refuse_unknown_classifier(request.model)
    spent = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": cpu_seconds() - cpu}
    session.costs["reading"] = {"rows": len(pool), **spent}
    return session


def refuse_unknown_classifier(model: str) -> None:
    """Refuse a name that no classifier has, before any work; what stands behind a colon is tried where it is made.

    Raises:
        RequestError: It is no such name.
    """
    if model not in CLASSIFIERS and ":" not in model:
        raise RequestError(
            f"model {model!r} for rows with a class: expected {', '.join(CLASSIFIERS)}, torchvision:NAME, timm:NAME, "
            "or a module:function of your own; correct --model"
        )


def open_pool_of(request: config.Request, run: Path | None) -> Pool:
    """The pool of a request.

    Raises:
        RequestError: A path that isn't there, or no readable row.
    """
    from dataworth.formats import open_pool

    if request.duplicate_keys not in ("reject", "last"):
        raise RequestError(f"duplicate_keys={request.duplicate_keys!r}: expected reject or last")
    if request.task not in (None, "sft", "rl", "classify"):
        raise RequestError(f"task={request.task!r}: expected sft, rl or classify; correct --task")
    return open_pool(
        list(request.pool),
        mapping=config.pairs(request.map, "--map") or None,
        duplicate_keys=request.duplicate_keys,  # type: ignore[arg-type]
        rejects=run / "rejected.jsonl" if run else None,
        task=request.task,  # type: ignore[arg-type]
    )


def check_rejects(result: SelectResult | ScoreResult | ProofResult | Diagnosis, request: config.Request) -> None:
    """End with an error when more rows of the pool were rejected than allowed.

    Raises:
        TooManyRejects: They were; the error carries the finished result.
    """
    rejected, rows = result.record["pool"]["rejected"], result.record["pool"]["rows"]
    share = rejected / (rejected + rows)
    if share <= request.max_rejected:
        return
    error = TooManyRejects(
        f"{rejected:,} of {rejected + rows:,} rows were rejected ({share:.1%}, allowed {request.max_rejected:.1%}): "
        f"the result is written; read {result.run / 'rejected.jsonl'} or raise --max-rejected"
    )
    error.result = result
    raise error


def cpu_seconds() -> float:
    """CPU time of this process and of its ended children."""
    ended = os.times()  # in ticks of 10 ms; the process itself is counted in nanoseconds
    return time.process_time() + ended.children_user + ended.children_system


def first_device(device: str) -> str:
    """The device a single process uses for `--device`."""
    if device == "auto":
        return "cuda:0" if _gpus() else "cpu"
    if device == "cuda":
        return "cuda:0"
    return device


def worker_devices(device: str, workers: int | None) -> list[str]:
    """One entry per worker process; empty means: work in this process.

    Raises:
        RequestError: An unknown device, or a negative number of workers.
    """
    check_device(device, workers)
    gpus = _gpus() if device in ("auto", "cuda") else 0
    if device.startswith("cuda:"):
        places = [device]
    elif gpus:
        places = [f"cuda:{i}" for i in range(gpus)]
    elif device == "cuda":
        raise RequestError("device 'cuda': this machine shows no GPU; use --device cpu")
    else:
        places = ["cpu"] * len(os.sched_getaffinity(0))
    if workers is None:
        return places
    return [places[i % len(places)] for i in range(workers)]


def check_device(device: str, workers: int | None) -> None:
    """Refuse devices and numbers of workers that mean nothing, before any work.

    Raises:
        RequestError: An unknown device, or a negative number of workers.
    """
    if device not in ("cpu", "auto", "cuda") and not (device.startswith("cuda:") and device[5:].isdigit()):
        raise RequestError(f"device {device!r}: expected auto, cpu, cuda or cuda:N; correct --device")
    if workers is not None and workers < 0:
        raise RequestError(f"workers {workers}: expected 0 (this process) or more; correct --workers")


def _gpus() -> int:
    """How many GPUs torch sees; 0 without torch."""
    from dataworth.learners.load import gpu_count

    return gpu_count()
