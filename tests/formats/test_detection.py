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
    assert said[0] == f"{a}: jsonl.gz, 1,200 rows of prompt and completion; the completion is trained on"
    assert said[1] == f"{empty}: jsonl, no rows"
    assert said[2] == f"{b}: jsonl, 1 row of plain text; every token is trained on"
    assert [e.full_text for e in preview(pool)] == ["question 0\nanswer 0", "question 1\nanswer 1", "t"]
    assert len(preview(pool, 1)) == 1 and len(preview(pool, 5000)) == 1201
    mapped = open_pool(a, mapping={"prompt": "prompt", "completion": "prompt+completion"})
    assert str(detect(mapped)[0]).endswith("(--map prompt=prompt completion=prompt+completion)")
