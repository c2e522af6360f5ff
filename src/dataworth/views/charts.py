"""Charts of a report as SVG, by matplotlib without pyplot: the same chart is the same bytes.

A picture stands in the page as an image, for itself: it holds no script and asks for nothing. Words in it may come from
data, so they are never read as mathematics and hold no control characters.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dataworth.errors import MissingExtra
from dataworth.report import Bars, Chart, Curve, Dots, Histogram
from dataworth.views.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 7.4
"""Inches; a page shows it as wide as its text."""
_LONGEST_NAME, _LONGEST_AXIS = 30, 48
_RC: dict[str, Any] = {
    "svg.hashsalt": "dataworth",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.formatter.useoffset": False,
    "grid.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Theme:
    """Colours of a chart; `parts[0]` is the pool's, the others those of subsets."""

    ink: str
    faint: str
    grid: str
    parts: tuple[str, ...]


LIGHT = Theme("#1f2328", "#6a737d", "#e4e7eb", ("#8c959f", "#1f5fa8", "#b4541a", "#2e7d57", "#7b4fa3"))
DARK = Theme("#e6e8eb", "#9aa4ae", "#2c3238", ("#7d8790", "#6ea8ea", "#e39a62", "#67bd92", "#b992dc"))


def draw(chart: Chart, theme: Theme) -> str:
    """A chart as an SVG document on a transparent ground.

    Raises:
        MissingExtra: matplotlib isn't installed.
    """
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("the HTML report", "matplotlib", "report") from error
    with _style(theme):
        figure = Figure(figsize=(WIDTH, _height(chart)), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        if isinstance(chart, Dots):
            _dots(axes, chart, theme)
        elif isinstance(chart, Curve):
            _curve(axes, chart, theme)
        elif isinstance(chart, Histogram):
            _histogram(axes, chart, theme)
        else:
            _bars(axes, chart, theme)
        out = io.BytesIO()
        # No date and no links to vocabularies: the bytes depend on the chart alone.
        canvas.print_svg(out, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return out.getvalue().decode()


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    """Matplotlib's own defaults and ours, whatever the user's matplotlibrc says."""
    import matplotlib

    settings: Any = {
        **_RC,
        "text.color": theme.ink,
        "axes.edgecolor": theme.faint,
        "axes.labelcolor": theme.faint,
        "xtick.labelcolor": theme.faint,
        "ytick.labelcolor": theme.faint,
        "grid.color": theme.grid,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The reader's fonts may have the glyphs that the ones measured with lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield


def _height(chart: Chart) -> float:
    if isinstance(chart, Dots):
        return 0.9 + 0.36 * len(chart.lines)
    if isinstance(chart, Bars):
        return 0.9 + len(chart.groups) * (0.12 + 0.1 * len(chart.parts))
    return 3.4 if isinstance(chart, Curve) else 2.4


def _name(text: str, longest: int = _LONGEST_NAME) -> str:
    """Text of data on one line; cut in the middle, as names that are alike differ at their ends."""
    flat = " ".join(printable(text).split())
    half = longest // 2
    return flat if len(flat) <= longest else f"{flat[: longest - half - 1]}…{flat[-half:]}"


def _subject_colour(theme: Theme, n: int) -> str:
    return theme.parts[1 + n % (len(theme.parts) - 1)]


def _named_rows(axes: Axes, theme: Theme) -> None:
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", labelcolor=theme.ink)


def _dots(axes: Axes, chart: Dots, theme: Theme) -> None:
    places = range(len(chart.lines))[::-1]
    subjects = 0
    for y, line in zip(places, chart.lines, strict=True):
        colour = _subject_colour(theme, subjects) if line.subject else theme.parts[0]
        subjects += line.subject
        if line.interval is not None:
            axes.plot(line.interval, (y, y), color=colour, linewidth=5, alpha=0.35)
        axes.plot(line.values, [y] * len(line.values), "o", color=colour, markersize=4.5, alpha=0.9, markeredgewidth=0)
        if line.values:
            mean = sum(line.values) / len(line.values)
            axes.plot((mean, mean), (y - 0.22, y + 0.22), color=theme.ink, linewidth=1.6)
    axes.set_yticks(list(places), [_name(line.name) for line in chart.lines])
    axes.set_ylim(-0.6, len(chart.lines) - 0.4)
    axes.set_xlabel(_name(chart.axis, _LONGEST_AXIS))
    _named_rows(axes, theme)
    if chart.reference is not None:
        _reference(axes, *chart.reference, theme)


def _reference(axes: Axes, name: str, at: float, theme: Theme) -> None:
    """A dashed line where it lies near the arms; else a word at the side where it would be, so that arms stay apart."""
    low, high = axes.get_xlim()
    if low - 0.5 * (high - low) <= at <= high + 0.5 * (high - low):
        axes.axvline(at, color=theme.faint, linewidth=1.1, linestyle=(0, (4, 3)))
        axes.set_xlim(min(low, at - 0.03 * (high - low)), max(high, at + 0.03 * (high - low)))
        axes.set_title(f"dashed: {_name(name)} {at:.4f}", loc="right", fontsize=8, color=theme.faint)
        return
    side: Literal["left", "right"] = "right" if at > high else "left"
    text = f"{_name(name)} {at:.4f} →" if side == "right" else f"← {_name(name)} {at:.4f}"
    axes.set_title(text, loc=side, fontsize=8, color=theme.faint)


def _curve(axes: Axes, chart: Curve, theme: Theme) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    for chain in chart.chains_CK:
        axes.plot(chart.sizes_K, chain, "-o", color=theme.parts[0], linewidth=0.8, markersize=2.6, alpha=0.45)
    axes.plot(chart.grid_M, chart.mean_M, color=theme.ink, linewidth=1.8, label=_name(chart.line))
    if chart.band_M:
        lower_M, upper_M = zip(*chart.band_M, strict=True)
        axes.fill_between(chart.grid_M, lower_M, upper_M, color=theme.ink, alpha=0.12, linewidth=0)
    low, high = axes.get_ylim()
    first, last = chart.sizes_K[0] / 1.15, max(chart.sizes_K[-1], *chart.grid_M) * 1.15
    means = [r.mean for r in chart.readings]
    low, high = min([low, *means]), max([high, *means])
    room = 0.06 * (high - low or 1.0)
    foot = low - room * (0.5 + len(chart.readings))
    for n, reading in enumerate(chart.readings):
        colour = _subject_colour(theme, n)
        worth = "" if reading.worth is None else f", worth {reading.worth:,.0f}"
        axes.axhline(
            reading.mean, color=colour, linewidth=1.3, linestyle=(0, (4, 2)), label=_name(reading.name) + worth
        )
        bottom = foot + room * (0.5 + n)
        if reading.worth is not None:
            axes.plot((reading.worth, reading.worth), (bottom, reading.mean), color=colour, linewidth=1, alpha=0.8)
            axes.plot(reading.worth, reading.mean, "o", color=colour, markersize=5)
        for start, end in reading.spans:
            axes.plot((start or first, end or last), (bottom, bottom), color=colour, linewidth=4, alpha=0.6)
    axes.set_xlim(first, last)
    axes.set_ylim(foot, high + room)
    axes.xaxis.set_major_locator(FixedLocator(_apart(chart.sizes_K)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_xlabel("random rows")
    axes.set_ylabel(_name(chart.axis, _LONGEST_AXIS))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8)


def _apart(sizes_K: Sequence[float]) -> list[float]:
    """Sizes whose labels don't touch, the largest among them."""
    kept = [sizes_K[-1]]
    for size in sizes_K[-2::-1]:
        if size * 1.35 < kept[-1]:
            kept.append(size)
    return kept[::-1]


def _histogram(axes: Axes, chart: Histogram, theme: Theme) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    edges = chart.edges
    for n, (name, shares) in enumerate(chart.parts):
        colour = _subject_colour(theme, n - 1) if n else theme.parts[0]
        axes.stairs(
            shares, edges, fill=n == 0, color=colour, alpha=0.35 if n == 0 else 1.0, linewidth=1.5, label=_name(name)
        )
    if chart.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_round_numbers(edges[0], edges[-1])))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if abs(x) >= 1000 else f"{x:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(_name(chart.axis, _LONGEST_AXIS))
    axes.set_ylabel("share of rows")
    if len(chart.parts) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(chart.parts), fontsize=8)


def _percent(share: float, _: int) -> str:
    return f"{100 * share:g} %"


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within a range; the powers alone where that would be many."""
    powers = [10.0**k for k in range(-12, 13)]
    fine = [m * p for p in powers for m in (1, 2, 5) if low <= m * p <= high]
    return fine if len(fine) <= 9 else [p for p in powers if low <= p <= high]


def _bars(axes: Axes, chart: Bars, theme: Theme) -> None:
    from matplotlib.ticker import FuncFormatter

    thick = 0.8 / len(chart.parts)
    places = range(len(chart.groups))[::-1]
    for n, (name, shares) in enumerate(chart.parts):
        at = [y + 0.4 - thick * (n + 0.5) for y in places]
        colour = _subject_colour(theme, n - 1) if n else theme.parts[0]
        axes.barh(at, shares, height=0.88 * thick, color=colour, alpha=0.55 if n == 0 else 1.0, label=_name(name))
    axes.set_yticks(list(places), [_name(g) for g in chart.groups])
    axes.set_ylim(-0.6, len(chart.groups) - 0.4)
    _named_rows(axes, theme)
    axes.xaxis.set_major_formatter(FuncFormatter(_percent))
    axes.set_xlabel(_name(chart.axis, _LONGEST_AXIS))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(chart.parts), fontsize=8)
