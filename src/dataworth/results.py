"""Frozen results of the verbs and contracts; each explains itself as text, table and dict."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dataworth.records import Budget


@dataclass(frozen=True)
class Scored:
    """One number per row and an explicit list of rows without one.

    `values_N` is float64 with NaN exactly at the unscored rows; `unscored` maps row id -> reason in plain words. Scores
    never rank an unscored row. `notes` are sentences of the method's own about all rows, such as how many values it had
    to clip. `higher` says which end an option chose to keep, where it isn't the score's usual one.
    """

    values_N: NDArray[np.float64]
    unscored: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    higher: Literal["keep", "drop"] | None = None

    def __post_init__(self) -> None:
        missing = int(np.isnan(self.values_N).sum())
        if missing != len(self.unscored):
            raise ValueError(f"{missing} NaN values but {len(self.unscored)} unscored reasons: they must agree")
        if np.isinf(self.values_N).any():
            raise ValueError("a score is infinite: give the row a reason in `unscored` and NaN as its value")


class Score(Protocol):
    """A pure function of named inputs -> one number per row.

    `needs` names artefacts (`text:pool`, `text:goal`, `tokens`, `losses`, `vectors`, `similarity`); `inputs["ids"]` is
    always there. `kinds` are the example kinds the score is defined for. `higher` says which end to keep. A score
    may say in `ends` what its low and its high end mean, such as `("easiest", "hardest")`, for the reasons of picks.
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

    `ids` are the kept ids in pool order with `weights` beside them; a pick's sum to what its theory says, those that
    are stored and trained on to the rows kept (`selecting.weighed`). `reason_code_N` (uint8, pool order) indexes
    `reasons`; a code is a short kebab-case word, its text in plain English is in `reason_texts`. `boundary` holds the
    scores on both sides of the cut when there is one. `turned`: the score was ranked from its other end.
    """

    ids: tuple[str, ...]
    weights: NDArray[np.float64]
    kept_N: NDArray[np.bool_]
    reason_code_N: NDArray[np.uint8]
    reasons: tuple[str, ...]
    reason_texts: Mapping[str, str]
    boundary: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    turned: bool = False

    def counts(self) -> dict[str, int]:
        """Rows per reason code; they add up to the pool."""
        found = np.bincount(self.reason_code_N, minlength=len(self.reasons))
        return {r: int(c) for r, c in zip(self.reasons, found, strict=True) if c}

    def explain(self) -> str:
        """The selection in a few lines of plain English."""
        lines = [f"kept {len(self.ids):,} of {len(self.kept_N):,} rows"]
        lines += [f"  {n:>9,}  {self.reason_texts[r]}" for r, n in self.counts().items()]
        if {"last_kept", "first_dropped"} <= set(self.boundary):
            kept, dropped = self.boundary["last_kept"], self.boundary["first_dropped"]
            lines.append(f"the cut lies between {kept:.4g} (kept) and {dropped:.4g} (dropped)")
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
    code, text)), `score:NAME` as `Scored` where `needs` asks for it, `higher`, `ends`, `tokens_N`, `source_N` and
    `sources`.
    A pick that reads more under some options says so in `needs_by`: (option, value) -> what it then needs besides.
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
    cosine (the LESS repository); `centroid_CNG` the cosine with the subtask's mean gradient (the paper's Eq. 2).
    `weight_C` are the checkpoints' learning-rate weights and sum to 1. Unscored rows hold NaN
    and are listed with their reason.
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


@dataclass(frozen=True)
class SampleRow:
    """A row shown to a person: what it says (cut), its score, and why it was kept or dropped in plain words."""

    id: str
    text: str
    score: float | None
    why: str


@dataclass(frozen=True)
class SelectResult:
    """A finished selection: what was kept, why, where it is, and how to do it again."""

    run: Path
    method: str
    pick: str
    selection: Selection
    scored: Scored
    kept_sample: tuple[SampleRow, ...]
    dropped_sample: tuple[SampleRow, ...]
    record: Mapping[str, Any]
    written: tuple[Path, ...] = ()
    writer: Callable[[str | Path], tuple[Path, ...]] | None = field(default=None, repr=False, compare=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """The kept ids in pool order."""
        return self.selection.ids

    def write(self, out: str | Path) -> tuple[Path, ...]:
        """Write the kept rows in the pool's own format, with reasons, weights and a card beside them.

        Raises:
            RequestError: `out` is one of the input files, or the pool's files changed since they were read.
        """
        if self.writer is None:
            raise ValueError("this result was loaded without its pool; use api.select to write")
        return self.writer(out)

    @property
    def beside(self) -> str:
        """One line of what is known: tokens kept, overlap and correlation with baselines, diversity, a forecast."""
        found, parts = self.record.get("beside", {}), []
        if "tokens" in found:
            kept, pool = found["tokens"]["kept"], found["tokens"]["pool"]
            parts.append(f"{kept:,} of the pool's {pool:,} tokens ({100 * kept / max(1, pool):.1f} %)")
        if len(found.get("overlap", ())) > 1:  # random alone is beside nothing
            shares = [f"{name} {100 * share:.0f} %" for name, share in found["overlap"].items()]
            parts.append(f"overlap: {', '.join(shares[:-1])}; {shares[-1].replace(' ', ' would share ', 1)}")
        if "correlations" in found:
            shown = ", ".join(f"{name} {rho:.2f}" for name, rho in found["correlations"].items())
            parts.append(f"rank correlation of the score with {shown}")
        if found.get("diversity"):
            kept, random, rows = (found["diversity"][name] for name in ("kept", "random", "rows"))
            parts.append(
                f"{rows:,} of its rows count as {kept:,.1f} different ones (Vendi), as many random as {random:,.1f}"
            )
        if "forecast" in found:
            parts.append(f"forecast of worth: {found['forecast']}")
        return "; ".join(parts)

    def explain(self) -> str:
        """The selection in plain English, with three rows kept and three dropped."""
        lines = [f"{self.method} -> {self.pick}: {self.selection.explain()}", *filter(None, [self.beside])]
        for title, rows in (("kept, for example", self.kept_sample), ("dropped, for example", self.dropped_sample)):
            if rows:
                lines.append(f"{title}:")
                lines += [f"  - {r.text}\n      {r.why}" for r in rows]
        lines.append(f"run: {self.run}")
        return "\n".join([*lines, *self.record.get("notes", ())])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the ids (they are in the run folder) as plain JSON values."""
        return {
            "run": str(self.run),
            "method": self.method,
            "pick": self.pick,
            **self.selection.to_dict(),
            "unscored": len(self.scored.unscored),
            "beside": dict(self.record.get("beside", {})),
            "kept_sample": [vars(r) for r in self.kept_sample],
            "dropped_sample": [vars(r) for r in self.dropped_sample],
            "written": [str(p) for p in self.written],
            "record": dict(self.record),
        }

    def _repr_html_(self) -> str:
        return html_of(self.explain())


