"""The page in a real browser: drawn in light and dark, silent, asking for nothing, printable."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.made_proofs import proof_run
from tests.made_reports import BIDI, IMAGE, SCRIPT, hostile_rows

import dataworth as dw

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs a chromium binary")
DARK = "--blink-settings=preferredColorScheme=0"


@dataclass
class Seen:
    """What the browser did with a page: lines of its console, addresses that the page asked for."""

    console: list[str]
    asked: list[str]


def browse(page: Path, *flags: str, folder: Path) -> Seen:
    """Open a page headless; no name resolves, so that nothing leaves this machine, but every try is logged."""
    log = folder / "net.json"
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
        *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"),
        *(f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", *flags, page.as_uri()),
    ]
    env = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    events = [e["params"] for e in json.loads(log.read_text())["events"] if isinstance(e.get("params"), dict)]
    # What the browser asks for by itself (its updates) has no origin.
    asked = [p["url"] for p in events if "url" in p and p.get("initiator", "not an origin") != "not an origin"]
    return Seen(console, asked)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("page")
    run = proof_run(folder, hostile_rows(), subjects=("picked", SCRIPT, BIDI), notes=(IMAGE, "http://evil.invalid/"))
    found = dw.view(run, html=True).html
    assert found is not None
    return found


def shot(page: Path, folder: Path, *flags: str) -> tuple[Seen, list[list[float]]]:
    """What was seen, and the picture as rows of brightness from 0 to 1."""
    from matplotlib.image import imread

    picture = folder / "shot.png"
    seen = browse(page, f"--screenshot={picture}", "--window-size=1200,1600", *flags, folder=folder)
    return seen, np.asarray(imread(picture))[..., :3].mean(axis=2).tolist()


@pytest.mark.parametrize(("flags", "ground", "ink"), [((), 1.0, 0.3), ((DARK,), 0.1, 0.7)])
def test_the_page_is_drawn_in_light_and_dark_without_a_word_or_a_wish(
    page: Path, tmp_path: Path, flags: tuple[str, ...], ground: float, ink: float
) -> None:
    seen, bright = shot(page, tmp_path, *flags)
    assert seen.console == []
    assert seen.asked == []
    assert bright[2][2] == pytest.approx(ground, abs=0.05)
    inked = sum(v < ink if ground > 0.5 else v > ink for row in bright for v in row)
    assert inked > 2000, "there are words on it"
    chart = [row[700:1000] for row in bright[500:1600]]
    assert any(abs(v - ground) > 0.1 for row in chart for v in row)


def test_the_check_itself_sees_errors_and_requests(tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    policy = "<meta http-equiv='Content-Security-Policy' content=\"style-src 'none'\">"
    bad.write_text(
        f"<!doctype html>{policy}<title>x</title><p style='color:red'>x<img src='http://report.invalid/x.png'>"
    )
    seen = browse(bad, f"--screenshot={tmp_path / 'x.png'}", folder=tmp_path)
    assert any("Content Security Policy" in line for line in seen.console)
    assert "http://report.invalid/x.png" in seen.asked


def test_the_page_prints_in_light_whatever_the_screen_shows(page: Path, tmp_path: Path) -> None:
    paper = tmp_path / "page.pdf"
    seen = browse(page, f"--print-to-pdf={paper}", "--no-pdf-header-footer", DARK, folder=tmp_path)
    assert seen.console == []
    assert seen.asked == []
    data = paper.read_bytes()
    assert data.startswith(b"%PDF")
    assert data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") >= 2


def test_pictures_of_rows_are_drawn_under_the_same_policy(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    white = np.full((40, 8, 8), 255, dtype=np.uint8)
    np.savez(tmp_path / "pool.npz", x=white, y=np.arange(40) % 2, s=np.arange(40))
    run = dw.select(str(tmp_path / "pool.npz"), method="column:s", keep=9, run=str(tmp_path / "r"), workers=0).run
    found = dw.view(run, html=True).html
    assert found is not None
    seen, bright = shot(found, tmp_path, DARK, "--window-size=1200,2400")
    assert seen.console == []
    assert seen.asked == []
    drawn = [row[:700].count(1.0) > 50 for row in bright]
    assert drawn.count(True) > 300, "six white squares of 64 pixels on a dark page"
