"""A report as one HTML page that asks for nothing: no script, no address, its style by hash, its charts within.

Every expression of the template is stripped of control and bidirectional characters, then escaped. The only strings
that aren't are this module's own: the style sheet and the data addresses of charts and pictures.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dataworth.report import Chart, Report
from dataworth.store.atomic import make_folder, write_atomic
from dataworth.views.charts import DARK, LIGHT, Theme, draw
from dataworth.views.terminal import printable

_LONG_WORD = 28
_NUMBER = re.compile(r"[-−+]?[\d.,]+( ?%| s| min| h)?( \(.*\)| \.\. .*)?|-|")


def page(report: Report) -> str:
    """The report as HTML; the same report gives the same page.

    Raises:
        MissingExtra: matplotlib isn't installed.
    """
    style = _own_file("report.css")
    environment = Environment(
        autoescape=True, finalize=_harmless, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(light=lambda c: _picture(c, LIGHT), dark=lambda c: _picture(c, DARK))
    environment.filters.update(png=_png, anchor=_anchor, numeric=_numeric, long=_long)
    template = environment.from_string(_own_file("report.html.jinja"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return template.render(report=report, style=Markup(style), style_hash=Markup(digest)) + "\n"


def write(report: Report, path: Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        MissingExtra: matplotlib isn't installed.
        RequestError: The place can't be written.
    """
    text = page(report)
    make_folder(path.parent)
    write_atomic(path, text.encode())
    return path


def _own_file(name: str) -> str:
    return resources.files("dataworth.views").joinpath(name).read_text(encoding="utf-8")


def _harmless(value: Any) -> Any:
    """What the template shows of a value: `Markup` is our own, anything else is text."""
    return value if isinstance(value, Markup) else printable(str(value))


def _picture(chart: Chart, theme: Theme) -> Markup:
    return Markup("data:image/svg+xml;base64," + base64.b64encode(draw(chart, theme).encode()).decode())


def _png(picture: bytes) -> Markup:
    return Markup("data:image/png;base64," + base64.b64encode(picture).decode())


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z]+", "-", heading.lower()).strip("-")


def _long(cell: str) -> bool:
    """Whether a cell holds a word that may be broken anywhere, as fingerprints and paths are."""
    return any(len(word) > _LONG_WORD for word in cell.split())


def _numeric(column: list[str]) -> bool:
    """Whether a column is set to the right: every cell is a number, perhaps with its share or its range."""
    return any(column) and all(_NUMBER.fullmatch(cell) for cell in column)