@dataclass(frozen=True)
class ScoreResult:
    """Scores of every row under one or more methods, each with its rank correlation with length and random."""

    run: Path
    ids: Sequence[str]
    scores: Mapping[str, Scored]
    correlations: Mapping[str, Mapping[str, float]]
    record: Mapping[str, Any]

    def method_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and one row per method: rows scored, quartiles, rank correlations."""
        rows = [
            [
                name,
                f"{len(self.ids) - len(s.unscored):,}",
                f"{len(s.unscored):,}",
                *self._quartiles(s),
                *self._rho(name),
            ]
            for name, s in self.scores.items()
        ]
        header = ["method", "scored", "unscored", "25%", "50%", "75%", "rho(length)", "rho(random)"]
        return header, rows

    def explain(self) -> str:
        """One line per method."""
        header, rows = self.method_table()
        return "\n".join([table(rows, header), f"scores: {self.run}", *self.record.get("notes", ())])

    def _quartiles(self, scored: Scored) -> list[str]:
        found = scored.values_N[~np.isnan(scored.values_N)]
        return [f"{q:.4g}" for q in np.quantile(found, [0.25, 0.5, 0.75])] if len(found) else ["-"] * 3

    def _rho(self, name: str) -> list[str]:
        return [f"{self.correlations.get(name, {}).get(k, float('nan')):.2f}" for k in ("length", "random")]

    def to_dict(self) -> dict[str, Any]:
        """Counts, quartiles and correlations as plain JSON values."""
        return {
            "run": str(self.run),
            "methods": {
                n: {
                    "scored": len(self.ids) - len(s.unscored),
                    "unscored": len(s.unscored),
                    "rho": dict(self.correlations[n]),
                }
                for n, s in self.scores.items()
            },
            "record": dict(self.record),
        }

    def _repr_html_(self) -> str:
        return html_of(self.explain())


@dataclass(frozen=True)
class Stage:
    """One priced step: rows still to do (and already cached), tokens, passes over them, disk bytes, CPU-seconds.

    `at_once` is how many worker processes or threads share the CPU-seconds.
    """

    name: str
    rows: int
    cached: int
    tokens: int
    passes: float
    disk_bytes: int
    cpu_seconds: float | None
    at_once: int = 1


@dataclass(frozen=True)
class PlanResult:
    """What a request will cost before any long work, beside the price of simply training on everything."""

    stages: tuple[Stage, ...]
    train_pick: Stage | None
    train_full: Stage | None
    calibration: Mapping[str, Any]
    recipe: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def cpu_seconds(self) -> float | None:
        """The price of the request, or None where nothing was calibrated."""
        known = [s.cpu_seconds for s in self.stages]
        return None if any(k is None for k in known) else float(sum(k for k in known if k is not None))

    @property
    def wall_seconds(self) -> float | None:
        """An estimate of the time that the request takes: each step's CPU-seconds over those who share them."""
        known = [(s.cpu_seconds, s.at_once) for s in self.stages]
        return None if any(c is None for c, _ in known) else float(sum(c / n for c, n in known if c is not None))

    def explain(self) -> str:
        """The price list as a table with the comparison under it."""
        stages = [*self.stages, *(s for s in (self.train_pick, self.train_full) if s)]
        rows = [
            [
                s.name,
                f"{s.rows:,}",
                f"{s.cached:,}",
                f"{s.tokens:,}",
                f"{s.passes:g}",
                _bytes(s.disk_bytes),
                duration(s.cpu_seconds),
            ]
            for s in stages
        ]
        text = table(rows, ["step", "rows", "cached", "tokens", "passes", "disk", "CPU time"])
        return "\n".join([text, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """The price list as plain JSON values."""
        return {
            "stages": [vars(s) for s in self.stages],
            "cpu_seconds": self.cpu_seconds,
            "wall_seconds": self.wall_seconds,
            "train_pick": vars(self.train_pick) if self.train_pick else None,
            "train_full": vars(self.train_full) if self.train_full else None,
            "calibration": dict(self.calibration),
            "recipe": dict(self.recipe),
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        return html_of(self.explain())


@dataclass(frozen=True)
class ReplayResult:
    """Whether a run came out the same again."""

    run: Path
    from_scratch: bool
    kept: int
    identical: bool
    only_before: tuple[str, ...]
    only_now: tuple[str, ...]
    score_difference: float

    def explain(self) -> str:
        """One sentence."""
        how = "from scratch" if self.from_scratch else "from the cache"
        if self.identical:
            return f"{self.run} replayed {how}: the same {self.kept:,} ids, scores within {self.score_difference:.3g}"
        return (
            f"{self.run} replayed {how}: NOT the same; {len(self.only_before)} ids only before, "
            f"{len(self.only_now)} only now, scores within {self.score_difference:.3g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        return {
            **vars(self),
            "run": str(self.run),
            "only_before": list(self.only_before),
            "only_now": list(self.only_now),
        }


@dataclass(frozen=True)
class GoalSplit:
    """A goal file cut in three: where its `goal.yaml` is, rows per part, and how the rows will be judged."""

    path: Path
    rows: Mapping[str, int]
    rejected: int
    rejects_path: Path | None
    judge_kind: str

    def explain(self) -> str:
        """What was written, and what to type next."""
        parts = ", ".join(f"{n:,} {part}" for part, n in self.rows.items())
        lost = f"; {self.rejected:,} rejected, see {self.rejects_path}" if self.rejected else ""
        return (
            f"{self.path}: {parts} rows{lost}; judged by {self.judge_kind}\n"
            "selection sees steer, choices see tune, only a proof opens judge; "
            f"next: dataworth select POOL --goal {self.path}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {**vars(self), "path": str(self.path), "rejects_path": self.rejects_path and str(self.rejects_path)}

    def _repr_html_(self) -> str:
        return html_of(self.explain())


@dataclass(frozen=True)
class CacheReport:
    """Bytes per kind of entry: on disk, or freed."""

    what: str
    bytes_by_kind: Mapping[str, int]

    def explain(self) -> str:
        """One line per kind and the sum."""
        rows = [[k, _bytes(n)] for k, n in [*self.bytes_by_kind.items(), ("in all", sum(self.bytes_by_kind.values()))]]
        return table(rows, ["cache", self.what])

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {"what": self.what, "bytes_by_kind": dict(self.bytes_by_kind)}


def _bytes(n: int) -> str:
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(max(0, n.bit_length() - 1) // 10, len(units) - 1)
    return f"{n / 1024**power:.{1 if power else 0}f} {units[power]}"


def duration(s: float | None) -> str:
    """Seconds, minutes or hours in words; a dash for None."""
    if s is None:
        return "-"
    if s < 90:
        return f"{s:.1f} s"
    return f"{s / 60:.1f} min" if s < 5400 else f"{s / 3600:.1f} h"


def html_of(text: str) -> str:
    """Plain text as a notebook shows it."""
    return f"<pre>{html.escape(text)}</pre>"
