"""What a pool was taken for, in words, and a few of its rows to check the guess against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dataworth.formats.pool import first_positions
from dataworth.records import Example, Kind, Pool, PoolFile

_WORDS = {
    "messages": "conversations (role, content); every assistant turn is trained on",
    "sharegpt": "ShareGPT conversations (from, value); every assistant turn is trained on",
    "alpaca": "instruction, input, output; the output is trained on",
    "prompt_completion": "prompt and completion; the completion is trained on",
    "question_answer": "question and answer; the answer is trained on (task rl reads them as RL prompts)",
    "choice": "multiple choice; the right choice is trained on after the query",
    "labelled_image": "images with a class",
    "labelled_vector": "vectors with a class",
    "labelled_text": "texts with a class",
    "text": "plain text; every token is trained on",
    "preference": "preferences (chosen and rejected, or a label), carried unchanged",
    "rl": "RL prompts with an answer to check against, carried unchanged",
}
_NAMED = 8


@dataclass(frozen=True, slots=True)
class Detection:
    """What one file was taken for."""

    path: Path
    format: str
    compression: str
    schema: str
    kind: Kind
    mapping: tuple[tuple[str, str], ...]
    rows: int
    unread: tuple[str, ...] = ()

    def __str__(self) -> str:
        packed = f".{self.compression}" if self.compression else ""
        how = "".join(f" {role}={column}" for role, column in self.mapping)
        mapped = f" (--map{how})" if how else ""
        if not self.rows:
            return f"{self.path}: {self.format}{packed}, no rows"
        rows = f"{self.rows:,} row{'s' * (self.rows > 1)}"
        return f"{self.path}: {self.format}{packed}, {rows} of {_WORDS[self.schema]}{mapped}{self._unread()}"

    def _unread(self) -> str:
        named = ", ".join(self.unread[:_NAMED]) + (", ..." if len(self.unread) > _NAMED else "")
        return f"; other columns: {named}" if self.unread else ""


def detect(pool: Pool) -> list[Detection]:
    """One guess per file, in pool order; `str()` of it is a sentence."""
    return [_of(file) for file in pool.files]


def _of(file: PoolFile) -> Detection:
    return Detection(
        file.path, file.format, file.compression, file.schema, file.kind, file.mapping, file.rows, file.unread
    )


def preview(pool: Pool, n: int = 3) -> list[Example]:
    """`n` rows to look at: the first of each file, then further ones from the start."""
    return list(pool.examples(first_positions(pool, n)))
