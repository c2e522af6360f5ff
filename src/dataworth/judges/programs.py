"""Programs of the user's own: command lines with places to fill in, and running them so that they end when we do."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

GRACE_S = 5.0
"""Seconds a program has to end when asked, before it is killed."""

# Reads from a pipe that we alone hold, so it wakes when we are gone, whatever ended us; its group is the program's.
_KEEPER = (
    "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.stdin.read(); "
    f"os.killpg(0, signal.SIGTERM); time.sleep({GRACE_S}); os.killpg(0, signal.SIGKILL)"
)


def places_in(command: str) -> list[str]:
    """Names that stand in braces: `{data}`, but not the braces of JSON."""
    return re.findall(r"\{([a-z_]+)\}", command)


def filled(command: str, places: Mapping[str, Any]) -> list[str]:
    """The words of a command line with its places filled in; one may stand inside a word (`--out={out}`).

    Raises:
        ValueError: Its quotes don't match.
    """
    return [re.sub(r"\{([a-z_]+)\}", lambda m: str(places.get(m[1], m[0])), word) for word in shlex.split(command)]


def files_among(words: Sequence[str]) -> tuple[Path, ...]:
    """The files that words name, `--config=FILE` too."""
    return tuple(Path(p) for word in words for p in (word, word.partition("=")[2]) if os.path.isfile(p))  # noqa: PTH113 - a long word is no error


@contextmanager
def started(words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A running program that ends with this block and with this process, even a killed one, and all it started too.

    Args:
        words: Its command line.
        **options: For `Popen`: stdout, stderr, env.

    Raises:
        OSError: It can't be started.
    """
    nowhere = subprocess.DEVNULL
    keeper = subprocess.Popen(
        [sys.executable, "-ISc", _KEEPER], stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, process_group=0
    )
    with keeper:
        try:
            with subprocess.Popen(words, stdin=nowhere, process_group=keeper.pid, **options) as process:
                try:
                    yield process
                finally:
                    _end(process, keeper.pid)
        finally:
            keeper.kill()


def _end(process: subprocess.Popen[bytes], group: int) -> None:
    """End the group: asked first, so that a launcher can end what it put into groups of their own."""
    if process.poll() is None:
        os.killpg(group, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def one_line(text: str) -> str:
    """Text as one line."""
    return " ".join(text.split())
