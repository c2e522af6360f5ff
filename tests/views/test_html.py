"""The page: no data becomes markup, nothing is asked for, the same run is the same bytes, no number is lost."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as with_settings
from hypothesis import strategies as st
from tests.made_pools import numbered
from tests.made_proofs import mixed_rows, proof_result, proof_run
from tests.made_reports import BIDI, HOSTILE, IMAGE, NUMBER, SCRIPT, Page, hostile_rows, score_run, select_run

import dataworth as dw
from dataworth.report import Claim, Grid, Report, Section
from dataworth.results import SampleRow
from dataworth.views.html import _numeric, page, write
from dataworth.views.terminal import printable

pytest.importorskip("matplotlib")
OWN_TAGS = set(
    "html head meta link title style body a header p span main div nav ul li section details summary h1 h2 h3 figure "
    "img table caption thead tbody tr th td q pre footer".split()
)
ADDRESSES = ("src", "srcset", "href", "action", "data", "poster", "background", "style", "formaction")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def hostile(verb: str, folder: Path) -> Report:
    """A report with hostile rows; a proof's arms and skills have hostile names too."""
    if verb != "prove":
        return dw.view(select_run(folder, pick="quota") if verb == "select" else score_run(folder))
    names = {"subjects": (SCRIPT, BIDI), "controls": ("random", "full", IMAGE), "protected": HOSTILE[:2]}
    return dw.view(proof_run(folder, hostile_rows(), **names, notes=HOSTILE, failed={IMAGE: SCRIPT}))


def plain(text: str) -> Report:
    """A report that says `text` in every place that takes data."""
    rows = (SampleRow("i", text, None, text),)
    grid = Grid((text, "n"), ((text, "1"),), text)
    sections = (
        Section("A", (text,), grids=(grid,), samples=((text, rows),)),
        Section("B", raw=text, folded=True),
    )
    values = {"record": {"versions": {"dataworth": text}}}
    return Report(Path("r"), "prove", (Claim(text, text), Claim(text)), sections, text, values)


@pytest.mark.parametrize("verb", ["select", "score", "prove"])
def test_no_data_becomes_markup(tmp_path: Path, verb: str) -> None:
    text = page(hostile(verb, tmp_path))
    found = Page(text)
    assert {name for name, _ in found.tags} <= OWN_TAGS, "no script, no element of a row"
    assert not [k for _, attrs in found.tags for k in attrs if k.startswith("on") or k == "style"]
    assert all(c in "\n\t" or c.isprintable() for c in text), "no control or bidirectional character, in ASCII or not"
    assert "{{" not in found.words or "1337" not in found.words, "what a row says is no template"
    if verb != "score":
        assert printable(SCRIPT) in found.words or printable(IMAGE) in found.words, "it is shown, as text"


@with_settings(max_examples=40)
@given(st.text(max_size=60))
def test_any_text_is_shown_as_it_prints(text: str) -> None:
    found = Page(page(plain(text)))
    assert {name for name, _ in found.tags} <= OWN_TAGS
    assert " ".join(printable(text).split()) in found.words
    assert len(found.of("section")) == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stands_in_every_place(text: str) -> None:
    found = Page(page(plain(text)))
    shown = " ".join(printable(text).split())
    assert {name for name, _ in found.tags} <= OWN_TAGS
    assert found.words.count(shown) >= 10, "title, claims, line, caption, header, cell, group, row, reason, raw, footer"
    assert not [attrs for attrs in found.of("meta") if "refresh" in attrs.get("http-equiv", "")]


@pytest.mark.parametrize("verb", ["select", "score", "prove"])
def test_nothing_is_asked_for(tmp_path: Path, verb: str) -> None:
    report = hostile(verb, tmp_path)
    found = Page(page(report))
    addresses = [v for _, attrs in found.tags for k, v in attrs.items() if k in ADDRESSES]
    assert addresses
    assert all(a.startswith(("#", "data:")) for a in addresses)
    (style,) = found.styles
    assert not re.search(r"@import|url\(|//|http|expression", style)
    images = [a for a in addresses if a.startswith("data:image/svg+xml;base64,")]
    assert len(images) == 2 * sum(len(s.charts) for s in report.sections)
    for image in images:
        picture = base64.b64decode(image.partition(",")[2]).decode()
        outside = re.sub(r'xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>|<text[^>]*>[^<]*</text>|<!--.*?-->', "", picture)
        assert not re.search(r"https?:|//", outside), "names of vocabularies, which nothing loads, and words alone"
        assert not re.search(r"<(script|image|foreignObject|iframe|a)\b|\bon\w+=|url\((?!#)|@import", outside)


def test_the_policy_comes_first_and_names_the_style_that_is_there(tmp_path: Path) -> None:
    text = page(hostile("score", tmp_path))
    head = text.partition("<head>")[2].lstrip()
    assert head.startswith('<meta http-equiv="Content-Security-Policy"')
    policy = Page(text).of("meta")[0]["content"]
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    parts = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert parts == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


