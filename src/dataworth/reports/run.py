"""From a finished run folder to its report; neither the pool nor the model needs to be there any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.report import Claim, Grid, Report, Section
from dataworth.reports.sections import (
    Recorded,
    composition_section,
    costs_section,
    histogram,
    pool_line,
    record_sections,
    rests_section,
)
from dataworth.results import Scored, ScoreResult, SelectResult
from dataworth.runs import finished_scores, finished_selection, stored_diagnosis, stored_proof
from dataworth.store.atomic import write_atomic
from dataworth.store.json_files import read_json
from dataworth.store.run import CARD, REPORT, RunFolder

PROOFS = ("prove", "worth")
VERBS = ("select", "score", *PROOFS, "diagnose")
REGISTRATION = "registration.json"


def report_of(path: str | Path) -> Report:
    """The report of a finished run of `VERBS`.

    Raises:
        RequestError: No run folder, or none of a finished run of these verbs.
    """
    run = RunFolder.existing(Path(path).expanduser())
    verb = run.config.get("verb")
    if verb not in VERBS:
        raise RequestError(f"{path} is a run of {verb!r}: expected one of {', '.join(VERBS)}; check the path")
    record, registration = run.read_record(), None
    told = {"diagnose": "measured"}.get(verb, "proof") in record[
        "content"
    ]  # also where failed trials may be mended yet
    if not run.finished and not told:
        what = "an unfinished proof" if (run.path / REGISTRATION).exists() else f"no finished {verb} run"
        raise RequestError(
            f"{path} is {what}: expected a finished run; give its {verb} command again, which resumes it"
        )
    if (run.path / REGISTRATION).exists():
        registration = read_json(run.path / REGISTRATION, "the report can do without it: delete it")
    recorded = Recorded(run.path, run.config, record["content"], record["timings"], registration)
    if verb in PROOFS:
        from dataworth.reports.proof import proof_sections

        proof = stored_proof(run)
        claims, sections = proof_sections(proof, recorded)
        return _report(verb, recorded, claims, sections, proof)
    if verb == "diagnose":
        from dataworth.reports.diagnosis import diagnosis_sections

        found = stored_diagnosis(run)
        return _report(verb, recorded, *diagnosis_sections(found), found)
    if verb == "score":
        scores = _there(finished_scores(run))
        return _report(verb, recorded, *_score_sections(scores, recorded), scores)
    selected = _there(finished_selection(run))
    return _report(verb, recorded, *_select_sections(selected, recorded), selected)


def with_page(report: Report, place: Literal[True] | str | Path) -> Report:
    """The report, written as one page to a file, or beside its run for True.

    Raises:
        MissingExtra: The page needs matplotlib.
        RequestError: The place can't be written.
    """
    from dataworth.views.html import write

    return replace(report, html=write(report, report.run / REPORT if place is True else Path(place).expanduser()))


def write_card(path: Path) -> None:
    """Write a proof's card into its run folder, if it isn't there as it should be."""
    from dataworth.views.markdown import card

    text, place = card(report_of(path)).encode(), path / CARD
    if not place.is_file() or place.read_bytes() != text:
        write_atomic(place, text)


def _there(result: Any) -> Any:
    if result is None:
        raise RequestError("the run changed while it was read: expected a finished run; try again")
    return result


def _report(verb: str, recorded: Recorded, claims: Sequence[Claim], sections: Sequence[Section], result: Any) -> Report:
    told = {k: v for k, v in result.to_dict().items() if k not in ("record", "run")}
    values = {
        "verb": verb,
        "run": str(recorded.path),
        "result": told,
        "composition": recorded.content.get("composition"),
        "samples": recorded.content.get("samples"),
        "costs": recorded.timings.get("costs", {}),
        "machine": recorded.timings.get("machine"),
        "command": recorded.timings.get("command"),
        "registration": recorded.registration,
        "record": {
            k: v for k, v in recorded.content.items() if k not in ("proof", "measured", "composition", "samples")
        },
    }
    every = (*sections, costs_section(recorded), rests_section(recorded), *record_sections(recorded))
    return Report(recorded.path, verb, tuple(claims), every, result.explain(), values)


def _select_sections(result: SelectResult, recorded: Recorded) -> tuple[list[Claim], list[Section]]:
    chosen = result.selection
    claim = Claim(
        f"kept {len(chosen.ids):,} of {len(chosen.kept_N):,} rows by {result.method} and {result.pick}",
        "This is a selection, not a proof: whether these rows train better than random ones is for dataworth prove.",
    )
    counts = tuple((chosen.reason_texts[code], f"{n:,}") for code, n in chosen.counts().items())
    lines = [result.beside] if result.beside else []
    if {"last_kept", "first_dropped"} <= set(chosen.boundary):
        last, first = chosen.boundary["last_kept"], chosen.boundary["first_dropped"]
        lines.append(f"The cut lies between {last:.4g} (kept) and {first:.4g} (dropped).")
    shown = histogram(
        f"{result.method} score",
        {"dropped": _part(result.scored, ~chosen.kept_N), "kept": _part(result.scored, chosen.kept_N)},
    )
    reasons = Section(
        "Why rows were kept or dropped",
        (*lines, *chosen.notes, *recorded.notes),
        (shown,) if shown else (),
        (Grid(("reason", "rows"), counts),),
    )
    samples = Section(
        "Sample rows",
        samples=(("kept, for example", result.kept_sample), ("dropped, for example", result.dropped_sample)),
        pictures=recorded.pictures,
    )
    return [claim], [reasons, composition_section("Picks against pool", recorded), samples]


def _score_sections(result: ScoreResult, recorded: Recorded) -> tuple[list[Claim], list[Section]]:
    claim = Claim(
        f"{len(result.ids):,} rows scored by {', '.join(result.scores)}",
        "A score ranks rows; whether the best of them train better than random ones is for dataworth prove.",
    )
    header, rows = result.method_table()
    charts = [histogram(f"{name} score", {"rows": _part(s)}) for name, s in result.scores.items()]
    methods = Section(
        "Methods",
        (
            pool_line(recorded),
            "Quartiles of each score, and its rank correlation with length and with random numbers.",
            *recorded.notes,
        ),
        tuple(c for c in charts if c),
        (Grid(tuple(header), tuple(map(tuple, rows))),),
    )
    return [claim], [methods]


def _part(scored: Scored, mask_N: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    values = scored.values_N if mask_N is None else scored.values_N[mask_N]
    return values[~np.isnan(values)]
