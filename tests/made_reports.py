"""Runs with rows that would like to do harm, and how a page's words and addresses are read back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tests.made_pools import jsonl_file, numbered

import dataworth as dw

SCRIPT = "</script><script>alert(1)</script>"
IMAGE = '<img src=x onerror="alert(2)">'
ANSI = "\x1b[31mred\x1b[0m\x1b]0;title\x07"
BIDI = "abc\u202edcba\u2066x\u2069"
MATHS = r"$\frac{1}{$ & $x$"
TEMPLATE = "{{ 7 * 191 }}{% raw %}"
HOSTILE = (SCRIPT, IMAGE, ANSI, BIDI, MATHS, TEMPLATE, "lone \ud800 surrogate", "http://evil.invalid/a.png url(//b)")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def hostile_rows(count: int = 40) -> list[dict[str, Any]]:
    """Every hostile text once as a prompt, once as an answer and once as a source, among ordinary rows."""
    rows = [{**r, "source": "plain"} for r in numbered(count)]
    for n, text in enumerate(HOSTILE):
        rows[n] = {"prompt": text, "completion": f"{text} " * (30 + n), "source": text}
    return rows


def select_run(folder: Path, rows: Sequence[dict[str, Any]] | None = None, **fields: Any) -> Path:
    pool = jsonl_file(folder / "pool.jsonl", rows or hostile_rows())
    told = {"method": "length", "keep": 8, "run": str(folder / "select"), **fields}
    return dw.select(str(pool), **told).run


def score_run(folder: Path, rows: Sequence[dict[str, Any]] | None = None) -> Path:
    pool = jsonl_file(folder / "pool.jsonl", rows or hostile_rows())
    return dw.score(str(pool), method="length,random", run=str(folder / "score")).run


class Page(HTMLParser):
    """A page's tags with their attributes, in order, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.parts: list[str] = []
        self.styles: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        (self.styles if self._inside == "style" else self.parts).append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.parts).split())

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]
