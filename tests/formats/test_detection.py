"""The guess in words, and rows to check it against."""

from tests.formats import pool_files as files

from dataworth.formats import detect, open_pool, preview
from dataworth.formats.detection import _WORDS
from dataworth.formats.schemas import LABELLED, ORDER


def test_words_for_every_schema():
    assert set(_WORDS) == {s.name for s in (*ORDER, *LABELLED)}


def test_detect_and_preview(tmp_path):
    a = files.jsonl(tmp_path / "a.jsonl.gz", files.rows_like(1200))
    b = files.jsonl(tmp_path / "b.jsonl", [{"content": "t"}])
    empty = files.jsonl(tmp_path / "c.jsonl", [])
    pool = open_pool([a, empty, b])
    said = [str(d) for d in detect(pool)]
    read = "1,200 rows of prompt and completion; the completion is trained on; other columns: n"
    assert said[0] == f"{a}: jsonl.gz, {read}"
    assert said[1] == f"{empty}: jsonl, no rows"
    assert said[2] == f"{b}: jsonl, 1 row of plain text; every token is trained on"
    assert [e.full_text for e in preview(pool)] == ["question 0\nanswer 0", "question 1\nanswer 1", "t"]
    assert len(preview(pool, 1)) == 1 and len(preview(pool, 5000)) == 1201
    mapped = open_pool(a, mapping={"prompt": "prompt", "completion": "prompt+completion"})
    assert "(--map prompt=prompt completion=prompt+completion); other columns: n" in str(detect(mapped)[0])


def test_columns_beside_what_a_row_says_are_named(tmp_path):
    rows = [{"question": "q", "answer": "a", "rationale": "r", "source": "s", "meta": {"x": "y"}, "more": 1}]
    path = files.jsonl(tmp_path / "a.jsonl", rows)
    assert str(detect(open_pool(path))[0]).endswith("; other columns: rationale, meta, more")
    mapping = {"prompt": "question", "completion": "rationale+answer", "source": "meta.x"}
    assert str(detect(open_pool(path, mapping=mapping))[0]).endswith("; other columns: more")
    many = files.jsonl(tmp_path / "b.jsonl", [{"text": "t", **{f"c{n}": n for n in range(20)}}])
    assert str(detect(open_pool(many))[0]).endswith("columns: c0, c1, c2, c3, c4, c5, c6, c7, ...")
