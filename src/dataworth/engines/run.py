"""One run: what its ways of running share, and the one in the calling process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dataworth.engines.ledger import Finished, Ledger, Task
from dataworth.engines.runner import Answer, Failure, attempt, load_work, one_thread

Payload = Callable[[tuple[str, ...]], Any]


@dataclass
class RunReport:
    """What a run did: rows committed by it, wall seconds, worker deaths, and quarantined id -> reason."""

    rows: int = 0
    seconds: float = 0.0
    deaths: int = 0
    quarantined: dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """A runner with its config, the ledger of its tasks, where finished shards go and where payloads come from."""

    runner: str
    config: Mapping[str, Any]
    ledger: Ledger
    commit: Callable[[Finished], None]
    payload: Payload
    report: RunReport

    def settle(self, task: Task, outcome: Answer | Failure) -> Finished | None:
        """Note the outcome of a task; the shard if that completes it."""
        if isinstance(outcome, Answer):
            return self.ledger.answered(task, outcome)
        return self.ledger.failed(task, outcome, time.monotonic())

    def here(self, device: str) -> None:
        """Run everything in this process."""
        work = load_work(self.runner, self.config, device)
        with one_thread(device):
            while (task := self.ledger.next(float("inf"))) is not None:
                finished = self.settle(task, attempt(work, task.ids, self.payload(task.ids)))
                if finished:
                    self.commit(finished)
