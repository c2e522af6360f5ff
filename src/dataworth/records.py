"""Pool, goal, example, ids and order: the nouns every room shares.

A `Pool` is an index over files, not a list of objects: about 45 bytes a row, so a million rows cost tens of
megabytes. The rows themselves stay in the user's files and are read through the `RowReader` that `formats` hands in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError

Kind = Literal["sft", "text", "preference", "rl", "classify"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: role is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row in the form learners and text scores read; the original stays in its file.

    `messages` is empty for kinds "text" and "classify"; `text` is empty for every other kind. `schema` names what the
    row was (messages, sharegpt, alpaca, prompt_completion, question_answer, choice, text, preference, rl,
    labelled_image, labelled_vector, labelled_text). A multiple-choice row has its `choices` and the index `gold` of the
    right one, which is also its last turn; other rows have neither. A row to classify has its class as `label`, and a
    text or a `content`: an encoded image (bytes), pixels [H, W] or [H, W, C], or a vector [D].
    """

    id: str
    kind: Kind
    schema: str
    messages: tuple[Message, ...] = ()
    text: str = ""
    choices: tuple[str, ...] = ()
    gold: int | None = None
    label: str | int | None = None
    content: Any = field(default=None, compare=False)

    @property
    def prompt(self) -> str:
        """Everything before the last assistant turn, joined by newlines ("" for plain text)."""
        turns = list(self.messages)
        if turns and turns[-1].role == "assistant":
            turns.pop()
        return "\n".join(m.content for m in turns)

    @property
    def response(self) -> str:
        """The last assistant turn (the whole text for plain text; "" if the row has none)."""
        if self.kind == "text":
            return self.text
        return self.messages[-1].content if self.messages and self.messages[-1].role == "assistant" else ""

    @property
    def answered(self) -> bool:
        """Whether there is something to learn: some assistant turn of a supervised row says something."""
        if self.kind != "sft":
            return True
        for m in reversed(self.messages):
            if m.role == "assistant" and m.content and not m.content.isspace():
                return True
        return False

    @property
    def full_text(self) -> str:
        """All that a lexical score may read: every turn, or the text."""
        return self.text if self.kind in ("text", "classify") else "\n".join(m.content for m in self.messages)

    @property
    def shown(self) -> str:
        """The row for a person to look at: its text, or what it holds instead."""
        if self.content is None:
            return self.full_text
        size = f"{len(self.content):,} bytes" if isinstance(self.content, bytes) else f"shape {self.content.shape}"
        return f"({'image' if self.schema == 'labelled_image' else 'vector'} of {size}, class {self.label})"


@dataclass(frozen=True, slots=True)
class PoolFile:
    """One input file as it was when it was indexed.

    `format` is jsonl, json, csv, parquet or arrow; `schema` the detected schema; `mapping` role -> column expression;
    `size` bytes and `sha256` of the file as read (decompressed content is not hashed apart). `implied`: the columns of
    its first rows alone tell the schema, which neither `--task` nor other rows of the file had to settle. `unread`:
    those of their columns that are no part of what a row says.
    """

    path: Path
    format: str
    compression: str
    schema: str
    kind: Kind
    mapping: tuple[tuple[str, str], ...]
    rows: int
    size: int
    mtime_ns: int
    sha256: str
    implied: bool = True
    unread: tuple[str, ...] = ()


class RowReader(Protocol):
    """What `formats` hands to a pool so that rows can be read back."""

    def raw(self, file: int, offset: int, length: int) -> bytes:
        """The row's own bytes (JSON formats), or its canonical JSON (tables)."""
        ...

    def columns(self, file: int, offset: int, length: int) -> dict[str, Any]:
        """The row's columns with exact values."""
        ...

    def example(self, file: int, offset: int, length: int, row_id: str) -> Example:
        """The row normalised by the file's schema."""
        ...


def digest_of(canonical: bytes) -> bytes:
    """blake2b-128 of a row's canonical JSON: the first half of its id."""
    return hashlib.blake2b(canonical, digest_size=16).digest()


def format_id(digest: bytes, copy: int) -> str:
    """Hex digest, bare for the first copy and `#k` for the k-th further identical copy in pool order."""
    return digest.hex() if copy == 0 else f"{digest.hex()}#{copy}"


