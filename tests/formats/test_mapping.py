"""`--map`: names, dotted paths, joined columns; unknown ones name the nearest."""

import pytest

from dataworth.errors import RequestError
from dataworth.formats.exact import BadRowError
from dataworth.formats.mapping import check_columns, check_roles, mapped

ROW = {
    "q": "Why?",
    "why": "Because.",
    "n": 7,
    "empty": "",
    "none": None,
    "deep": {"x": {"y": [1]}},
    "a+b": "plus",
    "a.b": "dot",
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("q", "Why?"),
        ("deep.x.y", [1]),
        ("why+n", "Because.\n7"),
        ("why + q", "Because.\nWhy?"),
        ("why+empty+none+n", "Because.\n7"),
        ("a+b", "plus"),
        ("a.b", "dot"),
        ("n", 7),
    ],
)
def test_expressions(expression, value):
    assert mapped({"text": expression}, ROW) == {"text": value}


def test_absent_columns_stay_absent():
    assert mapped({"text": "gone", "prompt": "q+gone", "completion": "deep.x.z"}, ROW) == {}


def test_only_text_and_numbers_join():
    with pytest.raises(BadRowError, match="'deep' holds an object"):
        mapped({"text": "q+deep"}, ROW)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(RequestError, match="did you mean 'completion'"):
        check_roles({"completoin": "q"})
    with pytest.raises(RequestError, match="no column 'whyy'; did you mean 'why'"):
        check_columns({"text": "q+whyy"}, [ROW], "f.jsonl")
    check_columns({"text": "q+why", "prompt": "deep.x"}, [{}, ROW], "f.jsonl")
