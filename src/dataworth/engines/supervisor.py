"""The worker processes of an engine, and the loop that feeds them, listens, and replaces those that die or hang."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from typing import Any

from dataworth import errors
from dataworth.engines.process import WorkerProcess
from dataworth.engines.run import Run
from dataworth.engines.runner import Failure

EARLY_DEATHS = 6
"""So many workers in a row that died before they were ready end the run."""


class Crew:
    """Worker processes that live on between runs, so that a runner's imports are paid once per worker.

    Args:
        devices: One torch device name per worker.
        beat_s: Seconds between a worker's signs of life.
    """

    def __init__(self, devices: Sequence[str], beat_s: float) -> None:
        self._devices = devices
        self._beat_s = beat_s
        self._owner = os.getpid()
        self.workers: list[WorkerProcess | None] = [None] * len(devices)

    def begin(self, n: int, runner: str, config: Mapping[str, Any]) -> None:
        """Let worker `n` load a runner; it is started if it doesn't live."""
        worker = self.workers[n]
        if worker is not None and not worker.alive:
            worker.end()
            worker = None
        self.workers[n] = worker = worker or WorkerProcess(self._devices[n], self._beat_s)
        worker.begin(runner, config)

    def cpu_seconds(self) -> float:
        """CPU seconds of the living workers, as they last told them."""
        return sum(w.cpu_seconds for w in self.workers if w)

    def end(self) -> None:
        """End all workers; does nothing in a fork of the process that started them."""
        for n, worker in enumerate(self.workers):
            if worker and self._owner == os.getpid():
                worker.end()
                self.workers[n] = None


class Supervisor:
    """One run on the first `count` workers of a crew.

    Args:
        run: What to do.
        crew: Its workers rest when the run is done, and are ended when it fails.
        count: How many of them to use.
        hang_s: Seconds without a result after which a task counts as hung, at least.
    """

    def __init__(self, run: Run, crew: Crew, count: int, hang_s: float) -> None:
        self._run = run
        self._crew = crew
        self._places = range(count)
        self._hang_s = hang_s
        self._slowest_s = 0.0
        self._early_deaths = 0

    def run(self) -> None:
        """Work until the ledger is done."""
        try:
            for n in self._places:
                self._begin(n)
            while self._run.ledger.unfinished:
                self._feed()
                self._listen()
            for _, worker in self._working():
                worker.rest()
        except BaseException:
            self._crew.end()
            raise

    def _begin(self, n: int) -> None:
        self._crew.begin(n, self._run.runner, self._run.config)

    def _working(self) -> list[tuple[int, WorkerProcess]]:
        return [(n, w) for n in self._places if (w := self._crew.workers[n]) is not None]

    def _feed(self) -> None:
        for _, worker in self._working():
            if worker.ready and worker.task is None:
                task = self._run.ledger.next(time.monotonic())
                if task is not None:
                    worker.give(task, self._run.payload(task.ids))

    def _listen(self) -> None:
        of = {w.connection: (n, w) for n, w in self._working()}
        # A short wait, for tasks that become due and hangs; messages end it at once.
        for connection in wait(list(of), timeout=0.05):
            n, worker = of[connection]  # type: ignore[index]
            message = worker.hear()
            if message is None:
                self._bury(n, worker, worker.end())
            else:
                self._take(worker, message)
        limit_s = max(self._hang_s, 20 * self._slowest_s)
        for n, worker in self._working():
            reason = worker.hung(limit_s)
            if reason:
                worker.dump_stacks()
                worker.end()
                self._bury(n, worker, reason)

    def _take(self, worker: WorkerProcess, message: tuple[Any, ...]) -> None:
        kind, rest = message[0], message[1:]
        if kind == "ready":
            worker.ready, self._early_deaths = True, 0
        elif kind == "refused":
            raise _same_error(*rest)
        elif kind == "broken":
            raise RuntimeError(f"a worker failed outside any row:\n{rest[0]}")
        elif kind == "answer":
            task, worker.task = worker.task, None
            assert task is not None
            self._slowest_s = max(self._slowest_s, time.monotonic() - worker.since)
            finished = self._run.settle(task, rest[0])
            self._feed()  # before the commit, so that no worker waits for the disk
            if finished:
                self._run.commit(finished)

    def _bury(self, n: int, worker: WorkerProcess, reason: str) -> None:
        """Note a death, of a task's process or of one that was only starting, and replace it."""
        self._crew.workers[n] = None
        self._run.report.deaths += 1
        if worker.task is not None:
            finished = self._run.settle(worker.task, Failure("death", reason))
            if finished:
                self._run.commit(finished)
        elif not worker.ready:
            self._early_deaths += 1
            if self._early_deaths == EARLY_DEATHS:
                raise errors.DataworthError(
                    f"{self._early_deaths} workers in a row died while starting ({reason}): "
                    "expected the runner to load; try --workers 0 to see why"
                )
        if self._run.ledger.unfinished:
            self._begin(n)


def _same_error(name: str, message: str) -> errors.DataworthError:
    """The error a worker raised, by the name of its class; a class defined elsewhere comes back as the base."""
    found = getattr(errors, name, errors.DataworthError)
    error: errors.DataworthError = found.__new__(found)
    error.args = (message,)
    return error