@dataclass(frozen=True)
class Pool:
    """An index over rows in files, in pool order (files as given, rows as they stand).

    Axis `N` = readable rows. `digest_N16` uint8, `copy_N` uint32 (0 for the first of identical rows), `file_N` int32
    into `files`, `offset_N`/`length_N` int64 (byte range in the decompressed file; row number and 0 in tables),
    `source_N` int32 into `sources`. `rejected` counts rows that could not be read; they are in `rejects_path`.
    """

    files: tuple[PoolFile, ...]
    sources: tuple[str, ...]
    digest_N16: NDArray[np.uint8]
    copy_N: NDArray[np.uint32]
    file_N: NDArray[np.int32]
    offset_N: NDArray[np.int64]
    length_N: NDArray[np.int64]
    source_N: NDArray[np.int32]
    reader: RowReader = field(repr=False)
    rejected: int = 0
    rejects_path: Path | None = None

    def __len__(self) -> int:
        return len(self.copy_N)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Row ids in pool order."""
        hexes = self.digest_N16.tobytes().hex()
        copies = self.copy_N.tolist()
        return tuple(
            hexes[32 * i : 32 * i + 32] if k == 0 else f"{hexes[32 * i : 32 * i + 32]}#{k}"
            for i, k in enumerate(copies)
        )

    @cached_property
    def position(self) -> dict[str, int]:
        """Row id -> position in pool order."""
        return {row_id: i for i, row_id in enumerate(self.ids)}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the sorted ids: independent of order, paths and file boundaries."""
        joined = "\n".join(sorted(self.ids)).encode()
        return hashlib.sha256(joined).hexdigest()

    @property
    def copies(self) -> int:
        """How many rows are further copies of an earlier identical row."""
        return int((self.copy_N > 0).sum())

    def source_of(self, i: int) -> str:
        """Name of the source of the row at position `i`."""
        return self.sources[self.source_N[i]]

    def raw(self, i: int) -> bytes:
        """The bytes of the row at position `i`."""
        return self.reader.raw(int(self.file_N[i]), int(self.offset_N[i]), int(self.length_N[i]))

    def columns(self, i: int) -> dict[str, Any]:
        """The columns of the row at position `i`."""
        return self.reader.columns(int(self.file_N[i]), int(self.offset_N[i]), int(self.length_N[i]))

    def example(self, i: int) -> Example:
        """The normalised row at position `i`."""
        return self.reader.example(int(self.file_N[i]), int(self.offset_N[i]), int(self.length_N[i]), self.ids[i])

    def examples(self, positions: Iterable[int] | None = None) -> Iterator[Example]:
        """Normalised rows in the given order (pool order by default), read as they are asked for."""
        if positions is not None:
            for i in positions:
                yield self.example(int(i))
            return
        empty = []
        for i in range(len(self)):
            example = self.example(i)
            if not example.answered:
                empty.append(example.id)
            yield example
        self.__dict__["unanswered"] = frozenset(empty)  # found by the way, so that `unanswered` reads nothing again

    @cached_property
    def unanswered(self) -> frozenset[str]:
        """Ids of supervised rows whose every answer is empty: no score ranks them."""
        return frozenset(e.id for e in self.examples() if not e.answered)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of example in the pool."""
        return frozenset(f.kind for f in self.files if f.rows)


@dataclass(frozen=True)
class Sealed:
    """Judge rows: a file that only proof and the contamination gate may open.

    The file isn't read when a goal is opened; any caller of `open_for` but "gate" or "proof" is refused.
    """

    path: Path
    opener: Callable[[], Pool] = field(repr=False)

    def open_for(self, caller: Literal["gate", "proof"]) -> Pool:
        """The judge rows, for one of the two readers the design allows.

        Raises:
            RequestError: Any other caller.
        """
        if caller not in ("gate", "proof"):
            raise RequestError(f"judge rows {self.path} are sealed: {caller!r} may not read them; use the steer rows")
        return self.opener()


@dataclass(frozen=True)
class Subtask:
    """One named part of a goal. `steer` is what selection sees; `tune` what choices see; `judge` is sealed.

    A part that only judges has a `steer` without rows.
    """

    name: str
    steer: Pool
    tune: Pool | None = None
    judge: Sealed | None = None
    judge_kind: str = "loss"

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of example among the rows that aren't sealed."""
        return self.steer.kinds | (self.tune.kinds if self.tune is not None else frozenset())


@dataclass(frozen=True)
class Protected:
    """A skill that must not regress: judged like the goal, never steered by.

    `margin` is the loss of skill that is still accepted, in the judge's unit; None leaves it to the proof.
    """

    name: str
    judge: Sealed
    judge_kind: str = "loss"
    margin: float | None = None


