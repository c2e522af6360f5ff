"""One writer per cache entry or run folder.

The lock is the kernel's (`flock`), so it ends with its holder, whatever ends the holder: no heartbeat to keep and no
stale lock to judge. The file says who holds it, for the message others get.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from pathlib import Path
from types import TracebackType

from dataworth.errors import RequestError
from dataworth.store.atomic import make_folder, refused

LOCK_NAME = "lock"


class EntryLock:
    """The right to write in a folder: a re-entrant context manager.

    Args:
        folder: The entry; it is created when the lock is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME
        self._handle = -1
        self._depth = 0

    @property
    def held(self) -> bool:
        """Whether this object holds the lock now."""
        return self._depth > 0

    def __enter__(self) -> EntryLock:
        """Take the lock.

        Raises:
            RequestError: Another live process (or another object of this one) holds it; the message names it.
        """
        if self._depth == 0:
            make_folder(self.path.parent)
            self._handle = self._take()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back and remove its file."""
        self._depth -= 1
        if self._depth == 0:
            self.path.unlink(missing_ok=True)
            os.close(self._handle)

    def _take(self) -> int:
        while True:
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise refused(self.path, error) from error
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current(handle):
                    owner = {"pid": os.getpid(), "host": socket.gethostname()}
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, json.dumps(owner).encode(), 0)
                    return handle
                os.close(handle)  # the last holder removed the file between our open and our lock
            except OSError as error:
                os.close(handle)
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise refused(self.path, error) from error
                raise RequestError(
                    f"{self.path.parent} is being written by {self._owner()}: "
                    "expected one writer at a time; wait for it or stop it"
                ) from None

    def _is_current(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), self.path.stat())
        except FileNotFoundError:
            return False

    def _owner(self) -> str:
        try:
            owner = json.loads(self.path.read_text())
            return f"process {owner['pid']} on {owner['host']}"
        except (OSError, ValueError, KeyError):
            return "another process"
