"""Numbers and strings as JSON may spell them, against Python's own reader; both paths, one canonical form."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataworth.formats.exact import BadRowError, canonical_json, parse_row, read_again

DIGITS = st.text("0123456789", min_size=1, max_size=25)
INTEGER = DIGITS.map(lambda d: d.lstrip("0") or "0")
NUMBER = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    INTEGER,
    st.just("") | DIGITS.map(lambda d: "." + d),
    st.just("")
    | st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 400)),
)


@given(NUMBER)
@settings(max_examples=500)
def test_any_spelling_of_a_number(text):
    raw = b'{"n": [%s]}' % text.encode()
    wanted = json.loads(text)
    if isinstance(wanted, float) and math.isinf(wanted):
        with pytest.raises(BadRowError, match="too large"):
            parse_row(raw)
        return
    columns, canonical = parse_row(raw)
    assert repr(columns["n"][0]) == repr(wanted) == repr(read_again(raw)["n"][0])
    assert canonical == canonical_json({"n": [wanted]})
    assert repr(parse_row(canonical)[0]["n"][0]) == repr(wanted)


@pytest.mark.parametrize("text", ["01", "+1", "1.", ".5", "1e", "0x10", "1_000", "--1", "Infinity", "1e1.5", "٣"])
def test_what_json_does_not_call_a_number(text):
    with pytest.raises(BadRowError):
        parse_row(b'{"n": %s}' % text.encode())


@given(st.text(st.characters(exclude_categories=())), st.sampled_from(["ascii", "utf8", "spaced"]))
@settings(max_examples=300)
def test_one_id_for_every_escape_of_a_string(text, how):
    plain = json.dumps({"t": text})
    if how == "spaced":
        raw = json.dumps({"t": text}, indent=2).encode()
    elif how == "utf8" and not any("\ud800" <= c <= "\udfff" for c in text):
        raw = json.dumps({"t": text}, ensure_ascii=False).encode()
    else:
        raw = ("{" + '"t":"' + "".join(f"\\u{ord(c):04X}" if ord(c) < 0x10000 else c for c in text) + '"}').encode()
    columns, canonical = parse_row(raw)
    assert columns == json.loads(raw) and canonical == parse_row(json.dumps(columns).encode())[1]
    if how != "ascii":
        assert canonical == parse_row(plain.encode())[1]


@given(st.integers(1, 60), st.sampled_from(["[", '{"a":']))
@settings(max_examples=30)
def test_depth_alone_changes_nothing(depth, opening):
    closing = "]" if opening == "[" else "}"
    raw = ('{"x":' + opening * depth + "1" + closing * depth + "}").encode()
    columns, canonical = parse_row(raw)
    assert columns == json.loads(raw) and canonical == raw == canonical_json(columns)


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"{}x", b"{", b'"a"', b"true", b'{"a":1,}', b"{'a':1}", b'{"a" 1}', b"\xef\xbb\xbf{}"]
)
def test_no_object_is_no_row(raw):
    with pytest.raises(BadRowError) as caught:
        parse_row(raw)
    assert str(caught.value) and "\n" not in str(caught.value)


def test_equal_keys_are_found_whatever_their_escapes_and_depth():
    for raw in (b'{"a":1,"\\u0061":1}', b'{"x":[{"y":{"b":1,"b":1}}]}', b'{"a:":1,"a:":2}', b'{"":1,"":2}'):
        with pytest.raises(BadRowError, match="twice"):
            parse_row(raw)
        assert parse_row(raw, "last")[0] == json.loads(raw) == read_again(raw)
    assert parse_row(b'{"a":1,"A":2,"\\u0061\\u0300":3,"\\u00e0":4}')[0] == {"a": 1, "A": 2, "a\u0300": 3, "\u00e0": 4}
