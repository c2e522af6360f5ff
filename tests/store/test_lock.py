from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from dataworth.errors import RequestError
from dataworth.store import EntryLock

HOLD = """
import sys, time, pathlib
from dataworth.store import EntryLock
with EntryLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_live_holder_is_named_and_a_dead_one_is_followed(tmp_path, holder):
    with pytest.raises(RequestError, match=f"process {holder.pid} on "), EntryLock(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "lock").exists()
    with EntryLock(tmp_path) as lock:
        assert lock.held and str(os.getpid()) in (tmp_path / "lock").read_text()
    assert not lock.held and not (tmp_path / "lock").exists()


def test_it_is_reentrant_for_one_object_and_closed_to_another(tmp_path):
    lock = EntryLock(tmp_path)
    with lock:
        with lock:
            pass
        assert lock.held
        with pytest.raises(RequestError, match=f"process {os.getpid()}"), EntryLock(tmp_path):
            pass
    with EntryLock(tmp_path):
        pass
