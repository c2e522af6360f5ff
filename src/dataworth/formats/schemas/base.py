"""What a schema family says about a row: whether the row is one of its own, and how it reads as turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataworth.records import Kind, Message

Columns = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Schema:
    """One family of rows.

    `problem(columns)` is None for a row of this family, else why it isn't one, in plain words.
    `turns(columns)` is the row as messages (empty for plain text), `text(columns)` its text (empty for everything
    else), `choices(columns)` its choices with the right one's index (none but for multiple choice); they expect a row
    without a problem. `roles` are the column names it reads, `required`
    those that must be there. Rows with a class have a `label` and, where that isn't text, a `content`.
    """

    name: str
    kind: Kind
    required: tuple[str, ...]
    roles: tuple[str, ...]
    problem: Callable[[Columns], str | None]
    turns: Callable[[Columns], tuple[Message, ...]]
    text: Callable[[Columns], str] = lambda columns: ""
    choices: Callable[[Columns], tuple[tuple[str, ...], int | None]] = lambda columns: ((), None)
    label: Callable[[Columns], str | int | None] = lambda columns: None
    content: Callable[[Columns], Any] = lambda columns: None


ROLE_OF = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "chatbot": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "ipython": "tool",
}


def not_text(columns: Columns, *names: str) -> str | None:
    """Why one of the named columns isn't there as a string."""
    for name in names:
        if type(columns.get(name)) is not str:
            return wrong(columns, name, "a string")
    return None


def wrong(columns: Columns, name: str, expected: str) -> str:
    """The reason for a column that is missing or of another type."""
    if name not in columns:
        return f"column {name!r} is missing"
    return f"column {name!r} holds {kind_in_words(columns[name])}, expected {expected}"


def kind_in_words(value: Any) -> str:
    """A value's type as a data person names it."""
    names = {
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)}"
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")


def turns_problem(turns: Any, name: str, role_key: str, text_key: str) -> str | None:
    """Why `turns` isn't a list of turns with a known role and readable text."""
    if type(turns) is not list:
        return f"column {name!r} holds {kind_in_words(turns)}, expected a list of turns"
    for i, turn in enumerate(turns, 1):
        if not isinstance(turn, dict):
            return f"turn {i} of {name!r} is {kind_in_words(turn)}, expected an object"
        role = turn.get(role_key)
        if not isinstance(role, str) or role.lower() not in ROLE_OF:
            return f"turn {i} of {name!r} has the {role_key} {role!r}, expected system, user, assistant or tool"
        problem = _content_problem(turn.get(text_key, ""))
        if problem:
            return f"turn {i} of {name!r}: {text_key} {problem}"
    return None


def _content_problem(content: Any) -> str | None:
    if content is None or isinstance(content, str):
        return None
    if not isinstance(content, list):
        return f"is {kind_in_words(content)}, expected a string or a list of parts"
    for part in content:
        if not (isinstance(part, dict) and isinstance(part.get("text"), str)):
            shown = part.get("type") if isinstance(part, dict) else kind_in_words(part)
            return f"has a part without text ({shown}); only text is read"
    return None


def read_turns(turns: list[dict[str, Any]], role_key: str, text_key: str) -> tuple[Message, ...]:
    """Turns as messages: known role names, parts joined, null content (a bare tool call) as ""."""
    return tuple(Message(ROLE_OF[t[role_key].lower()], _content(t.get(text_key))) for t in turns)


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""


def pair(prompt: str, response: str, system: Any = None) -> tuple[Message, ...]:
    """System (when it is a non-empty string), user, assistant."""
    turns = (Message("user", prompt), Message("assistant", response))
    return (Message("system", system), *turns) if isinstance(system, str) and system else turns
