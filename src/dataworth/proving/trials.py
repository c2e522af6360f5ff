"""Trials run: each is one row of a cached artefact, trained and judged in a worker, found again by its content.

A trial's id is a hash of what it trains on and how (rows, weights, recipe with its seed, tokens); what it is judged on
is the artefact's spec. So another arm, seed or run costs only the trials that nobody has run, another judge costs only
judging (trained adapters are kept by content too), and a killed proof goes on inside the training that was cut.
A trainer of the user's own is run in the same place; a training of its that was cut begins again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.proving.trainee import Trainee
from dataworth.proving.trainers import Metric, UserTrainer, seconds_of, write_rows
from dataworth.proving.trial_work import AGAIN, Job, Judged
from dataworth.recipe import ClassifierRecipe, Recipe
from dataworth.records import Example, Pool, Protected, Subtask
from dataworth.rendered import as_read
from dataworth.session import Session
from dataworth.store.atomic import checksum
from dataworth.store.cache import DONE, is_done
from dataworth.store.fingerprint import fingerprint

if TYPE_CHECKING:
    from dataworth.outcome import Judge

RUNNER = "dataworth.proving.trial_work:open_trials"
_OF_A_ROW = ("id", "kind", "schema", "messages", "text", "choices", "gold", "label", "content")
"""What of a row is in a trial's key: by name, so that a field that a later version adds leaves old trials found."""
A_DAY = 86400.0
"""Seconds after which a training counts as hung."""


RowValues = tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]
"""Of one judged set: positions of the judged rows in it, their values and weights."""


@dataclass(frozen=True)
class Training:
    """What decides the bytes of a trained adapter or net.

    `tokens` is the budget of the equal-token protocol; `goal` says, as in `Draw`, that the rows are the goal's.
    """

    ids: tuple[str, ...]
    weights: tuple[float, ...]
    recipe: Recipe | ClassifierRecipe
    tokens: int | None = None
    goal: str = ""

    def spec(self, learner: Mapping[str, Any], trainer: UserTrainer | None = None) -> dict[str, Any]:
        """Its key in the cache; the order of the rows doesn't matter, nor what the user's trainer isn't told."""
        weights = self.weights or (1.0,) * len(self.ids)
        rows = fingerprint({"rows": sorted(zip(self.ids, weights, strict=True))})
        if trainer is not None and self.ids:
            given = trainer.given(self.recipe, self.tokens, "")
            return {"learner": dict(learner), "trainer": trainer.key, "given": given, "rows": rows}
        return {
            "learner": dict(learner),
            # The learner says which arithmetic "auto" became, so asking for that one by name is the same training.
            "recipe": {**self.recipe.to_dict(), "dtype": "auto"},
            "rows": rows,
            **({} if self.tokens is None else {"tokens": self.tokens}),
            **({"goal": self.goal} if self.goal else {}),
        }


def open_judged(trainee: Trainee, parts: Sequence[tuple[Subtask | Protected, Pool]]) -> list[Judged]:
    """Judged sets of subtasks and protected skills with the rows that judge them; a note tells of those that are cut.

    Raises:
        RequestError: A judge that the learner has none of.
    """
    judged = [Judged(s.name, trainee.judge(s.judge_kind), trainee.judged(pool)) for s, pool in parts]
    for (part, pool), found in zip(parts, judged, strict=True):
        if part.judge_kind == "loss":
            which = next((p for p in ("steer", "tune") if getattr(part, p, None) is pool), "judge")
            trainee.tell_cut(f"{which} rows of {part.name}", found.rows)
    return judged


def common_unit(judged: Sequence[Judged]) -> tuple[str, str]:
    """Unit and direction of the goal's judged sets, which are averaged.

    Raises:
        RequestError: They differ.
    """
    units = {(j.judge.unit, j.judge.higher) for j in judged}
    if len(units) > 1:
        raise RequestError(
            f"the goal's subtasks are judged in {sorted(u for u, _ in units)}: expected one unit, as they are "
            "averaged; take them one by one"
        )
    return units.pop()


def judged_by_metric(session: Session, metric: Metric) -> list[Judged]:
    """The one judged set of a proof whose trainer judges what it trains.

    Raises:
        RequestError: There are skills to be protected: the untouched model has no such metric to compare with.
    """
    if session.goal is not None and session.goal.protected:
        raise RequestError(
            f"--metric {metric.name} with protected skills in the goal file: expected one, as the untouched model has "
            "no such metric to compare with; prove without --metric"
        )
    session.notes.append(
        f"judged by the trainer's own {metric.name}: the untouched model has none, so whether training helped at all "
        "isn't checked, nor which share of the full pool's improvement is kept"
    )
    return [Judged(metric.name, metric, ())]


