"""What reaches a terminal: no control characters of data, one line per stage without a terminal, nothing twice."""

from __future__ import annotations

import io
import unicodedata
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dataworth.views import terminal
from dataworth.views.terminal import Bars, note, printable, show

BIDI = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c"


@dataclass
class Says:
    """A result with one text."""

    text: str

    def explain(self) -> str:
        return self.text


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain text, 5% «ü» 漢字 😀", "plain text, 5% «ü» 漢字 😀"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x1b]0;title\x07", "]0;title"),
        ("\x9b31m", "31m"),
        ("a\rb\x08c\x00d\x7f", "abcd"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("rtl \u202eevil\u202c", "rtl evil"),
        ("", ""),
    ],
)
def test_text_is_shown_without_what_drives_a_terminal(given_text: str, shown: str) -> None:
    assert printable(given_text) == shown


@pytest.mark.parametrize("mark", list(BIDI))
def test_no_mark_that_turns_text_around_is_shown(mark: str) -> None:
    assert printable(f"a{mark}b") == "ab"


@given(st.text())
def test_only_characters_are_left_out_and_none_is_of_control(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    rest = iter(text)
    assert all(c in rest for c in shown), "what is left is in its order"
    assert not [c for c in shown if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn")]
    assert not set(shown) & set(BIDI)


@given(st.text(st.characters(categories=("L", "N", "P", "S"))))
def test_letters_digits_and_signs_are_all_shown(text: str) -> None:
    assert printable(text) == text


def test_results_go_to_stdout_and_notes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show(Says("kept \x1b[5m rows"))
    note("one\x07 line")
    done = capsys.readouterr()
    assert done.out == "kept [5m rows\n"
    assert done.err == "one line\n"


def bars(tty: bool) -> tuple[Bars, io.StringIO]:
    found, out = Bars(), io.StringIO()
    found.console = Console(file=out, force_terminal=tty, width=100)
    found._progress.live.console = found.console
    return found, out


def test_without_a_terminal_a_stage_says_once_that_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = bars(tty=False)
    with found:
        for done in (0, 500, 1000, 1000):
            found("tokens", done, 1000)
    assert capsys.readouterr().err == "tokens: 1,000 done\n"


def test_without_a_terminal_a_stage_says_what_was_there_and_once_a_minute_where_it_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([7.0, 20.0, 66.9, 67.0, 80.0, 7.0, 66.0, 67.0])
    monkeypatch.setattr("dataworth.views.terminal.time.monotonic", lambda: next(clock))
    found, _ = bars(tty=False)
    for done in (11, 12, 13, 14, 15):
        found("trials", done, 56)
    for done in (0, 0, 0):
        found("learning rates", done, 9)
    assert capsys.readouterr().err == "trials: 11 of 56\ntrials: 14 of 56\nlearning rates: 0 of 9\n"


def test_a_stage_that_is_done_and_begins_again_is_told_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 50.0, 100.0, 101.0, 130.0, 162.0])
    monkeypatch.setattr("dataworth.views.terminal.time.monotonic", lambda: next(clock))
    found, _ = bars(tty=False)
    for done, total in ((0, 9), (5, 9), (9, 9), (0, 4), (2, 4), (4, 4)):
        found("learning rates", done, total)
    assert capsys.readouterr().err == "learning rates: 9 done\nlearning rates: 4 done\n"


def test_what_was_said_is_not_said_again_and_data_is_no_markup() -> None:
    found, out = bars(tty=False)
    found.say("[bold]row[/bold] \x1b[2J :smile:")
    found.say("[bold]row[/bold] \x1b[2J :smile:")
    found.say("another")
    assert out.getvalue() == "[bold]row[/bold] [2J :smile:\nanother\n"


def test_long_lines_are_not_broken_by_the_console() -> None:
    found, out = bars(tty=False)
    found.say("word " * 80)
    assert out.getvalue().count("\n") == 1


def test_on_a_terminal_there_is_a_bar_per_stage_with_its_count() -> None:
    found, _ = bars(tty=True)
    found("tokens", 0, 10)
    found("tokens", 4, 10)
    found("losses", 1, 2)
    tasks: list[Any] = found._progress.tasks
    assert [(t.description, t.completed, t.total) for t in tasks] == [("tokens", 4, 10), ("losses", 1, 2)]


def test_a_rate_is_a_dash_before_there_is_one() -> None:
    found, _ = bars(tty=True)
    found("tokens", 0, 10)
    assert str(terminal._Rate().render(found._progress.tasks[0])) == "  -/s"


def test_bars_end_with_an_error_too() -> None:
    found, _ = bars(tty=False)
    with pytest.raises(KeyError), found:
        raise KeyError
    assert not found._progress.live.is_started
