"""The part of a proof's report that is its own: verdicts, arms, worth on the random curve, protected skills."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dataworth.laws.worth import RandomCurve
from dataworth.proof.result import JUDGED, ArmResult, ProofResult, judged_on
from dataworth.proof.verdict import Verdict
from dataworth.report import Claim, Curve, Dots, Grid, Line, Reading, Section, Tone
from dataworth.reports.sections import Recorded, composition_section, drawn_rows_section

_TONES: dict[str, Tone] = {"better": "good", "as good as": "good", "worse": "bad"}


def proof_sections(result: ProofResult, recorded: Recorded) -> tuple[list[Claim], list[Section]]:
    """Claims and sections of a proof, in the order in which they are read."""
    claims = [_claim(result, verdict) for verdict in result.verdicts]
    sections = [_arms_section(result), _worth_section(result), _protected_section(result)]
    beside = [composition_section("Subsets against pool", recorded), drawn_rows_section(recorded)]
    said = (*result.failed_lines(), *result.notes)
    notes = Section("Notes", said) if said else None
    return claims or [Claim(result.headline())], [s for s in (*sections, notes, *beside) if s is not None]


def _claim(result: ProofResult, verdict: Verdict) -> Claim:
    tone = _TONES.get(verdict.word or "", "open")
    cost = result.at_the_cost(verdict)
    gain = f"gain {verdict.gain} {result.unit}" if verdict.gain else f"no gain can be estimated in {result.unit}"
    parts = [verdict.reason, gain, result.protocol, result.basis(verdict)]
    return Claim(f"{verdict.subject}: {verdict.words}{cost}", "; ".join(filter(None, parts)), "mixed" if cost else tone)


def _axis(result: ProofResult) -> str:
    return f"{result.unit} ({'higher' if result.higher == 'better' else 'lower'} is better)"


def _mean(result: ProofResult, arm: ArmResult) -> float:
    return result.sign * sum(arm.costs) / len(arm.costs)


def _arms_section(result: ProofResult) -> Section:
    lines = []
    for arm in (a for a in result.arms if a.role != "curve"):
        values = tuple(result.sign * c for c in arm.costs)
        lines.append(Line(arm.name, values, result.ends(arm), arm.role == "subject"))
    header, rows = result.arm_table()
    alt = "; ".join(f"{row[0]} {row[5]}" + (f" [{row[6]}]" if row[6] else "") for row in rows if row[5])
    untouched = None if result.untouched is None else ("untouched model", result.sign * result.untouched)
    chart = Dots(tuple(lines), untouched, _axis(result), f"{result.unit}: {alt}.")
    grids = [Grid(header, tuple(map(tuple, rows)))]
    judged = result.judged_table()
    if judged is not None:
        grids.append(Grid(judged[0], tuple(map(tuple, judged[1])), JUDGED))
    return Section(
        "Arms",
        (f"{_axis(result)}, {result.protocol}." + (f" Judged {judged_on(result.judged)}." if result.judged else ""),),
        (chart,),
        tuple(grids),
        legend="Dots are trials, bars the 95 % interval of their mean.",
    )


def _worth_section(result: ProofResult) -> Section | None:
    said, chart = result.worth_lines(), _curve(result)
    if not said and chart is None:
        return None
    heading = "Worth in random rows" if chart else "Share of the full pool's improvement"
    what = "Worth is the number of random rows of this pool that train the model as well; an average, not additive."
    legend = "Thin lines are chains of random rows, dashed lines the subsets' means; the bars at the foot are the sets."
    return Section(heading, (*said, what), (chart,), legend=legend) if chart else Section(heading, tuple(said))


def _curve(result: ProofResult) -> Curve | None:
    """The random curve as it was measured and interpolated; None where too few sizes or chains are whole."""
    sized = sorted((a for a in result.arms if a.role == "curve"), key=lambda a: a.rows)
    chains = sorted(set.intersection(*(set(a.numbers) for a in sized))) if sized else []
    if len(sized) < 2 or len(chains) < 2:
        return None
    cost_CK = np.array([[a.costs[a.numbers.index(c)] for a in sized] for c in chains])
    measured = RandomCurve(np.array([a.rows for a in sized]), cost_CK)
    grid_M = measured.grid()
    mean_M = result.sign * measured.at(grid_M).mean(0)
    subjects = [a for a in result.arms if a.role == "subject" and a.costs]
    points = "; ".join(f"{a.rows:,.0f} rows {_mean(result, a):.4f}" for a in sized)
    return Curve(
        tuple(a.rows for a in sized),
        tuple(tuple((result.sign * row).tolist()) for row in cost_CK),
        tuple(grid_M.tolist()),
        tuple(mean_M.tolist()),
        tuple(_reading(result, arm) for arm in subjects),
        _axis(result),
        f"Random rows against {result.unit}: {points}. " + " ".join(f"{line}." for line in result.worth_lines()),
    )


def _reading(result: ProofResult, arm: ArmResult) -> Reading:
    worth = result.sizes.worth.get(arm.name)
    return Reading(arm.name, _mean(result, arm), worth.value if worth else None, worth.spans if worth else ())


def _protected_section(result: ProofResult) -> Section | None:
    if not result.protected:
        return None
    rows = tuple(
        (
            k.skill,
            k.arm,
            f"{k.cost.value:.3f}",
            f"{k.cost.low:.3f} .. {k.cost.high:.3f}",
            f"{k.margin:g}",
            _kept(k.broken),
        )
        for k in result.protected
    )
    levels = _percent(k.cost.level for k in result.protected)
    header = ("skill", "arm", "cost", f"{levels} interval", "margin", "")
    what = "What training costs each skill against the untouched model, in its own judge's unit; positive is a loss."
    return Section("Protected skills", (what,), grids=(Grid(header, rows),))


def _kept(broken: bool) -> str:
    return "loses more than the margin" if broken else "no such loss shown"


def _percent(levels: Iterable[float]) -> str:
    return " or ".join(dict.fromkeys(f"{100 * level:.0f} %" for level in levels))