@dataclass(frozen=True)
class Goal:
    """What the model should become good at, and which skills must not regress."""

    subtasks: tuple[Subtask, ...]
    protected: tuple[Protected, ...] = ()

    def __post_init__(self) -> None:
        names = [s.name for s in self.subtasks] + [s.name for s in self.protected]
        if not self.subtasks:
            raise RequestError(
                "the goal has no subtask: expected at least one with steer rows; add rows to the goal file"
            )
        if len(set(names)) != len(names):
            raise RequestError(f"the goal's parts {names} repeat a name: expected unique names; rename one")

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over subtask names and their steer ids."""
        text = "\n".join(f"{s.name}:{s.steer.fingerprint}" for s in self.subtasks)
        return hashlib.sha256(text.encode()).hexdigest()

    def steer_rows(self) -> int:
        """How many steer rows the goal has, over all subtasks."""
        return sum(len(s.steer) for s in self.subtasks)


@dataclass(frozen=True, slots=True)
class Budget:
    """How much to keep: rows, a fraction of the readable rows, or tokens."""

    unit: Literal["rows", "fraction", "tokens"]
    amount: float

    @classmethod
    def parse(cls, keep: str | int | float) -> Budget:
        """Read `200`, `5%`, `0.05`, `200ktok`, `1.5Mtok`.

        An int is rows; `5%` or 0 < x < 1 a fraction; `1.0` is refused because it reads both ways.

        Raises:
            RequestError: Anything else, with what would be understood.
        """
        text = str(keep).strip().lower().replace("_", "")
        try:
            return cls._parsed(text, isinstance(keep, float))
        except ValueError:
            raise RequestError(
                f"keep {keep!r} is not understood: expected rows (200), a share (5% or 0.05) or tokens (200ktok)"
            ) from None

    @classmethod
    def _parsed(cls, text: str, is_float: bool) -> Budget:
        if text.endswith("tok"):
            scale = {"k": 1e3, "m": 1e6, "g": 1e9}.get(text[-4:-3], 1.0)
            amount = float(text[:-3] if scale == 1.0 else text[:-4]) * scale
            unit: Literal["rows", "fraction", "tokens"] = "tokens"
        elif text.endswith("%"):
            unit, amount = "fraction", float(text[:-1]) / 100.0
        elif "." in text or "e" in text or is_float:
            unit, amount = "fraction", float(text)
            if amount == 1.0:
                raise RequestError("keep 1.0 reads as one row or as everything: say 1 or 100%")
        else:
            unit, amount = "rows", float(int(text))
        high = 1.0 if unit == "fraction" else float("inf")
        if not 0 < amount <= high or (unit != "fraction" and amount == float("inf")):
            raise RequestError(
                f"keep {text!r} is out of range: expected more than nothing and at most everything; correct --keep"
            )
        return cls(unit, amount)

    def rows(self, readable: int) -> int:
        """Rows asked for out of `readable` rows before exclusions (floor, at least 1).

        Raises:
            RequestError: The budget counts tokens.
        """
        if self.unit == "tokens":
            raise RequestError("a token budget has no row count: ask for rows or a share")
        if self.unit == "rows":
            return int(self.amount)
        return max(1, int(self.amount * readable + 1e-9))

    def __str__(self) -> str:
        if self.unit == "fraction":
            return f"{self.amount * 100:g}%"
        return f"{int(self.amount)}{'tok' if self.unit == 'tokens' else ''}"


def id_order(ids: Sequence[str]) -> NDArray[np.int64]:
    """Positions that sort `ids`, copies in order (`a`, `a#1`, ..., `a#10`): the tie-break of the whole house."""
    order_N = _digest_order(ids)
    if order_N is not None:
        return order_N
    keys = sorted((i[:32], int(i[33:]) if len(i) > 32 else 0, n) for n, i in enumerate(ids))
    return np.fromiter((n for *_, n in keys), dtype=np.int64, count=len(keys))


def _digest_order(ids: Sequence[str]) -> NDArray[np.int64] | None:
    """`id_order` of ids that all begin with a digest in hex, as a pool's do; None where some don't.

    Such ids sort like the numbers that their digests are, which takes a tenth of the time of sorting texts.
    """
    long_N = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    copies = np.flatnonzero(long_N > 32).tolist()
    heads = "".join([i[:32] for i in ids] if copies else ids)
    try:
        digests = bytes.fromhex(heads)
        number_N = np.zeros(len(ids), dtype=np.int64)
        number_N[copies] = [int(ids[i][33:]) for i in copies]
    except (ValueError, OverflowError):
        return None
    # Capitals are hex, too, but sort apart from small letters; and blanks are skipped.
    if not len(ids) or long_N.min() < 32 or digests.hex() != heads:
        return None
    half_N2 = np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(-1, 2)
    order_N = np.argsort(half_N2[:, 0])
    # The few rows that agree in the first half, copies among them, are sorted by the rest and by place.
    first_N = half_N2[order_N, 0]
    equal_N = np.zeros(len(ids), dtype=bool)
    equal_N[1:] = first_N[1:] == first_N[:-1]
    equal_N[:-1] |= equal_N[1:]
    rows = order_N[equal_N]
    order_N[equal_N] = rows[np.lexsort((rows, number_N[rows], half_N2[rows, 1], half_N2[rows, 0]))]
    return order_N


def hash_unit(ids: Sequence[str], seed: int, purpose: str) -> NDArray[np.float64]:
    """A uniform number in [0, 1) for each id from hash(id, seed, purpose): sampling that ignores row order."""
    salt = f"{purpose}:{seed}:".encode()
    raw = b"".join(hashlib.blake2b(salt + i.encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(raw, dtype=">u8").astype(np.float64) / 2.0**64
