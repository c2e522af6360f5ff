"""What is left to run, and what a failure means: retry, bisect, quarantine. No processes, no clocks of its own.

A shard is tried whole. If it kills its worker too often, or raises, it is searched by halves until the rows at fault
stand alone; those are quarantined by id, and the rest of the shard is then run once more *in one piece*. So the stored
bytes depend on which rows are at fault and not on the path of the search, nor on kills from outside. (After running out
of memory the pieces themselves are kept: the whole would not fit.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataworth.engines.runner import Answer, Failure
from dataworth.errors import DataworthError
from dataworth.store.artefact import Shard
from dataworth.store.part import scored_only

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 10.0
HOPELESS = {"death": 3, "error": 8, "memory": 3}
"""So many rows at fault, and none that worked, mean that the runner is at fault."""


@dataclass(eq=False)
class Job:
    """The state of one shard: `culprits` id -> reason; `pieces` answers of the search by first row; `open` tasks."""

    shard: Shard
    culprits: dict[str, str] = field(default_factory=dict)
    pieces: dict[int, tuple[tuple[str, ...], Answer]] = field(default_factory=dict)
    open: int = 0
    searching: bool = False
    keep_pieces: bool = False


@dataclass(eq=False)
class Task:
    """Rows to run in one go: `ids` begin at row `start` of the shard; not before `due` (the caller's seconds)."""

    job: Job
    ids: tuple[str, ...]
    start: int = 0
    deaths: int = 0
    due: float = 0.0


@dataclass(frozen=True)
class Finished:
    """A shard ready to be committed; `quarantined` is the part of `unscored` that was at fault."""

    shard: Shard
    columns: Mapping[str, Any]
    unscored: Mapping[str, str]
    quarantined: Mapping[str, str]


class Ledger:
    """Tasks of a run.

    Args:
        shards: What to run, in order.
        retries: How often rows may kill their process and be tried again as they are.
        proven: Rows of this artefact have worked before, so failures are the rows' own.
    """

    def __init__(self, shards: Sequence[Shard], retries: int, proven: bool) -> None:
        self._tasks = deque(Task(Job(shard), shard.ids) for shard in shards)
        self._retries = retries
        self._proven = proven
        self._rows = sum(len(s.ids) for s in shards)
        self._culprits = 0
        self.unfinished = len(shards)

    def next(self, now: float) -> Task | None:
        """The first task that is due, removed from the ledger."""
        for n, task in enumerate(self._tasks):
            if task.due <= now:
                del self._tasks[n]
                return task
        return None

    def answered(self, task: Task, answer: Answer) -> Finished | None:
        """Note an answer; the shard if that completes it."""
        self._proven = True
        job = task.job
        if not job.searching:
            return self._finish(job, answer.columns, answer.unscored)
        job.pieces[task.start] = (task.ids, answer)
        return self._close(job)

    def failed(self, task: Task, failure: Failure, now: float) -> Finished | None:
        """Note a failure and decide what follows; the shard if that completes it.

        Raises:
            DataworthError: Nothing works: the runner is at fault, not the rows.
        """
        job = task.job
        task.deaths += failure.kind == "death"
        # Inside a search a kill from outside costs nothing but a split; alone, a row gets its full number of tries.
        patient = not job.searching or len(task.ids) == 1
        if failure.kind == "death" and patient and task.deaths <= self._retries:
            task.due = now + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**task.deaths)
            self._tasks.appendleft(task)
            return None
        if not job.searching and job.pieces:
            return self._finish(job, *_joined(job))
        if not job.searching:
            job.searching, job.open = True, 1
        job.keep_pieces |= failure.kind == "memory"
        if len(task.ids) > 1:
            self._split(task)
            return None
        self._blame(task, failure)
        return self._close(job)

    def _split(self, task: Task) -> None:
        half = len(task.ids) // 2
        task.job.open += 1
        self._tasks.appendleft(Task(task.job, task.ids[half:], task.start + half))
        self._tasks.appendleft(Task(task.job, task.ids[:half], task.start))

    def _blame(self, task: Task, failure: Failure) -> None:
        self._culprits += 1
        if not self._proven and self._culprits >= min(HOPELESS[failure.kind], self._rows):
            raise DataworthError(
                f"nothing worked: {self._culprits} rows failed alone and none succeeded, the last with "
                f"{failure.reason}: expected a working runner; fix it, then the same command resumes"
            )
        task.job.culprits[task.ids[0]] = f"quarantined: {failure.reason}"

    def _close(self, job: Job) -> Finished | None:
        job.open -= 1
        if job.open:
            return None
        job.searching = False
        rest = tuple(i for i in job.shard.ids if i not in job.culprits)
        if job.keep_pieces or not rest:
            return self._finish(job, *_joined(job))
        self._tasks.appendleft(Task(job, rest))
        return None

    def _finish(self, job: Job, columns: Mapping[str, Any], unscored: Mapping[str, str]) -> Finished:
        self.unfinished -= 1
        rest = [i for i in job.shard.ids if i not in job.culprits]
        _, kept = scored_only(rest, columns, unscored)
        return Finished(job.shard, kept, {**unscored, **job.culprits}, job.culprits)


def _joined(job: Job) -> tuple[dict[str, Any], dict[str, str]]:
    """The pieces of a search end to end: columns of scored rows, and the unscored ones."""
    parts: list[Mapping[str, Any]] = []
    unscored: dict[str, str] = {}
    for _, (ids, answer) in sorted(job.pieces.items()):
        scored, columns = scored_only(ids, answer.columns, answer.unscored)
        unscored.update(answer.unscored)
        if scored:
            parts.append(columns)
    names = list(parts[0]) if parts else []
    return {name: _end_to_end([p[name] for p in parts]) for name in names}, unscored


def _end_to_end(values: Sequence[Any]) -> Any:
    if all(isinstance(v, np.ndarray) for v in values):
        return np.concatenate(values)
    return [row for v in values for row in v]
