"""A worker process: `python -m dataworth.engines.worker FD DRIVER_PID BEAT_S`, started by `LocalEngine` only.

It hears over the inherited socket FD, and ends when its driver is gone:

    ("start", run, {runner, config, device})   load a runner, then say "ready"
    ("task", ids, payload)                      run rows, then say "answer"
    ("rest",)                                   drop the runner and wait for the next start: imports are paid once

What it says is (kind, run, CPU seconds so far, ...), and between start and rest it says every beat that it lives.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from dataworth.engines.runner import attempt, load_work, one_thread, release_memory
from dataworth.errors import DataworthError


def _cpu_seconds() -> float:
    """CPU time of this process and of programs that it ran."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


class _Line:
    """The socket to the driver; two threads write to it. A write that fails means that the driver is gone.

    `run` is the number of the run that is being served, 0 while resting.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()
        self.run = 0

    def say(self, kind: str, *message: Any) -> None:
        try:
            with self._turn:
                self._connection.send((kind, self.run, _cpu_seconds(), *message))
        except OSError:
            os._exit(1)

    def hear(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            os._exit(0)


def _live(line: _Line, driver: int, beat_s: float) -> None:
    while True:
        time.sleep(min(beat_s, 1.0))
        if os.getppid() != driver:
            os._exit(1)
        # A resting worker is silent: nobody reads, and a full socket would block it.
        if line.run:
            line.say("beat")


def _serve(line: _Line, start: Mapping[str, Any]) -> bool:
    """Load a runner and answer tasks until told to rest; False if the runner refused or broke."""
    try:
        work = load_work(start["runner"], start["config"], start["device"])
        with one_thread(start["device"]):
            line.say("ready")
            while (message := line.hear())[0] == "task":
                line.say("answer", attempt(work, *message[1:]))
    except DataworthError as error:
        line.say("refused", type(error).__name__, str(error))
    except Exception:
        line.say("broken", traceback.format_exc())
    else:
        return True
    return False


def main(handle: int, driver: int, beat_s: float) -> None:
    """Serve run after run until the driver hangs up, or until a runner refuses or breaks."""
    os.set_inheritable(handle, False)
    line = _Line(Connection(handle))
    # A hung worker is asked for its stacks before it is killed.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    threading.Thread(target=_live, args=(line, driver, beat_s), daemon=True).start()
    serving = True
    while serving:
        _, line.run, start = line.hear()
        serving = _serve(line, start)
        line.run = 0
        release_memory()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
