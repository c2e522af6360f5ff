"""Shards run on this machine: in the calling process, or in worker processes under supervision."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from dataworth import errors
from dataworth.engines.ledger import Finished, Ledger
from dataworth.engines.run import Payload, Run, RunReport
from dataworth.engines.supervisor import Crew, Supervisor
from dataworth.store.artefact import Artefact

Progress = Callable[[int, int], None]


class LocalEngine:
    """Runs shards on this machine; the stored bytes are the same for any number of workers.

    Workers are started by the first `run` that needs them and wait for the next one, without the model of the last.
    They end with `close` (or the `with` block), with the engine and with this process.

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
        self.hang_s = hang_s
        self.retries = retries
        self._crew = Crew([self.devices[n % len(self.devices)] for n in range(workers)], heartbeat_s)
        weakref.finalize(self, self._crew.end)

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; a later `run` starts new ones."""
        self._crew.end()

    def worker_seconds(self) -> float:
        """CPU seconds of the living workers so far; those of ended ones are this process's children's."""
        return self._crew.cpu_seconds()

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
        order: Callable[[Sequence[str]], Any] | None = None,
        hang_s: float | None = None,
    ) -> RunReport:
        """Compute what `artefact` lacks of `ids`, shard by shard, each committed as it completes.

        Args:
            artefact: Where the rows go; its lock is held during the run.
            ids: Row ids, in any order.
            runner: `package.module:function`; `function(config, device)` is called in each worker and returns
                `work(ids, payload) -> (columns, unscored)`.
            config: Passed to the function; plain values.
            payload: Called here with a task's ids; what it returns (picklable) reaches `work`. None sends None.
            shard_rows: Rows of a new shard; an interrupted plan keeps its own.
            progress: Called with (rows of `ids` that are done, all rows of `ids`).
            retry_unscored: Run rows that are known as unscored again.
            order: Key by which shards, given as their ids, are started; what is stored doesn't depend on it.
            hang_s: For shards that may take longer than the engine's own.

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
            shards = artefact.plan(ids, shard_rows, retry_unscored=retry_unscored) if todo else []
            shards = sorted(shards, key=lambda s: order(s.ids)) if order else shards
            # Not `len(todo)`: an interrupted retry is resumed too, with rows that are known as unscored.
            done = total - sum(len(s.ids) for s in shards)
            ledger = Ledger(shards, self.retries, proven=len(artefact) > 0)

            def commit(finished: Finished) -> None:
                artefact.commit(finished.shard, finished.columns, finished.unscored)
                report.rows += len(finished.shard.ids)
                report.quarantined.update(finished.quarantined)
                if progress:
                    progress(done + report.rows, total)

            if progress:
                progress(done, total)
            run = Run(runner, config, ledger, commit, payload or (lambda _: None), report)
            if shards and self.workers:
                Supervisor(run, self._crew, min(self.workers, len(shards)), hang_s or self.hang_s).run()
            elif shards:
                run.here(self.devices[0])
        report.seconds = time.monotonic() - began
        return report
