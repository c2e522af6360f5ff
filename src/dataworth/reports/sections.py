"""Sections that reports share: histograms, what a subset is made of, sample rows, costs, and the record."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.composition import QUANTILES, bins_for
from dataworth.report import Bars, Grid, Histogram, Section
from dataworth.results import SampleRow, duration
from dataworth.store.run import PICTURES, RunFolder

_ON_THE_WAY_IN = {"rejected": "could not be read (rejected.jsonl)", "copies": "of them copy an earlier one"}
_DRAWN_PARTS = 4  # more histograms over one another can't be told apart; the tables hold all
_DRAWN_SOURCES = 12
_LONGEST_LIST = 20
_SHOWN_ELSEWHERE = ("proof", "composition", "samples", "selection", "beside", "correlations")


@dataclass(frozen=True)
class Recorded:
    """What a run folder says of itself: the request, `content` and `timings` of its record, a proof's registration."""

    path: Path
    request: Mapping[str, Any]
    content: Mapping[str, Any]
    timings: Mapping[str, Any]
    registration: Mapping[str, Any] | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the verb noted by the way."""
        return tuple(self.content.get("notes", ()))

    @property
    def pictures(self) -> dict[str, bytes]:
        """Small PNGs of sample rows by their ids; none where no row is an image."""
        if not (self.path / f"{PICTURES}.parquet").is_file():
            return {}
        found = RunFolder.existing(self.path).read_table(PICTURES)
        return dict(zip(found["id"], found["png"], strict=True))


def histogram(axis: str, parts: Mapping[str, NDArray[np.float64]]) -> Histogram | None:
    """Values of several parts in common bins; None where all are the same."""
    every = np.concatenate(list(parts.values()))
    if len(every) < 2 or np.ptp(every) == 0:
        return None
    edges = np.histogram_bin_edges(every, bins=bins_for(len(every)))
    shares = tuple((name, shares_of(np.histogram(v, bins=edges)[0].tolist())) for name, v in parts.items() if len(v))
    medians = "; ".join(f"{name}: median {np.median(v):.4g}" for name, v in parts.items() if len(v))
    return Histogram(tuple(edges.tolist()), shares, axis, f"Distribution of the {axis}. {medians}.")


def composition_section(heading: str, recorded: Recorded) -> Section:
    """Lengths and sources of each part beside the pool's, as the run recorded them."""
    found = recorded.content.get("composition")
    if not found:
        why = "not recorded: this run was made before lengths and sources were kept; run its command into a new --run"
        return Section(heading, (pool_line(recorded), why), told=True)
    parts, unit, sources = found["parts"], found["unit"], found["sources"]
    lengths = tuple((p["name"], f"{p['rows']:,}", *_quantiles(p), f"{p['sum']:,.0f}") for p in parts)
    header = ("", "rows", "shortest", "10 %", "median", "90 %", "longest", "sum")
    worded = any(p["sum"] for p in parts)  # images and vectors have no length
    grids = [Grid(header, lengths, f"length in {unit}")] if worded else []
    shares = [shares_of(p["source_rows"]) for p in parts]
    rows = tuple(
        (source, *(f"{p['source_rows'][n]:,} ({100 * share[n]:.1f} %)" for p, share in zip(parts, shares, strict=True)))
        for n, source in enumerate(sources)
    )
    by = found.get("by", "source")
    grids.append(Grid((by, *(p["name"] for p in parts)), rows, f"rows by {by}"))
    charts: list[Histogram | Bars] = []
    drawn = list(zip(parts, shares, strict=True))[:_DRAWN_PARTS]
    if worded and len(found["edges"]) > 2:
        alt = "; ".join(f"{p['name']}: median {_quantiles(p)[2]}" for p in parts)
        bins = tuple((p["name"], shares_of(p["length_rows"])) for p, _ in drawn)
        named = f"length in {unit}"
        charts.append(Histogram(tuple(found["edges"]), bins, named, f"L{named[1:]}. {alt}.", found["log"]))
    if len(sources) > 1:
        groups = tuple((p["name"], share[:_DRAWN_SOURCES]) for p, share in drawn)
        charts.append(
            Bars(tuple(sources[:_DRAWN_SOURCES]), groups, "share of rows", f"Rows by {by}, as in the table below.")
        )
    shifts = [_shift_line(p["name"], p["shift"], recorded.content.get("pick")) for p in parts if "shift" in p]
    return Section(heading, (pool_line(recorded), *filter(None, shifts)), tuple(charts), tuple(grids), told=True)


def _shift_line(name: str, shift: Mapping[str, Any], pick: str | None) -> str:
    """Which classes a part has less and more of than the pool, if that is more than drawing at random brings about."""
    if shift["distance"] <= shift["chance"]:
        return ""
    lost, gained = (
        ", ".join(f"class {label} ({100 * before:.1f} % to {100 * after:.1f} %)" for label, before, after in shift[way])
        for way in ("lost", "gained")
    )
    # The balanced pick goes from the end that the score keeps, which isn't what who keeps the other one is after.
    advice = "; to keep each class's share: --pick balanced --option share=1" if pick not in (None, "bottom_k") else ""
    return (
        f"The classes of {name} are shifted against the pool's: {100 * shift['distance']:.1f} % of the rows would have "
        f"to be of others (total variation; in 99 of 100 random draws at most {100 * shift['chance']:.1f} %). "
        f"Lost most: {lost}; gained most: {gained}{advice}."
    )