def _judge_key(judge: Judge) -> dict[str, Any]:
    """What makes two judges one: their name, and the files of a user's own."""
    return {"name": judge.name, "files": [checksum(path) for path in getattr(judge, "files", ())]}


def _rows_key(rows: Sequence[Example]) -> str:
    """A hash of what the judge reads: a row's id is that of its columns, its text depends on the goal's map too."""
    return fingerprint({"rows": [_row_key(row) for row in rows]})


def _row_key(row: Example) -> dict[str, Any]:
    told = {k: v for k, v in dataclasses.asdict(dataclasses.replace(row, content=None)).items() if k in _OF_A_ROW}
    if row.content is None:
        return told
    if isinstance(row.content, bytes):
        return {**told, "content": hashlib.sha256(row.content).hexdigest()}
    found = np.ascontiguousarray(row.content)
    return {**told, "content": f"{found.dtype}{found.shape}{hashlib.sha256(found.tobytes()).hexdigest()}"}


class TrialSet:
    """The trials of a session's learner that are judged on the same rows: run, found again, and read as costs.

    A cost is lower-is-better in its judge's unit; scores of which higher is better enter negated.
    """

    def __init__(self, session: Session, judged: Sequence[Judged]) -> None:
        self.session, self.judged = session, list(judged)
        self.trainee = session.trainee
        self.sign_J = np.array([1.0 if j.judge.higher == "worse" else -1.0 for j in judged])
        sets = [{"name": j.name, "judge": _judge_key(j.judge), "rows": _rows_key(j.rows)} for j in judged]
        spec = {"learner": self.trainee.key, "judged": sets}
        self.artefact = session.artefact("trials", as_read(session.pool, spec))
        self.failed: dict[Training, str] = {}
        self._worked = session.trainer is None
        self._ids: dict[Training, str] = {}

    def run(
        self,
        trainings: Sequence[Training],
        stage: str,
        *,
        order: Callable[[Training], Any],
        done: Callable[[], None] = lambda: None,
    ) -> None:
        """Train and judge what is missing.

        Args:
            trainings: In any order; those without rows stand for the untouched model.
            stage: What progress and costs call it.
            order: Key by which they are started.
            done: Called after each one.
        """
        by_id = {self.id_of(t): t for t in trainings}
        # Those of cached trials, too: what a proof used doesn't depend on how often it was interrupted.
        self.session.used |= {fingerprint(self._spec(t)): "trainings" for t in trainings if t.ids}
        known = [i for i in by_id if i not in set(self.artefact.missing(by_id))]
        broken = [i for i, why in self.artefact.table(known).unscored.items() if why.startswith(AGAIN)]
        unscored = self.trainee.unscored

        def progress(count: int, total: int) -> None:
            self.session.progress(stage, count, total)
            if count:
                self._refuse_hopeless(trainings)
                done()

        with self.session.costing(stage, len(self.artefact.missing(by_id)) + len(broken)):
            for ids in filter(None, (broken, list(by_id))):
                self.session.engine.run(
                    self.artefact,
                    ids,
                    runner=RUNNER,
                    config=self._config,
                    payload=lambda ids: [self._job(by_id[i], unscored) for i in ids],
                    shard_rows=1,
                    progress=progress,
                    retry_unscored=ids is broken,
                    order=lambda ids: order(by_id[ids[0]]),
                    hang_s=A_DAY,
                )

    def close(self) -> None:
        """Give back the disk that trials shared; a later proof makes its own."""
        if self.trainee.states is not None:
            rmtree(self.trainee.states, ignore_errors=True)

    @cached_property
    def _config(self) -> dict[str, Any]:
        session, request = self.session, self.session.request
        alone = session.engine.workers < 2 and not request.device.startswith("cuda:")
        return {
            **self.trainee.config,
            "judged": self.judged,
            "trainer": session.trainer,
            "environ": dict(os.environ) if session.trainer else {},
            "alone": alone,
        }

    def _refuse_hopeless(self, trainings: Sequence[Training]) -> None:
        """Stop if a trainer of the user's own fails before it has worked once: it would fail in every trial.

        Raises:
            RequestError: What it failed with.
        """
        if not self._worked:
            self._worked = bool(self.costs(t for t in trainings if t.ids))
            why = next((w.removeprefix(AGAIN[1]) for w in self.failed.values() if w.startswith(AGAIN[1])), "")
            if why and not self._worked:
                raise RequestError(f"--train-command: {why}; the proof stops at its first trial: correct the trainer")

    def seconds(self, training: Training) -> float:
        """How long a finished training of the user's trainer took."""
        return seconds_of(self.folder(training))

    def unjudged(self, trainings: Iterable[Training]) -> list[str]:
        """A sentence for each judged set of which some trial couldn't judge every row."""
        by_id = {self.id_of(t): t for t in trainings}
        missing = set(self.artefact.missing(by_id))
        table = self.artefact.table([i for i in by_id if i not in missing])
        if not table.scored_N.any():
            return []
        count_nJ = table.column("count")
        return [
            f"{j.name}: {count_n.min():,} of {len(j.rows):,} judge rows could be judged"
            + (" in the worst trial, so trials are not on the same rows" if np.ptp(count_n) else "")
            for j, count_n in zip(self.judged, count_nJ.T, strict=True)
            if count_n.min() < len(j.rows)
        ]

    def costs(self, trainings: Iterable[Training]) -> dict[Training, tuple[NDArray[np.float64], int]]:
        """Costs `[J]` and training tokens of the trials that are there; those that failed are in `failed`."""
        by_id = {self.id_of(t): t for t in trainings}
        missing = set(self.artefact.missing(by_id))
        table = self.artefact.table([i for i in by_id if i not in missing])
        self.failed |= {by_id[i]: reason for i, reason in table.unscored.items()}
        have = [by_id[i] for i in by_id if i not in missing and i not in table.unscored]
        self.failed = {t: why for t, why in self.failed.items() if t not in have}
        if not have:
            return {}
        cost_nJ, tokens_n = table.column("mean") * self.sign_J, table.column("tokens").tolist()
        return dict(zip(have, zip(cost_nJ, tokens_n, strict=True), strict=True))

    def values(self, training: Training) -> list[RowValues]:
        """What each judged set's rows came to in a trial that is there."""
        table = self.artefact.table([self.id_of(training)])
        ends = np.cumsum(table.column("count")[0])[:-1]
        row, value, weight = (np.split(table.ragged(name)[0], ends) for name in ("row", "value", "weight"))
        return list(zip(row, value, weight, strict=True))

    def id_of(self, training: Training) -> str:
        """The trial's row id in the artefact."""
        if training not in self._ids:
            spec = training.spec(self.trainee.key, self.session.trainer)
            self._ids[training] = fingerprint(spec)[:32]
        return self._ids[training]

    def _job(self, training: Training, unscored: Mapping[str, str]) -> Job:
        """What a worker gets; rows without loss are left out, as a trainer would find nothing in them."""
        recipe = training.recipe.to_dict()
        if not training.ids:
            return Job((), (), recipe, None, "")
        keep = [n for n, i in enumerate(training.ids) if training.goal or i not in unscored]
        ids = [training.ids[n] for n in keep]
        weights = tuple(training.weights[n] for n in keep) if training.weights else ()
        folder = self.folder(training)
        if self.session.trainer is not None:
            return self._users_job(self.session.trainer, training, ids, weights, folder)
        rows = tuple(self.trainee.steer()) if training.goal else self.trainee.rows(ids)
        return Job(rows, weights, recipe, training.tokens, str(folder))

    def _users_job(
        self, trainer: UserTrainer, training: Training, ids: Sequence[str], weights: Sequence[float], folder: Path
    ) -> Job:
        """A job for the user's own trainer, its rows written to a file; tokens are told only where they are known."""
        pool, recipe = self.session.pool, training.recipe
        given = trainer.given(recipe, training.tokens, self.trainee.model)
        if not (is_done(folder) and trainer.left(folder)):
            (folder / DONE).unlink(missing_ok=True)
            given["data"] = str(write_rows(pool, ids, weights, folder))
        length_n = self.trainee.size_N[[pool.position[i] for i in ids]]
        once = int(np.rint(length_n @ np.asarray(weights or np.ones(len(ids)))))
        return Job(
            (), (), recipe.to_dict(), recipe.epochs * once if "epochs" in trainer.takes else 0, str(folder), given
        )

    def folder(self, training: Training) -> Path:
        """Where a training is kept, or will be."""
        return self.session.cache.folder("trainings", self._spec(training))

    def _spec(self, training: Training) -> dict[str, Any]:
        """What a training's folder is keyed by."""
        return as_read(self.session.pool, training.spec(self.trainee.key, self.session.trainer))
