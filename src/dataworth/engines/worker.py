"""A worker process: `python -m dataworth.engines.worker FD DRIVER_PID`, started by `LocalEngine` only.

It reads tasks from the inherited socket FD, answers them one at a time, says every beat that it lives, and ends when
its driver is gone.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from dataworth.engines.runner import attempt, load_work, one_thread
from dataworth.errors import DataworthError


class _Line:
    """The socket to the driver; two threads write to it. A write that fails means that the driver is gone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()

    def say(self, *message: Any) -> None:
        try:
            with self._turn:
                self._connection.send(message)
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
        line.say("beat")


def main(handle: int, driver: int) -> None:
    """Serve until the driver hangs up."""
    os.set_inheritable(handle, False)
    line = _Line(Connection(handle))
    # A hung worker is asked for its stacks before it is killed.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    start = line.hear()
    threading.Thread(target=_live, args=(line, driver, start["beat_s"]), daemon=True).start()
    try:
        work = load_work(start["runner"], start["config"], start["device"])
        with one_thread(start["device"]):
            line.say("ready")
            while True:
                ids, payload = line.hear()
                line.say("answer", attempt(work, ids, payload))
    except DataworthError as error:
        line.say("refused", type(error).__name__, str(error))
    except Exception:
        line.say("broken", traceback.format_exc())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