def _quantiles(part: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{q:,.0f}" for q in part["quantiles"]) if part["quantiles"] else ("-",) * len(QUANTILES)


def pool_line(recorded: Recorded) -> str:
    """Rows of the pool, and what was lost or doubled on the way in."""
    pool = recorded.content["pool"]
    more = [f"{pool[what]:,} {words}" for what, words in _ON_THE_WAY_IN.items() if pool[what]]
    return f"The pool has {pool['rows']:,} readable rows" + "".join(f"; {part}" for part in more) + "."


def shares_of(counts: Sequence[int]) -> tuple[float, ...]:
    """Counts over their sum; zeros where there is nothing."""
    total = max(1, sum(counts))
    return tuple(n / total for n in counts)


def drawn_rows_section(recorded: Recorded) -> Section:
    """Rows of each proved subset and of the rest of the pool."""
    heading, found = "Sample rows", recorded.content.get("samples")
    if found is None:
        return Section(heading, ("not recorded: this run was made before sample rows were kept",), told=True)
    groups = []
    named = [p["name"] for p in recorded.content["composition"]["parts"] if p["name"] in found]  # in the proof's order
    for name in named:
        halves = found[name]
        groups.append((f"{name}, drawn at random", tuple(SampleRow(**r) for r in halves["kept"])))
        groups.append(
            (f"the rest of the pool beside {name}, drawn at random", tuple(SampleRow(**r) for r in halves["dropped"]))
        )
    return Section(heading, samples=tuple(g for g in groups if g[1]), pictures=recorded.pictures, told=True)


def costs_section(recorded: Recorded) -> Section:
    """What the command that finished the run spent, by stage."""
    costs = recorded.timings.get("costs", {})
    rows = [
        (stage, f"{c['rows']:,}", duration(c["wall_seconds"]), duration(c["cpu_seconds"])) for stage, c in costs.items()
    ]
    if len(rows) > 1:
        wall, cpu = (sum(c[k] for c in costs.values()) for k in ("wall_seconds", "cpu_seconds"))
        rows.append(("in all", "", duration(wall), duration(cpu)))
    machine = recorded.timings.get("machine")
    lines = (
        "Spent by the command that finished the run"
        + (f", on {machine}" if machine else "")
        + "; what was cached cost nothing.",
    )
    return Section("Costs", lines, grids=(Grid(("stage", "rows", "wall time", "CPU time"), tuple(rows)),), told=True)


def rests_section(recorded: Recorded) -> Section:
    """The model, goal, recipe and pool that a run is about, by name and by fingerprint."""
    content, request = recorded.content, recorded.request
    pool, goal, learner = content["pool"], content.get("goal") or {}, content.get("learner") or {}
    named = {what: _name(request[what]) for what in ("model", "encoder", "goal") if request.get(what)}
    if "goal" in named and goal:
        named["goal"] += f" ({', '.join(f'{n:,} steer rows of {of}' for of, n in goal['steer_rows'].items())})"
    if request.get("train_command"):
        named["train_command"] = " ".join(map(_name, shlex.split(request["train_command"])))
    elif learner:
        named["recipe"] = ", ".join(f"{key} {_said(value)}" for key, value in content["recipe"].items())
        searched = len((recorded.registration or {}).get("lr_factors", ())) > 1 or request.get("keep") == "auto"
        named["recipe"] += "; each arm at its own best learning rate" if searched else ""
    named["pool"] = ", ".join(f"{_name(f['path'])} ({f['rows']:,} rows)" for f in pool["files"])
    named["versions"] = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    lines = tuple(f"{what.replace('_', ' ').capitalize()}: {said}" for what, said in named.items())
    known = {"pool": pool["fingerprint"], "goal": goal.get("fingerprint"), "learner": learner.get("fingerprint")}
    known["weights"] = learner.get("weights_sha256")
    prints = tuple((name, str(found)) for name, found in known.items() if found)
    return Section("What it rests on", lines, grids=(Grid(("fingerprint", "sha256"), prints),))


def _name(given: str) -> str:
    """A file or model as it is told to others: where it lies on a machine is nothing to them."""
    return Path(given).name if Path(given).is_absolute() else given


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def record_sections(recorded: Recorded) -> list[Section]:
    """Files, guards, the registration, and the record as it is."""
    content = recorded.content
    pool = content["pool"]
    files = tuple((f["path"], f"{f['rows']:,}", f["schema"], f["sha256"]) for f in pool["files"])
    guards = tuple((g["guard"], "passed" if g["passed"] else "failed", g["evidence"]) for g in content["guards"])
    grids = [
        Grid(("file", "rows", "schema", "sha256"), files, "pool files"),
        Grid(("guard", "", "evidence"), guards, "guards"),
    ]
    rest = {k: v for k, v in content.items() if k not in _SHOWN_ELSEWHERE}
    sections = [
        Section(
            "Record",
            (f"The run folder is {recorded.path}.",),
            grids=tuple(g for g in grids if g.rows),
            raw=_pretty(rest),
            folded=True,
        )
    ]
    if recorded.registration is not None:
        lines = ("Written before a trial was judged.",)
        sections.append(Section("Registration", lines, raw=_pretty(recorded.registration), folded=True))
    return sections


def _pretty(values: Mapping[str, Any]) -> str:
    return json.dumps(_short(values), indent=1, sort_keys=True, ensure_ascii=False)


def _short(value: Any) -> Any:
    """Long lists cut: a warm-up's ids are in record.json, and nobody reads them on a page."""
    if isinstance(value, Mapping):
        return {k: _short(v) for k, v in value.items()}
    if isinstance(value, list):
        more = len(value) - _LONGEST_LIST
        return [
            *map(_short, value[:_LONGEST_LIST]),
            *([f"... and {more:,} more in the run folder"] if more > 0 else []),
        ]
    return value
