"""Results and progress on a terminal: text of data is stripped of control characters before it's shown."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Explains(Protocol):
    """Any result: it can say itself in plain text."""

    def explain(self) -> str:
        """The result in plain English."""
        ...


def printable(text: str) -> str:
    """`text` without control and bidirectional-override characters, so that data can't drive the terminal."""
    return "".join(c for c in text if c in "\n\t" or c.isprintable())


def show(result: Explains) -> None:
    """Print a result on stdout."""
    sys.stdout.write(printable(result.explain()) + "\n")


def note(text: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(printable(text) + "\n")


_LINE_S = 60.0


class _Rate(ProgressColumn):
    """Rows per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.1f}/s" if task.speed else "  -/s", style="progress.data.speed")


class Bars:
    """Progress bars on stderr, one per stage, with rates and time left; plain lines when stderr is no terminal.

    A plain line says that a stage is done, how much of it was there when it began, and once a minute where it stands. A
    stage that is done and begins again, as a search's next round, is another one.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._lined: dict[str, float] = {}
        self._finished: set[str] = set()
        self._said: set[str] = set()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` rows of a stage are finished."""
        if not self.console.is_terminal:
            self._line(stage, done, total)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)

    def _line(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and stage in self._finished:
            self._finished.discard(stage)
            self._lined.pop(stage)
        since = now - self._lined.setdefault(stage, -_LINE_S if done else now)
        if done >= total:
            if stage not in self._finished:
                note(f"{stage}: {total:,} done")
                self._finished.add(stage)
        elif since >= _LINE_S:
            note(f"{stage}: {done:,} of {total:,}")
            self._lined[stage] = now

    def say(self, text: str) -> None:
        """Print lines above the bars; what was said already isn't said again."""
        if text in self._said:
            return
        self._said.add(text)
        self.console.print(printable(text), markup=False, emoji=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
