"""Lines, array elements and CSV records keep their bytes, wherever the blocks are cut."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataworth.errors import FormatError
from dataworth.formats.csv_records import parse_record, record_spans
from dataworth.formats.exact import BadRowError
from dataworth.formats.json_array import ArrayScanner
from dataworth.formats.spans import line_spans

BIG = 1 << 30


def cut(data: bytes, size: int):
    return iter([data[i : i + size] for i in range(0, len(data), size)])


def lines(data: bytes, size: int, limit: int = BIG):
    return list(line_spans(cut(data, size), 0, limit))


def elements(data: bytes, size: int, limit: int = BIG):
    return list(ArrayScanner("f.json", 0, limit).spans(cut(data, size)))


def records(data: bytes, size: int, limit: int = BIG):
    return list(record_spans(cut(data, size), 0, limit))


@given(
    st.lists(st.sampled_from([b"", b" ", b"\r", b"a", b"{}\r", b"x" * 9]), max_size=8),
    st.booleans(),
    st.integers(1, 7),
)
def test_lines_equal_the_naive_split(parts, final, size):
    data = b"\n".join(parts) + (b"\n" if final else b"")
    naive, at = [], 0
    for number, line in enumerate(data.split(b"\n"), 1):
        whole = data[at : at + len(line) + 1]
        if line.strip():
            naive.append((number, at, whole, ""))
        at += len(line) + 1
    assert lines(data, size) == naive


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 12), st.integers(3, 15))
def test_long_lines_cost_only_themselves(lengths, size, limit):
    data = b"".join(b"y" * n + b"\n" for n in lengths)
    got = lines(data, size, limit)
    expected = [(i, n > limit) for i, n in enumerate(lengths, 1) if n]
    assert [(number, bool(why)) for number, _, _, why in got] == expected
    for number, at, raw, why in got:
        assert at == sum(n + 1 for n in lengths[: number - 1])
        assert why or raw == data[at : at + len(raw)]


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(["\\", '"', '\\"', "]", "}", ",", "[{", '"\\']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 1]), st.integers(1, 11))
@settings(max_examples=300)
def test_array_elements_keep_their_bytes(values, indent, size):
    data = json.dumps(values, indent=indent, ensure_ascii=False).encode()
    got = elements(data, size)
    assert [json.loads(raw) for _, _, raw, _ in got] == values
    for n, (number, at, raw, why) in enumerate(got, 1):
        assert number == n and not why and data[at : at + len(raw)] == raw and raw == raw.strip()


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=6), st.integers(1, 9))
@settings(max_examples=200)
def test_long_elements_cost_only_themselves(shapes, size):
    values = [{"t": '\\"' * n} if text else {"t": list(range(n))} for n, text in shapes]
    parts = [json.dumps(v).encode() for v in values]
    got = elements(b"[" + b",".join(parts) + b"]", size, 30)
    assert [bool(why) for *_, why in got] == [len(p) > 30 for p in parts]
    at = 1
    for (_, offset, raw, why), part in zip(got, parts, strict=True):
        assert why or (raw == part and offset == at)
        at += len(part) + 1


def test_broken_element_is_one_row():
    got = elements(b'[{"a": 1}, {"b": nope}, , {"c": 3}]', 4)
    assert [raw for _, _, raw, _ in got] == [b'{"a": 1}', b'{"b": nope}', b"", b'{"c": 3}']
    assert "empty element" in got[2][3]


@pytest.mark.parametrize(
    ("data", "words"),
    [(b'[{"a": 1}, {"b": 2', "not closed"), (b"[1]  x", "follows"), (b'[1] {"a": 2}', "follows")],
)
def test_broken_array_names_the_last_good_byte(data, words):
    for size in (1, 3, 100):
        with pytest.raises(FormatError, match=words) as caught:
            elements(data, size)
        assert "last good byte" in str(caught.value)


FIELDS = st.lists(
    st.lists(st.sampled_from(["", "a", 'q"q', "x,y", "l\nl", "l\r\n\r\nl", " "]), min_size=2, max_size=2),
    min_size=1,
    max_size=5,
)


@given(FIELDS, st.sampled_from(["\n", "\r\n"]), st.integers(1, 9))
@settings(max_examples=200)
def test_csv_records_keep_their_bytes(rows, end, size):
    import csv
    import io

    sink = io.StringIO(newline="")
    csv.writer(sink, lineterminator=end).writerows(rows)
    data = sink.getvalue().encode()
    got = records(data, size)
    assert b"".join(raw for _, _, raw, _ in got) == data
    assert [list(parse_record(raw, ("a", "b")).values()) for _, _, raw, _ in got] == rows


def test_open_quote_costs_its_line_only():
    data = b'a,b\n1,"2\n3,4\n5,"6\n7"\n'
    for limit in (BIG, 12):
        got = [(number, raw, bool(why)) for number, _, raw, why in records(data, 5, limit)]
        assert sum(raw.count(b"\n") for _, raw, _ in got) == 5
        assert (2, b'1,"2\n', True) in got or (2, b'1,"2\n3,4\n5,"6\n', False) in got
    assert [(r, bool(w)) for _, _, r, w in records(b'a\n"x\ny\nz\n', 3)] == [
        (b"a\n", False),
        (b'"x\n', True),
        (b"y\n", False),
        (b"z\n", False),
    ]


@pytest.mark.parametrize(
    ("raw", "words"), [(b"a,b,c\n", "3 fields"), (b"\xff,a\n", "not UTF-8"), (b'"a"b,c\n', "not CSV")]
)
def test_bad_records_say_why(raw, words):
    with pytest.raises(BadRowError, match=words):
        parse_record(raw, ("x", "y"))
