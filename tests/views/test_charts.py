"""Charts: the same bytes for the same chart, words of data as words, no place for a missing number, no user's style."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import pytest
from tests.made_reports import HOSTILE

from dataworth.errors import MissingExtra
from dataworth.report import Bars, Chart, Curve, Dots, Histogram, Line, Reading
from dataworth.views.charts import DARK, LIGHT, _apart, _name, _round_numbers, draw


def dots(*names: str, **more: Any) -> Dots:
    lines = tuple(Line(n, (0.1, 0.2, 0.35), (0.05, 0.4), k == 0) for k, n in enumerate(names or ("a", "b")))
    return Dots(**{"lines": lines, "reference": ("untouched model", 0.5), "axis": "nats/token", "alt": "alt", **more})


def curve(*readings: Reading) -> Curve:
    sizes, chains = (10.0, 20.0, 40.0), ((3.0, 2.0, 1.5), (3.2, 2.1, 1.4))
    return Curve(sizes, chains, sizes, (3.1, 2.05, 1.45), readings, "nats/token", "alt")


CHARTS: dict[str, Chart] = {
    "dots": dots(),
    "one dot": Dots((Line("a", (0.3,), None, True),), ("untouched model", 0.3), "unit", "alt"),
    "no dot": dots(lines=(Line("a", (), None, True), Line("b", (1.0, 2.0), (0.5, 2.5), False))),
    "curve": curve(Reading("s", 2.0, 21.0, ((15.0, 30.0),)), Reading("t", 9.0, None, ((None, 10.0),))),
    "disjoint": curve(Reading("s", 2.0, 21.0, ((None, 12.0), (15.0, None))), Reading("cannot tell", 2.0, None, ())),
    "no readings": curve(),
    "histogram": Histogram((1.0, 10.0, 100.0), (("pool", (0.5, 0.5)), ("picks", (0.0, 1.0))), "length", "alt", True),
    "bars": Bars(("web", "books"), (("pool", (0.5, 0.5)), ("picks", (0.0, 1.0))), "share", "alt"),
}


@pytest.fixture(autouse=True)
def _library() -> None:
    pytest.importorskip("matplotlib")


def words(svg: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_the_same_bytes_again_and_other_bytes_in_the_dark(name: str) -> None:
    first = draw(CHARTS[name], LIGHT)
    assert first == draw(CHARTS[name], LIGHT)
    assert first != draw(CHARTS[name], DARK)
    assert LIGHT.grid in first or LIGHT.faint in first
    assert ET.fromstring(first).tag.endswith("svg")


@pytest.mark.parametrize("text", HOSTILE)
def test_names_of_data_are_words_and_nothing_else(text: str) -> None:
    svg = draw(dots(text, "b", axis=text), LIGHT)
    assert _name(text) in words(svg)
    tags = {e.tag.rpartition("}")[2] for e in ET.fromstring(svg).iter()}
    assert tags <= {"svg", "defs", "style", "g", "path", "use", "text", "tspan", "clipPath", "rect", "metadata"}


def test_a_long_name_is_cut_and_says_so() -> None:
    assert _name("a" * 20 + "b" * 20) == "a" * 14 + "…" + "b" * 15
    assert _name("x" * 30) == "x" * 30


def test_scripts_that_the_font_lacks_bring_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert "漢字かな" in words(draw(dots("漢字かな", "हिन्दी"), LIGHT))
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_a_reference_far_from_the_arms_is_told_beside_them_and_one_nearby_is_drawn() -> None:
    assert "untouched model 2.5000 →" in words(draw(dots(reference=("untouched model", 2.5)), LIGHT))
    assert "← untouched model -9.0000" in words(draw(dots(reference=("untouched model", -9.0)), LIGHT))
    assert "dashed: untouched model 0.4500" in words(draw(dots(reference=("untouched model", 0.45)), LIGHT))
    assert "untouched model" not in words(draw(dots(reference=None), LIGHT))


def test_worth_is_read_off_the_curve() -> None:
    assert "s, worth 21" in words(draw(CHARTS["curve"], LIGHT))
    assert "t" in words(draw(CHARTS["curve"], LIGHT)), "beyond the curve there is no number"


def test_the_users_own_settings_change_nothing_and_are_left_alone() -> None:
    import matplotlib

    before = draw(CHARTS["dots"], LIGHT)
    with matplotlib.rc_context({"font.size": 30, "text.parse_math": True, "axes.facecolor": "red"}):
        assert draw(CHARTS["dots"], LIGHT) == before
        assert matplotlib.rcParams["font.size"] == 30


def test_drawing_imports_no_pyplot() -> None:
    code = (
        "import sys; from dataworth.report import Bars; from dataworth.views.charts import LIGHT, draw; "
        "draw(Bars(('a',), (('p', (1.0,)),), 'x', 'y'), LIGHT); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"pip install 'dataworth\[report\]'"):
        draw(CHARTS["dots"], LIGHT)


def test_labels_of_sizes_keep_apart_and_hold_the_largest() -> None:
    assert _apart([100, 110, 200, 210, 400]) == [110, 210, 400]
    kept = _apart([125, 250, 500, 530, 1000, 2000])
    assert kept[-1] == 2000
    assert all(b / a > 1.35 for a, b in pairwise(kept))


def test_round_numbers_lie_in_the_range() -> None:
    assert _round_numbers(40, 1400) == [50, 100, 200, 500, 1000]
    assert _round_numbers(1, 10**6) == [10.0**k for k in range(7)]
