"""Frozen results of the verbs and contracts; each explains itself as text, table and dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dataworth.records import Budget


@dataclass(frozen=True)
class Scored:
    """One number per row and an explicit list of rows without one.

    `values_N` is float64 with NaN exactly at the unscored rows; `unscored` maps row id -> reason in plain words. Scores
    never rank an unscored row.
    """

    values_N: NDArray[np.float64]
    unscored: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if int(np.isnan(self.values_N).sum()) != len(self.unscored):
            raise ValueError(
                f"{int(np.isnan(self.values_N).sum())} NaN values but {len(self.unscored)} unscored reasons: they must agree"
            )
        if np.isinf(self.values_N).any():
            raise ValueError("a score is infinite: give the row a reason in `unscored` and NaN as its value")


class Score(Protocol):
    """A pure function of named inputs -> one number per row.

    `needs` names artefacts (`text:pool`, `text:goal`, `tokens`, `losses`, `vectors`, `similarity`); `inputs["ids"]` is
    always there. `kinds` are the example kinds the score is defined for. `higher` says which end to keep.
    """

    name: str
    kinds: frozenset[str]
    needs: frozenset[str]
    higher: Literal["keep", "drop"]

    def __call__(self, inputs: Mapping[str, Any], **options: Any) -> Scored:
        """Score every row of `inputs["ids"]`."""
        ...


@dataclass(frozen=True)
class Selection:
    """What was picked, and why each row of the pool was kept or dropped.

    `ids` are the kept ids in pool order with `weights` beside them. `reason_code_N` (uint8, pool order) indexes `reasons`;
    a code is a short kebab-case word, its text in plain English is in `reason_texts`. `boundary` holds the scores on both
    sides of the cut when there is one.
    """

    ids: tuple[str, ...]
    weights: NDArray[np.float64]
    kept_N: NDArray[np.bool_]
    reason_code_N: NDArray[np.uint8]
    reasons: tuple[str, ...]
    reason_texts: Mapping[str, str]
    boundary: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Rows per reason code; they add up to the pool."""
        found = np.bincount(self.reason_code_N, minlength=len(self.reasons))
        return {r: int(c) for r, c in zip(self.reasons, found, strict=True) if c}

    def explain(self) -> str:
        """The selection in a few lines of plain English."""
        lines = [f"kept {len(self.ids):,} of {len(self.kept_N):,} rows"]
        lines += [f"  {n:>9,}  {self.reason_texts[r]}" for r, n in self.counts().items()]
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Counts, boundary and notes as plain JSON values (ids are in the run folder)."""
        return {
            "kept": len(self.ids),
            "pool": len(self.kept_N),
            "reasons": {r: {"rows": n, "text": self.reason_texts[r]} for r, n in self.counts().items()},
            "boundary": dict(self.boundary),
            "notes": list(self.notes),
        }


class Pick(Protocol):
    """A pure function of named inputs and a budget -> selection.

    `inputs` holds `ids`, `eligible_N` (bool; rows the gate or the score excluded are False), `excluded` (id -> (reason
    code, text)), `score:NAME` as `Scored` where `needs` asks for it, `higher`, `tokens_N`, `source_N` and `sources`.
    """

    name: str
    needs: frozenset[str]

    def __call__(self, inputs: Mapping[str, Any], budget: Budget, *, seed: int, **options: Any) -> Selection:
        """Pick rows within the budget."""
        ...


@dataclass(frozen=True)
class Finding:
    """What a check found: a sentence, what to do, evidence, and the rows concerned (id -> evidence in words)."""

    code: str
    title: str
    severity: Literal["issue", "tip"]
    text: str
    advice: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[str, str] = field(default_factory=dict)


class Check(Protocol):
    """A coded diagnosis over named inputs: a finding, None (passed), or `NotApplicable` with the reason."""

    code: str
    title: str
    severity: Literal["issue", "tip"]
    cost: Literal["free", "text", "model"]
    needs: frozenset[str]

    def __call__(self, inputs: Mapping[str, Any], **options: Any) -> Finding | None:
        """Look for the problem."""
        ...


@dataclass(frozen=True)
class Similarity:
    """Cosines of pool features with a goal, already reduced over goal rows.

    Axes: `C` checkpoints, `N` pool rows, `G` subtasks. `mean_CNG` is the mean over a subtask's goal rows of the per-row
    cosine (the LESS repository); `centroid_CNG` the cosine with the subtask's mean gradient (the paper's Eq. 2). `weight_C`
    are the checkpoints' learning-rate weights and sum to 1. Unscored rows hold NaN and are listed with their reason.
    """

    mean_CNG: NDArray[np.float32]
    centroid_CNG: NDArray[np.float32]
    weight_C: NDArray[np.float64]
    subtasks: tuple[str, ...]
    unscored: Mapping[str, str] = field(default_factory=dict)


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """A plain aligned text table; numbers right, words left."""
    cells = [[str(c) for c in row] for row in rows]
    widths = [max([len(h), *(len(r[i]) for r in cells)]) for i, h in enumerate(header)]
    numeric = [all(_is_number(r[i]) for r in cells) and bool(cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        parts = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        return "  ".join(parts).rstrip()

    return "\n".join([line(list(header)), line(["-" * w for w in widths]), *(line(r) for r in cells)])


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").replace("%", ""))
    except ValueError:
        return False
    return True
