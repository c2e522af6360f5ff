"""Text from data as Markdown that can't break out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_ESCAPES: Mapping[int, str] = {ord("|"): "\\|", ord("<"): "&lt;", ord(">"): "&gt;"}


def line(text: str) -> str:
    """Text on one line, unable to open HTML or a table cell."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split()).translate(_ESCAPES)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of such lines."""
    every = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(line, cells)) + " |" for cells in every)


def fenced(command: str) -> str:
    """A command in a block that it can't end."""
    fence = "```"
    while fence in command:
        fence += "`"
    return f"{fence}sh\n{command.strip()}\n{fence}"
