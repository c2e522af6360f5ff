"""Shards run on this machine: in the calling process, or in worker processes under supervision."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from dataworth import errors
from dataworth.engines.ledger import Finished, Ledger
from dataworth.engines.process import WorkerProcess
from dataworth.engines.runner import Answer, Failure, attempt, load_work, one_thread
from dataworth.store.artefact import Artefact

Payload = Callable[[tuple[str, ...]], Any]
Progress = Callable[[int, int], None]
EARLY_DEATHS = 6
"""So many workers in a row that died before they were ready end the run."""


@dataclass
class RunReport:
    """What a run did: rows committed by it, wall seconds, worker deaths, and quarantined id -> reason."""

    rows: int = 0
    seconds: float = 0.0
    deaths: int = 0
    quarantined: dict[str, str] = field(default_factory=dict)


class LocalEngine:
    """Runs shards on this machine; the stored bytes are the same for any number of workers.

    Args:
        workers: Processes; 0 runs in the calling process (which then dies with a row that kills its process).
        devices: Torch device names; worker i gets `devices[i % len(devices)]`. On "cpu" a worker has one thread.
        heartbeat_s: Seconds between a worker's signs of life; 12 missed ones count as a hang.
        hang_s: Seconds without a result after which a shard counts as hung; grows to 20 times the slowest shard so far.
        retries: How often a shard (or a single row) that killed its worker is tried again before it is searched
            (or quarantined).
    """

    def __init__(
        self,
        workers: int = 0,
        devices: Sequence[str] | None = None,
        *,
        heartbeat_s: float = 5.0,
        hang_s: float = 900.0,
        retries: int = 2,
    ) -> None:
        if workers < 0:
            raise errors.RequestError(f"workers={workers}: expected 0 (this process) or more; correct --workers")
        self.workers = workers
        self.devices = tuple(devices or ("cpu",))
        self.heartbeat_s = heartbeat_s
        self.hang_s = hang_s
        self.retries = retries

    def run(
        self,
        artefact: Artefact,
        ids: Sequence[str],
        *,
        runner: str,
        config: Mapping[str, Any],
        payload: Payload | None = None,
        shard_rows: int = 256,
        progress: Progress | None = None,
        retry_unscored: bool = False,
    ) -> RunReport:
        """Compute what `artefact` lacks of `ids`, shard by shard, each committed as it completes.

        Args:
            artefact: Where the rows go; its lock is held during the run.
            ids: Row ids, in any order.
            runner: `package.module:function`; `function(config, device)` is called once per worker and returns
                `work(ids, payload) -> (columns, unscored)`.
            config: Passed to the function; plain values.
            payload: Called here with a task's ids; what it returns (picklable) reaches `work`. None sends None.
            shard_rows: Rows of a new shard; an interrupted plan keeps its own.
            progress: Called with (rows of `ids` that are done, all rows of `ids`).
            retry_unscored: Run rows that are known as unscored again.

        Returns:
            Rows committed, seconds, deaths and quarantined rows of this run.

        Raises:
            DataworthError: The runner raised one, nothing worked at all, or workers die while starting.
            RequestError: Another process writes the artefact, or the disk refuses.
            KeyboardInterrupt: After dropping the shards in flight; the same call resumes.
        """
        began, report = time.monotonic(), RunReport()
        with artefact.lock:
            todo = artefact.missing(ids, retry_unscored=retry_unscored)
            total = len(set(ids))
            done = total - len(todo)
            shards = artefact.plan(ids, shard_rows, retry_unscored=retry_unscored) if todo else []
            ledger = Ledger(shards, self.retries, proven=len(artefact) > 0)

            def commit(finished: Finished) -> None:
                artefact.commit(finished.shard, finished.columns, finished.unscored)
                report.rows += len(finished.shard.ids)
                report.quarantined.update(finished.quarantined)
                if progress:
                    progress(done + report.rows, total)

            if progress:
                progress(done, total)
            run = _Run(ledger, commit, payload or (lambda _: None), report)
            start = {"runner": runner, "config": dict(config), "beat_s": self.heartbeat_s}
            if shards and self.workers:
                crew = [{**start, "device": self.devices[n % len(self.devices)]} for n in range(self.workers)]
                _Supervisor(run, crew[: len(shards)], self.hang_s).run()
            elif shards:
                run.here(runner, config, self.devices[0])
        report.seconds = time.monotonic() - began
        return report


@dataclass
class _Run:
    """What both ways of running share."""

    ledger: Ledger
    commit: Callable[[Finished], None]
    payload: Payload
    report: RunReport

    def here(self, runner: str, config: Mapping[str, Any], device: str) -> None:
        """Run everything in this process."""
        work = load_work(runner, config, device)
        with one_thread(device):
            while (task := self.ledger.next(float("inf"))) is not None:
                outcome = attempt(work, task.ids, self.payload(task.ids))
                if isinstance(outcome, Answer):
                    finished = self.ledger.answered(task, outcome)
                else:
                    finished = self.ledger.failed(task, outcome, time.monotonic())
                if finished:
                    self.commit(finished)


class _Supervisor:
    """The loop that starts workers, feeds them, listens, and replaces those that die or hang."""

    def __init__(self, run: _Run, starts: Sequence[Mapping[str, Any]], hang_s: float) -> None:
        self._run = run
        self._ledger = run.ledger
        self._starts = starts
        self._crew: list[WorkerProcess | None] = [None] * len(starts)
        self._hang_s = hang_s
        self._slowest_s = 0.0
        self._early_deaths = 0

    def run(self) -> None:
        """Work until the ledger is done; no worker outlives this call."""
        try:
            while self._ledger.unfinished:
                self._feed()
                self._listen()
        finally:
            for worker in self._crew:
                if worker:
                    worker.end()

    def _feed(self) -> None:
        for n, worker in enumerate(self._crew):
            if worker is None:
                self._crew[n] = WorkerProcess(self._starts[n])
            elif worker.ready and worker.task is None:
                task = self._ledger.next(time.monotonic())
                if task is not None:
                    worker.give(task, self._run.payload(task.ids))

    def _listen(self) -> None:
        crew = {w.connection: (n, w) for n, w in enumerate(self._crew) if w}
        # A short wait, for tasks that become due and hangs; messages end it at once.
        for connection in wait(list(crew), timeout=0.05):
            n, worker = crew[connection]  # type: ignore[index]
            message = worker.hear()
            if message is None:
                self._bury(n, worker.end())
            else:
                self._take(worker, message)
        limit_s = max(self._hang_s, 20 * self._slowest_s)
        for n, worker in ((n, w) for n, w in enumerate(self._crew) if w):
            reason = worker.hung(limit_s)
            if reason:
                worker.dump_stacks()
                worker.end()
                self._bury(n, reason)

    def _take(self, worker: WorkerProcess, message: tuple[Any, ...]) -> None:
        kind, rest = message[0], message[1:]
        if kind == "ready":
            worker.ready, self._early_deaths = True, 0
        elif kind == "refused":
            raise _same_error(*rest)
        elif kind == "broken":
            raise RuntimeError(f"a worker failed outside any row:\n{rest[0]}")
        elif kind == "answer":
            self._settle(worker, rest[0])

    def _settle(self, worker: WorkerProcess, outcome: Answer | Failure) -> None:
        task, worker.task = worker.task, None
        assert task is not None
        self._slowest_s = max(self._slowest_s, time.monotonic() - worker.since)
        if isinstance(outcome, Answer):
            finished = self._ledger.answered(task, outcome)
        else:
            finished = self._ledger.failed(task, outcome, time.monotonic())
        self._feed()  # before the commit, so that no worker waits for the disk
        if finished:
            self._run.commit(finished)

    def _bury(self, n: int, reason: str) -> None:
        """Note a death: of a task's process, or of one that was only starting."""
        worker, self._crew[n] = self._crew[n], None
        assert worker is not None
        self._run.report.deaths += 1
        if worker.task is not None:
            finished = self._ledger.failed(worker.task, Failure("death", reason), time.monotonic())
            if finished:
                self._run.commit(finished)
        elif not worker.ready:
            self._early_deaths += 1
            if self._early_deaths == EARLY_DEATHS:
                raise errors.DataworthError(
                    f"{self._early_deaths} workers in a row died while starting ({reason}): "
                    "expected the runner to load; try --workers 0 to see why"
                )


def _same_error(name: str, message: str) -> errors.DataworthError:
    """The error a worker raised, by the name of its class; a class defined elsewhere comes back as the base."""
    found = getattr(errors, name, errors.DataworthError)
    error: errors.DataworthError = found.__new__(found)
    error.args = (message,)
    return error
