"""What a finished run has to show: claims first, then sections of sentences, tables, charts and rows.

A report holds words and numbers that are ready to be shown; `views` gives it its faces and knows nothing of verbs. Text
may come from data: every face makes it harmless itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dataworth.results import SampleRow, html_of, table

Tone = Literal["good", "bad", "mixed", "open"]
Span = tuple[float | None, float | None]


@dataclass(frozen=True)
class Claim:
    """A sentence to be read first, and what it rests on; `tone` colours it and says nothing the words don't."""

    text: str
    detail: str = ""
    tone: Tone = "open"


@dataclass(frozen=True)
class Grid:
    """A table of cells that are already words; the first column names the row."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Line:
    """One arm of a `Dots` chart: a number per trial, and the mean's interval where there is one."""

    name: str
    values: tuple[float, ...]
    interval: tuple[float, float] | None
    subject: bool


@dataclass(frozen=True)
class Dots:
    """Arms below one another on one axis; `reference` is a named number to compare them with, if there is one."""

    lines: tuple[Line, ...]
    reference: tuple[str, float] | None
    axis: str
    alt: str


@dataclass(frozen=True)
class Reading:
    """A subset's mean on a curve, and the sizes it is worth; None is an end beyond the measured range."""

    name: str
    mean: float
    worth: float | None
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Curve:
    """Chains of random subsets over their sizes: axes `C` chains, `K` sizes, `M` points of the drawn line.

    `line` says what that is; `band_M` are its intervals, where it has them, and may reach beyond the measured sizes.
    """

    sizes_K: tuple[float, ...]
    chains_CK: tuple[tuple[float, ...], ...]
    grid_M: tuple[float, ...]
    mean_M: tuple[float, ...]
    readings: tuple[Reading, ...]
    axis: str
    alt: str
    line: str = "random rows, mean of chains"
    band_M: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Histogram:
    """Rows per bin, each part as shares of its own rows; `edges` has one more entry than each part has bins.

    `log`: bins are even in the logarithm.
    """

    edges: tuple[float, ...]
    parts: tuple[tuple[str, tuple[float, ...]], ...]
    axis: str
    alt: str
    log: bool = False


@dataclass(frozen=True)
class Bars:
    """Shares of each part in named groups."""

    groups: tuple[str, ...]
    parts: tuple[tuple[str, tuple[float, ...]], ...]
    axis: str
    alt: str


Chart = Dots | Curve | Histogram | Bars


@dataclass(frozen=True)
class Section:
    """One heading and what stands under it.

    `legend` says how the charts are read, and is shown with them alone. `samples` are groups of rows under a title,
    `pictures` small PNGs of some by their ids, which only a page shows; `raw` is shown as it is. `told` says that the
    terminal prints it below the result's own words; `folded` that a page shows it when asked.
    """

    heading: str
    lines: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    grids: tuple[Grid, ...] = ()
    samples: tuple[tuple[str, tuple[SampleRow, ...]], ...] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    raw: str = ""
    told: bool = False
    folded: bool = False
    legend: str = ""

    def explain(self) -> str:
        """The section without its charts, whose numbers are in its tables."""
        parts = [f"{self.heading}:", *self.lines]
        parts += [f"{g.caption}\n{table(g.rows, g.header)}".lstrip("\n") for g in self.grids]
        for title, rows in self.samples:
            parts.append(f"{title}:")
            parts += [f"  - {r.text}" + (f"\n      {r.why}" if r.why else "") for r in rows]
        return "\n".join([*parts, *filter(None, [self.raw])])


@dataclass(frozen=True)
class Report:
    """A finished run as it is shown: `told` is the result in its own words, `values` the whole as plain JSON values.

    `html` is where the page was written, if it was.
    """

    run: Path
    verb: str
    claims: tuple[Claim, ...]
    sections: tuple[Section, ...]
    told: str
    values: Mapping[str, Any] = field(repr=False)
    html: Path | None = None

    def explain(self) -> str:
        """The result in its own words, then what the run folder holds beside it."""
        added = [s.explain() for s in self.sections if s.told]
        where = [f"report: {self.html}"] if self.html else []
        return "\n".join([self.told, *added, *where])

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {**self.values, "html": self.html and str(self.html)}

    def _repr_html_(self) -> str:
        return html_of(self.explain())
