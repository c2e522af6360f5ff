"""The part of a diagnosis's report that is its own: the answer, the curve with what it foretells, sizes, checks."""

from __future__ import annotations

import numpy as np

from dataworth.diagnosing.diagnosis import Diagnosis
from dataworth.laws.curve import Curve as Law
from dataworth.report import Claim, Curve, Grid, Section, Tone

_POINTS = 60
_NEAR, _FAR = 2.0, 10.0


def diagnosis_sections(found: Diagnosis) -> tuple[list[Claim], list[Section]]:
    """Claims and sections of a diagnosis, in the order in which they are read."""
    data, model = found.of_data(), found.of_model()
    header, rows = found.size_table()
    curve = found.curve
    measured = Section(
        "Learning curve",
        (
            f"Nested random subsets, judged on {found.measured.on}; every size was trained for the epochs that did "
            "best among those tried.",
            *found.lines(),
        ),
        (_points(found),) if isinstance(curve, str) else (_chart(found, curve),),
        (Grid(tuple(header), tuple(map(tuple, rows))),),
        legend="Thin lines are chains, the thick one is the fitted law with its 90 % band (without a law their mean).",
    )
    findings, _ = found.checks
    checks = Section("Checks", tuple(found.check_lines()))
    notes = Section("Notes", found.measured.notes) if found.measured.notes else None
    tone: Tone = "open" if "annot tell" in data else "mixed" if any(f.severity == "issue" for f in findings) else "good"
    claims = [Claim(data, found.what_would_tell(), tone), Claim(model)]
    return claims, [s for s in (measured, checks, notes) if s is not None]


def _points(found: Diagnosis) -> Curve:
    """The chains without a law: the line is their mean."""
    m, test_CK = found.measured, found.measured.grid("test")
    there_K = np.isfinite(test_CK).all(axis=0)
    sizes = tuple(np.array(m.sizes, dtype=np.float64)[there_K].tolist())
    test_CK = test_CK[:, there_K]
    points = "; ".join(f"{n:,.0f} rows {loss:.4f}" for n, loss in zip(sizes, test_CK.mean(0), strict=True))
    return Curve(
        sizes,
        tuple(tuple(chain.tolist()) for chain in test_CK),
        sizes,
        tuple(test_CK.mean(0).tolist()),
        (),
        f"{m.unit} (lower is better)",
        f"Random rows against {m.unit}: {points}. {found.headline()}",
        "mean of chains",
    )


def _chart(found: Diagnosis, curve: Law) -> Curve:
    """The chains, and the law as far as it may be believed: twice the largest size where anything speaks against it."""
    last = float(curve.sizes_K[-1]) * (_NEAR if curve.reasons else _FAR)
    grid_M = np.geomspace(float(curve.sizes_K[0]), last, _POINTS)
    bands = [curve.band(float(D)) for D in grid_M]
    unit = found.measured.unit
    points = "; ".join(
        f"{n:,.0f} rows {np.nanmean(loss_C):.4f}" for n, loss_C in zip(curve.sizes_K, curve.loss_CK.T, strict=True)
    )
    return Curve(
        tuple(curve.sizes_K.tolist()),
        tuple(tuple(chain.tolist()) for chain in curve.loss_CK),
        tuple(grid_M.tolist()),
        tuple(b.value for b in bands),
        (),
        f"{unit} (lower is better)",
        f"Random rows against {unit}: {points}. {found.headline()}",
        "fitted law",
        tuple((b.low, b.high) for b in bands),
    )
