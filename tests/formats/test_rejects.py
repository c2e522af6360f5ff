"""`rejected.jsonl` appears whole, when reading is done, and only if there is something in it."""

import json

from dataworth.formats.rejects import Rejects


def test_records_and_place(tmp_path):
    path = tmp_path / "new" / "rejected.jsonl"
    rejects = Rejects(path)
    rejects.add(tmp_path / "x.jsonl", 3, 120, "not JSON", b"\xff\x00<script>" + b"y" * 2000)
    rejects.add(tmp_path / "x.jsonl", 9, 777, "the key '\ud83d' stands twice", b"{}")
    assert not path.exists()
    assert rejects.close() == path and rejects.count == 2
    first, second = (json.loads(line) for line in path.read_bytes().splitlines())
    assert (first["line"], first["offset"], first["reason"]) == (3, 120, "not JSON")
    assert first["raw"].startswith("\\xff\x00<script>y") and len(first["raw"]) < 510
    assert second["reason"] == "the key '\\ud83d' stands twice"
    assert [p.name for p in path.parent.iterdir()] == ["rejected.jsonl"]


def test_nothing_rejected_leaves_no_file(tmp_path):
    path = tmp_path / "rejected.jsonl"
    assert Rejects(path).close() is None and not path.exists()
    path.write_text("of an earlier reading")
    assert Rejects(path).close() is None and not path.exists()


def test_an_abandoned_reading_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "rejected.jsonl"
    path.write_text("earlier")
    rejects = Rejects(path)
    rejects.add(tmp_path, 1, 0, "why", b"")
    assert rejects.close(keep=False) is None
    assert path.read_text() == "earlier" and len(list(tmp_path.iterdir())) == 1


def test_without_a_path_rows_are_counted(tmp_path):
    rejects = Rejects(None)
    rejects.add(tmp_path / "x", 4, 0, "why", b"raw")
    assert (rejects.count, rejects.close()) == (1, None) and rejects.first.endswith("x, line 4: why")
