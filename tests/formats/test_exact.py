"""Rows are read without changing a value, and both paths give the same canonical bytes."""

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataworth.formats.exact import BadRowError, canonical_json, parse_row, read_again, table_canonical

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()))  # lone surrogates included
)
KEYS = st.text(st.characters(exclude_categories=()), max_size=6)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
ROWS = st.dictionaries(KEYS, VALUES, max_size=5)


def reason(raw: bytes, **options) -> str:
    with pytest.raises(BadRowError) as caught:
        parse_row(raw, **options)
    return str(caught.value)


@given(ROWS, st.booleans(), st.integers(0, 3))
@settings(max_examples=300)
def test_any_row_comes_back_exactly(row, escape, indent):
    raw = json.dumps(row, ensure_ascii=escape, indent=indent or None)
    try:
        encoded = raw.encode()
    except UnicodeEncodeError:
        encoded = json.dumps(row).encode()
    columns, canonical = parse_row(encoded)
    assert columns == row == read_again(encoded)
    assert [type(v) for v in columns.values()] == [type(v) for v in row.values()]
    assert canonical == canonical_json(row)


@given(ROWS)
@settings(max_examples=200)
def test_fast_and_slow_canonical_agree(row):
    try:
        fast = orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError):
        return
    assert canonical_json(row) == fast
    assert table_canonical(row) == fast


@given(ROWS, st.randoms())
@settings(max_examples=100)
def test_canonical_ignores_key_order_and_space(row, rng):
    keys = list(row)
    rng.shuffle(keys)
    shuffled = json.dumps({k: row[k] for k in keys}, indent=3).encode()
    assert parse_row(shuffled)[1] == parse_row(json.dumps(row).encode())[1]


@given(ROWS, ROWS)
@settings(max_examples=200)
def test_canonical_tells_rows_apart(a, b):
    # repr tells 1 from 1.0, True from 1 and -0.0 from 0.0, as the canonical form does.
    def shape(value):
        if isinstance(value, dict):
            return {k: shape(value[k]) for k in sorted(value)}
        return [shape(v) for v in value] if isinstance(value, list) else value

    assert (canonical_json(a) == canonical_json(b)) == (repr(shape(a)) == repr(shape(b)))


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "a:b", ":", "\\u003a"]), st.sampled_from(["x", ":", "::", "a:1", 1])),
        max_size=5,
    )
)
@settings(max_examples=300)
def test_duplicate_keys_are_always_found(pairs):
    body = ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in pairs)
    for escaped in (
        body,
        body.replace("a:", "a\\u003a"),
        body.replace(':"', ':"').replace("::", "\\u003A\\u003a"),
    ):
        raw = b'{"outer":[{' + escaped.encode() + b"}]}"
        try:
            naive = json.loads(raw, object_pairs_hook=lambda p: "dup" if len(dict(p)) < len(p) else dict(p))
        except json.JSONDecodeError:
            continue
        if "dup" in str(naive) and naive["outer"] == ["dup"]:
            assert "twice" in reason(raw)
            assert parse_row(raw, "last")[0] == read_again(raw) == json.loads(raw)
        else:
            assert parse_row(raw)[0] == naive


@pytest.mark.parametrize("value", [2**63, 2**64, 2**70, -(2**63) - 1, 10**18, 10**19, 10**300, 12345678901234567890123])
def test_integers_of_any_size(value):
    columns, canonical = parse_row(b'{"id": %d}' % value)
    assert read_again(b'{"id": %d}' % value) == columns
    assert columns == {"id": value} and type(columns["id"]) is int
    assert canonical == b'{"id":%d}' % value


def test_lone_surrogate_is_kept_and_not_confused_with_its_escape_as_text():
    columns, canonical = parse_row(b'{"t": "\\ud83d"}')
    assert columns == {"t": "\ud83d"}
    assert canonical != parse_row(b'{"t": "\\\\ud83d"}')[1]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"a": NaN}', "NaN is not a JSON value"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON value"),
        (b'{"a": 1e400}', "too large for a float"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at byte 7"),
        (b'{"a": 1', "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b'{"a": "\x00"}', "not JSON"),
        (b"[1, 2]", "expected a JSON object, found an array"),
        (b"3", "found a number"),
        (b"null", "found null"),
        (b"NaN", "NaN"),
        (b'{"a":1,"a":1}', "'a' stands twice"),
        (b'{"x":{"a":1,"\\u0061":2}}', "'a' stands twice"),
        (b'{"a":' + b"9" * 5000 + b"}", "5000 digits"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_unreadable_rows_say_why(raw, words):
    assert words in reason(raw)


def test_nul_escape_and_bidi_marks_survive():
    assert parse_row('{"t": "\\u0000\u202e</script>"}'.encode())[0] == {"t": "\0\u202e</script>"}


def test_nan_in_a_table_is_not_null():
    assert table_canonical({"a": float("nan")}) != table_canonical({"a": None})
    assert table_canonical({"a": [None, 1.5]}) == parse_row(b'{"a":[null,1.5]}')[1]
