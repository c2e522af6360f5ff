"""The driver's end of one worker process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from dataworth.engines.ledger import Task

SILENT_BEATS = 12
"""Beats a worker may miss before it counts as hung (its interpreter is stuck or stopped)."""
START_S = 600.0
"""Seconds a worker may take to load its runner."""


class WorkerProcess:
    """A worker and what it does now: resting, loading a runner (`ready` is False), idle, or busy with `task`.

    Args:
        device: Torch device name, for all runs.
        beat_s: Seconds between its signs of life.
    """

    def __init__(self, device: str, beat_s: float) -> None:
        ours, theirs = Pipe()
        self.connection: Connection = ours
        handle = theirs.fileno()
        command = [sys.executable, "-m", "dataworth.engines.worker", str(handle), str(os.getpid()), str(beat_s)]
        # Its own process group: Ctrl-C reaches the driver alone. Its stdout is our stderr: ours may carry JSON.
        self.process = subprocess.Popen(
            command, env=_environment(device), pass_fds=[handle], stdin=subprocess.DEVNULL, stdout=2, process_group=0
        )
        theirs.close()
        self.device = device
        self.cpu_seconds = 0.0
        self._run = 0
        self._silence_s = SILENT_BEATS * beat_s

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def begin(self, runner: str, config: Mapping[str, Any]) -> None:
        """Let a new or resting worker load a runner."""
        self._run += 1
        self.ready = False
        self.task: Task | None = None
        self.since = self.last_beat = time.monotonic()
        self._send(("start", self._run, {"runner": runner, "config": dict(config), "device": self.device}))

    def give(self, task: Task, payload: Any) -> None:
        """Send rows to run."""
        self.task = task
        self.since = time.monotonic()
        self._send(("task", task.ids, payload))

    def rest(self) -> None:
        """Let an idle worker (or one that still loads, once it has) drop its runner and wait."""
        self._send(("rest",))

    def hear(self) -> tuple[Any, ...] | None:
        """The next message as (kind, ...), or None when the process is gone."""
        try:
            kind, run, self.cpu_seconds, *rest = self.connection.recv()
        except (EOFError, OSError):
            return None
        self.last_beat = time.monotonic()
        if run != self._run:  # of an earlier run, which ended before this worker had loaded its runner
            return None if kind in ("refused", "broken") else ("beat",)
        return (kind, *rest)

    def hung(self, limit_s: float) -> str | None:
        """Why the worker counts as hung, if it does: silent, busy for longer than `limit_s`, or too slow to start."""
        now = time.monotonic()
        if not self.ready:
            return "its process hung while starting" if now - self.since > START_S else None
        if now - self.last_beat > self._silence_s:
            return "its process hung (no sign of life)"
        busy = self.task is not None
        return "its process hung (no result in time)" if busy and now - self.since > limit_s else None

    def dump_stacks(self) -> None:
        """Let a hung worker print its stacks to stderr."""
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)

    def end(self) -> str:
        """Kill the process if it lives, release everything, and say how it ended."""
        self.process.kill()
        code = self.process.wait()
        self.connection.close()
        return f"its process died ({signal.Signals(-code).name})" if code < 0 else f"its process exited with {code}"

    def _send(self, message: Any) -> None:
        # If the process is gone, `hear` returns None next, and its death is handled there.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)


def _environment(device: str) -> dict[str, str]:
    env = dict(os.environ)
    env["PYTHONPATH"] = os.pathsep.join(p or str(os.getcwd()) for p in sys.path)  # noqa: PTH109
    env["TOKENIZERS_PARALLELISM"] = "false"
    if device.startswith("cpu"):
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            env[name] = "1"
    return env
