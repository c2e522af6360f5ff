"""CSV as the world writes it: quotes, line ends, byte-order marks; held against Python's own reader."""

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.formats import pool_files as files

from dataworth.errors import FormatError
from dataworth.formats import open_pool, write_subset
from dataworth.formats.csv_records import parse_record, record_spans
from dataworth.formats.exact import BadRowError

BOM = b"\xef\xbb\xbf"


def blocks(data: bytes, size: int):
    return iter([data[i : i + size] for i in range(0, len(data), size)])


def parsed(raw: bytes) -> list[str] | None:
    try:
        return list(parse_record(raw, None).values())
    except BadRowError:
        return None


@given(st.text('",ab\n', max_size=40), st.integers(1, 9))
@example('5" pipe,2\nx,4\n6" pipe,1\n', 4)
@example('a,"b""\n""c"\nd', 3)
@example('5" x,"a\nb"\n', 5)
@example('"","\n",""\n', 2)
@settings(max_examples=500)
def test_records_are_those_of_pythons_reader(text, size):
    """Wherever Python reads the whole text strictly, every record is found with the same fields."""
    try:
        naive = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:
        naive = None
    spans = list(record_spans(blocks(text.encode(), size), 0, 1 << 20))
    assert b"".join(raw for *_, raw, _ in spans).replace(b"\n", b"") == text.encode().replace(b"\n", b"")
    for number, at, raw, _ in spans:
        assert text.encode()[at : at + len(raw)] == raw
        assert number == text.encode()[:at].count(b"\n") + 1
    if naive is not None:
        assert not any(why for *_, why in spans)
        assert [parsed(raw) for _, _, raw, _ in spans] == naive


def test_inch_marks_are_text_and_cost_no_row(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('text,n\n5" pipe,2\nx,4\n6" pipe,1\nlast,3\n')
    pool = open_pool(path)
    assert [pool.columns(i)["text"] for i in range(len(pool))] == ['5" pipe', "x", '6" pipe', "last"]
    assert pool.rejected == 0


FIELD = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)


@given(
    st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.booleans(),
)
@settings(max_examples=80)
def test_any_field_survives_reading_picking_and_reading_again(tmp_path_factory, rows, end, quoting, mark):
    folder = tmp_path_factory.mktemp("csv")
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator=end, quoting=quoting)
    writer.writerow(["text", "note"])
    writer.writerows(rows)
    path = folder / "x.csv"
    path.write_bytes(BOM * mark + sink.getvalue().encode())
    pool = open_pool(path)
    assert [tuple(pool.columns(i).values()) for i in range(len(pool))] == rows
    picked = list(range(0, len(rows), 2))
    again = open_pool(write_subset(pool, picked, folder / "o.csv"))
    assert [tuple(again.columns(i).values()) for i in range(len(again))] == [rows[i] for i in picked]
    assert [i[:32] for i in again.ids] == [pool.ids[i][:32] for i in picked]
    assert (folder / "o.csv").read_bytes().startswith(BOM) == mark


def test_blank_lines_are_no_rows_and_numbers_count_them(tmp_path):
    path, rejects = tmp_path / "x.csv", tmp_path / "r.jsonl"
    path.write_bytes(b"\n\r\ntext,n\n\na,1\n  \nb\n\n")
    pool = open_pool(path, rejects=rejects)
    assert [pool.columns(i) for i in range(len(pool))] == [{"text": "a", "n": "1"}]
    (reject,) = files.rejects_of(rejects)
    assert (reject["line"], reject["offset"], reject["raw"]) == (7, path.read_bytes().index(b"b\n"), "b\n")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"text,text\na,b\n", "names 'text' twice"),
        (b'text,"n\na,1\n', "header can't be read"),
        (b"te\xffxt\na\n", "not UTF-8"),
        (b"text,n\ra,1\rb,2\r", "bare carriage return"),
        (b"text,n\n", "no readable row"),
        (b"other,n\na,1\n", "no known schema in columns other, n"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path, data, words):
    path = tmp_path / "x.csv"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=words) as caught:
        open_pool(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_numbers_and_nulls_stay_the_strings_they_are(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,n\n007,1e3\nNA,\n,null\n")
    pool = open_pool(path)
    found = [pool.columns(i) for i in range(3)]
    assert found == [{"text": "007", "n": "1e3"}, {"text": "NA", "n": ""}, {"text": "", "n": "null"}]
    same = files.jsonl(tmp_path / "x.jsonl", found)
    assert open_pool(same).ids == pool.ids


def test_an_open_quote_in_the_middle_of_a_long_file_costs_one_line(tmp_path):
    path, rejects = tmp_path / "x.csv", tmp_path / "r.jsonl"
    lines = [f"t{i},{i}" for i in range(500)]
    lines[250] = '"open,250'
    path.write_text("text,n\n" + "\n".join(lines) + "\n")
    pool = open_pool(path, max_row_bytes=1000, rejects=rejects)
    assert [pool.columns(i)["n"] for i in range(len(pool))] == [str(i) for i in range(500) if i != 250]
    (reject,) = files.rejects_of(rejects)
    assert reject["line"] == 252 and "never closed" in reject["reason"]


def test_a_record_may_span_many_lines_up_to_the_limit(tmp_path):
    path = tmp_path / "x.csv"
    long = "line\n" * 50
    path.write_text(f'text,n\n"{long}",1\nb,2\n')
    assert open_pool(path).columns(0)["text"] == long
    short = open_pool(path, max_row_bytes=100, rejects=tmp_path / "r.jsonl")
    kept = [short.columns(i) for i in range(len(short))]
    assert kept == [{"text": "b", "n": "2"}] and short.rejected == 51


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_packed_csv_keeps_its_header_and_bytes(tmp_path, suffix):
    import gzip

    import zstandard

    data = BOM + b'text,n\r\n"a ""1""",1\r\nb,2\r\n"c\r\nd",3'
    pack = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    path = tmp_path / f"x.csv{suffix}"
    path.write_bytes(pack(data))
    pool = open_pool(path)
    (out,) = write_subset(pool, [0, 2], tmp_path / "o.csv")
    assert out.read_bytes() == BOM + b'text,n\r\n"a ""1""",1\r\n"c\r\nd",3'
    assert open_pool(out).ids == (pool.ids[0], pool.ids[2])


def test_columns_of_a_csv_are_mapped_and_give_sources(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("q,why,a,topic\nQ1,W1,A1,maths\nQ2,,A2,\n")
    pool = open_pool(path, mapping={"prompt": "q", "completion": "why+a", "source": "topic"})
    assert [(e.prompt, e.response) for e in pool.examples()] == [("Q1", "W1\nA1"), ("Q2", "A2")]
    assert [pool.source_of(i) for i in range(2)] == ["maths", "x"]