@pytest.mark.parametrize("verb", ["select", "score", "prove"])
def test_every_number_of_the_terminal_is_on_the_page(tmp_path: Path, verb: str) -> None:
    rows = mixed_rows(300)
    run = {
        "select": lambda: select_run(tmp_path, rows, keep=30),
        "score": lambda: score_run(tmp_path, rows),
        "prove": lambda: proof_run(tmp_path, subjects=("picked", "theirs"), margin=0.02, failed={"x, trial 7": "12"}),
    }[verb]()
    report = dw.view(run)
    shown = set(NUMBER.findall(Page(page(report)).words))
    told = set(NUMBER.findall(report.explain()))
    assert len(told) > 12
    assert not told - shown


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = proof_run(tmp_path)
    assert page(dw.view(run)) == page(dw.view(run))
    place = write(dw.view(run), tmp_path / "a" / "b.html")
    assert place.read_text(encoding="utf-8") == page(dw.view(run))


def test_the_page_can_be_read_by_keyboard_and_by_ear(tmp_path: Path) -> None:
    found = Page(page(dw.view(proof_run(tmp_path))))
    assert found.of("html")[0]["lang"] == "en"
    assert found.of("a")[0] == {"class": "skip", "href": "#main"}
    ids = {attrs["id"] for _, attrs in found.tags if "id" in attrs}
    assert {a["href"].lstrip("#") for a in found.of("a")} <= ids
    assert len(found.of("h1")) == 1
    names = [name for name, _ in found.tags]
    assert names.index("h1") < names.index("h2") < names.index("h3")
    assert all(th["scope"] in ("col", "row") for th in found.of("th"))
    assert all(len(img["alt"]) > 30 for img in found.of("img"))
    assert all(div["tabindex"] == "0" and div["aria-label"] for div in found.of("div") if div.get("role") == "region")
    assert len(found.of("details")) == len(found.of("summary")) == 2


def test_the_verdict_is_read_first_and_its_cost_is_seen(tmp_path: Path) -> None:
    report = dw.view(proof_run(tmp_path, controls=("random",)))
    words = Page(page(report)).words
    first = "picked: better than random, at the cost of wikipedia"
    assert words.count(first) == 2, "title and heading"
    assert words.index(first, words.index("Skip")) < words.index("Arms")
    assert "loses more than the margin" in words


def test_many_arms_and_one_arm_both_make_a_page(tmp_path: Path) -> None:
    many = proof_result(tmp_path / "run", controls=("random", "full", *(f"arm {n}" for n in range(10))))
    found = Page(page(dw.view(proof_run(tmp_path / "many", made=many))))
    assert len(found.of("h1")) == 1
    assert found.words.count("arm 9") >= 2
    one = proof_result(tmp_path / "run", controls=(), curve=False, protected=())
    report = dw.view(proof_run(tmp_path / "one", made=replace(one, verdicts=())))
    assert "too few trials for an estimate" in Page(page(report)).words


def test_rows_of_no_length_and_one_source_need_no_chart(tmp_path: Path) -> None:
    same = [{"prompt": f"question {n:02d}", "completion": "same"} for n in range(20)]
    report = dw.view(select_run(tmp_path, same, method="random", keep=20))
    assert [c.axis for s in report.sections for c in s.charts] == ["random score"]
    assert Page(page(report)).words


def test_columns_of_numbers_stand_right() -> None:
    assert _numeric(["1,000", "0.5", ""])
    assert _numeric(["907 (45.4 %)", "-0.105"])
    assert _numeric(["0.1 .. 0.2", "70.2 min"])
    assert not _numeric(["word", "1"])
    assert not _numeric(["", ""])
    assert not _numeric(["2.13.0+cpu", "1"])


def test_a_page_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    from dataworth.errors import RequestError

    run = select_run(tmp_path, numbered(20), keep=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="can't write"):
        dw.view(run, html=tmp_path / "file" / "page.html")


def test_pictures_of_rows_are_data_within_the_page(tmp_path: Path) -> None:
    rng, nasty = np.random.default_rng(0), [SCRIPT, BIDI] * 10
    np.savez(tmp_path / "pool.npz", x=rng.integers(0, 256, (20, 6, 6)).astype(np.uint8), y=nasty)
    fields: dict[str, Any] = {"method": "random", "keep": 5, "workers": 0, "device": "cpu"}
    report = dw.view(dw.select(str(tmp_path / "pool.npz"), run=str(tmp_path / "run"), **fields).run)
    text = page(report)
    found = Page(text)
    assert {name for name, _ in found.tags} <= OWN_TAGS
    shown = [img for img in found.of("img") if img["class"] == "row"]
    pictures = {base64.b64encode(png).decode() for s in report.sections for png in s.pictures.values()}
    assert len(shown) == 6 and {img["src"] for img in shown} == {f"data:image/png;base64,{p}" for p in pictures}
    assert len(text) < 120_000
