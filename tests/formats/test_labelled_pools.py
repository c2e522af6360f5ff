"""Rows with a class: arrays, image folders, encoded images and vectors in tables, labelled text."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataworth.errors import FormatError, RequestError
from dataworth.formats import open_pool, preview, write_subset
from dataworth.formats.table_formats import stamp_of

PNG = b"\x89PNG\r\n\x1a\n"


def archive(path, rows=5, **more):
    rng = np.random.default_rng(0)
    arrays = {"x": rng.integers(0, 256, (rows, 4, 4, 3), dtype=np.uint8), "y": np.arange(rows) % 3, **more}
    np.savez(path, **arrays)
    return arrays


def image_folder(root):
    for name, content in {"cat/b.png": b"2", "cat/a.png": b"1", "dog/deep/c.JPG": b"3", "dog/notes.txt": b"x"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG + content)
    return root


def test_an_archive_of_arrays_is_a_pool(tmp_path):
    arrays = archive(tmp_path / "train.npz")
    pool = open_pool(tmp_path / "train.npz")
    assert (pool.files[0].schema, pool.kinds, len(pool)) == ("labelled_image", {"classify"}, 5)
    for n, row in enumerate(pool.examples()):
        np.testing.assert_array_equal(row.content, arrays["x"][n])
        assert row.label == n % 3 and row.full_text == "" and row.answered
    assert pool.sources == ("train",)


def test_the_label_is_part_of_a_rows_id_and_equal_rows_are_copies(tmp_path):
    x = np.zeros((3, 2, 2), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.array([0, 1, 0]))
    pool = open_pool(tmp_path / "a.npz")
    assert len(set(pool.ids)) == 3 and pool.copies == 1
    assert pool.ids[2] == f"{pool.ids[0]}#1"


def test_vectors_have_one_id_in_every_format(tmp_path):
    vectors = np.array([[0.5, -1.25], [2.0, 3.0]])
    np.savez(tmp_path / "a.npz", vector=vectors, label=np.array(["up", "down"]))
    table = pa.table({"vector": vectors.tolist(), "label": ["up", "down"]})
    pq.write_table(table, tmp_path / "b.parquet")
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(r) + "\n" for r in table.to_pylist()))
    pools = [open_pool(tmp_path / name) for name in ("a.npz", "b.parquet", "c.jsonl")]
    assert {p.files[0].schema for p in pools} == {"labelled_vector"}
    assert len({p.ids for p in pools}) == 1
    np.testing.assert_array_equal(pools[0].example(1).content, np.float32([2, 3]))
    assert pools[2].example(1).label == "down"


def test_encoded_images_in_tables_bare_or_as_datasets_stores_them(tmp_path):
    bare = pa.table({"jpeg": [PNG + b"1", PNG + b"2"], "label": [7, 8], "index": [0, 1]})
    stored = pa.table(
        {"image": [{"bytes": PNG + b"1", "path": "a.png"}, {"bytes": None, "path": "b"}], "label": [7, 8]}
    )
    pq.write_table(bare, tmp_path / "bare.parquet")
    pq.write_table(stored, tmp_path / "stored.parquet")
    first, second = open_pool(tmp_path / "bare.parquet"), open_pool(tmp_path / "stored.parquet")
    assert [r.content for r in first.examples()] == [PNG + b"1", PNG + b"2"]
    assert second.example(0).content == PNG + b"1" and second.rejected == 1


def test_a_folder_of_images_is_a_pool_of_its_classes(tmp_path):
    pool = open_pool(image_folder(tmp_path / "images"))
    assert [(r.label, r.content) for r in pool.examples()] == [
        ("cat", PNG + b"1"),
        ("cat", PNG + b"2"),
        ("dog", PNG + b"3"),
    ]
    assert pool.columns(2)["file_name"] == "dog/deep/c.JPG"


def test_an_image_in_no_class_is_rejected_with_the_reason(tmp_path):
    (image_folder(tmp_path / "images") / "stray.png").write_bytes(PNG)
    pool = open_pool(tmp_path / "images", rejects=tmp_path / "rejected.jsonl")
    assert (len(pool), pool.rejected) == (3, 1)
    assert "'label' is missing" in (tmp_path / "rejected.jsonl").read_text()


def test_a_changed_image_folder_is_noticed(tmp_path):
    root = image_folder(tmp_path / "images")
    pool = open_pool(root)
    (root / "cat" / "a.png").write_bytes(PNG + b"other")
    with pytest.raises(FormatError, match="changed since it was indexed"):
        pool.example(0)


def test_an_image_moved_to_another_class_is_a_change(tmp_path):
    root = image_folder(tmp_path / "images")
    before = stamp_of(root)
    (root / "cat" / "a.png").rename(root / "dog" / "a.png")
    assert stamp_of(root) != before
    assert [r.label for r in open_pool(root).examples()] == ["cat", "dog", "dog"]


def test_conversations_with_an_embedding_and_a_label_stay_conversations(tmp_path):
    row = {"messages": [{"role": "user", "content": "q"}], "embedding": [0.1, 0.2], "label": "math"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    assert open_pool(tmp_path / "a.jsonl").kinds == {"sft"}
    assert open_pool(tmp_path / "a.jsonl", task="sft").kinds == {"sft"}
    (tmp_path / "b.jsonl").write_text('{"embedding": [0.5], "label": 1}\n')
    with pytest.raises(FormatError, match="no known schema"):
        open_pool(tmp_path / "b.jsonl", task="sft")


def test_numbers_beyond_any_float_are_no_vector(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "hello", "x": [1%s]}\n' % ("0" * 400))
    assert open_pool(tmp_path / "a.jsonl").kinds == {"text"}
    (tmp_path / "b.jsonl").write_text('{"x": [1.0, 2.0], "label": 1}\n{"x": [1e39, 1], "label": 1}\n')
    assert (len(pool := open_pool(tmp_path / "b.jsonl")), pool.rejected) == (1, 1)


def test_an_archive_with_something_else_inside_is_refused(tmp_path):
    archive(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as found:
        found.writestr("notes.txt", "hello")
    with pytest.raises(FormatError, match=r"notes.txt.*no array"):
        open_pool(tmp_path / "a.npz")


def test_labelled_text_is_one_only_when_asked(tmp_path):
    rows = [{"text": "good", "label": 1}, {"text": "bad", "label": 0}, {"text": "?", "label": None}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert open_pool(tmp_path / "a.jsonl").kinds == {"text"}
    pool = open_pool(tmp_path / "a.jsonl", task="classify")
    assert [(r.text, r.full_text, r.label) for r in pool.examples()] == [("good", "good", 1), ("bad", "bad", 0)]
    assert pool.rejected == 1


def test_other_columns_are_mapped(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"utterance": "pay my bill", "intent": "pay"}\n')
    pool = open_pool(tmp_path / "a.jsonl", mapping={"text": "utterance", "label": "intent"}, task="classify")
    assert (pool.example(0).text, pool.example(0).label) == ("pay my bill", "pay")


def test_kept_rows_are_written_back_as_they_were(tmp_path):
    arrays = archive(tmp_path / "train.npz", extra=np.linspace(0, 1, 5, dtype=np.float16))
    pool = open_pool(tmp_path / "train.npz")
    write_subset(pool, [3, 1], tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        assert sorted(found.files) == ["extra", "x", "y"]
        for name in found.files:
            np.testing.assert_array_equal(found[name], arrays[name][[1, 3]])
            assert found[name].dtype == arrays[name].dtype
    assert open_pool(tmp_path / "out.npz").ids == (pool.ids[1], pool.ids[3])
    once = (tmp_path / "out.npz").read_bytes()
    write_subset(pool, [1, 3], tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == once


def test_a_compressed_archive_stays_one(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((4, 8, 8)), y=np.arange(4))
    write_subset(open_pool(tmp_path / "a.npz"), [0], tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "b.npz") as found:
        assert {m.compress_type for m in found.infolist()} == {zipfile.ZIP_DEFLATED}


def test_kept_images_are_copied_to_a_new_folder(tmp_path):
    pool = open_pool(image_folder(tmp_path / "images"))
    write_subset(pool, [0, 2], tmp_path / "kept")
    found = {p.relative_to(tmp_path / "kept").as_posix(): p.read_bytes() for p in (tmp_path / "kept").rglob("*.*")}
    assert found == {"cat/a.png": PNG + b"1", "dog/deep/c.JPG": PNG + b"3"}
    assert open_pool(tmp_path / "kept").ids == (pool.ids[0], pool.ids[2])
    assert write_subset(pool, [2, 0], tmp_path / "kept") == [tmp_path / "kept"], "an interrupted command's are left"
    with pytest.raises(RequestError, match="expected a new folder"):
        write_subset(pool, [0], tmp_path / "kept")
    with pytest.raises(RequestError, match="expected a new folder"):
        write_subset(pool, [0], tmp_path / "kept.jsonl")
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((3, 2)), "y": np.zeros(4)}, "one length along the first axis"),
        ({"x": np.zeros((3, 2)), "n": np.array(3)}, "one length along the first axis"),
        ({"x": np.array([{}, {}], dtype=object), "y": np.zeros(2)}, "plain arrays"),
    ],
)
def test_archives_that_are_no_table_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(FormatError, match=said):
        open_pool(tmp_path / "a.npz")


def test_a_damaged_archive_is_one_line(tmp_path):
    archive(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    with pytest.raises(FormatError, match="can't be read as arrays") as told:
        open_pool(tmp_path / "a.npz")
    assert "\n" not in str(told.value)


def test_vectors_with_holes_and_wrong_labels_are_rejected(tmp_path):
    rows = [
        {"embedding": [1.0, 2.0], "label": 1},
        {"embedding": [1.0, 2.5], "label": 2},
        {"embedding": [1.5, 2.5], "label": "c"},
        {"embedding": [1.0, None], "label": 1},
        {"embedding": [], "label": 1},
        {"embedding": [1.0, 2.0], "label": 0.5},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    pool = open_pool(tmp_path / "a.jsonl", rejects=tmp_path / "r.jsonl")
    assert (len(pool), pool.rejected) == (3, 3)
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert "finite numbers" in reasons[0] and "a class" in reasons[2]


def test_the_first_rows_can_be_looked_at(tmp_path):
    archive(tmp_path / "train.npz")
    rows = preview(open_pool(tmp_path / "train.npz"))
    assert rows[1].shown == "(image of shape (4, 4, 3), class 1)"
    assert [e.label for e in rows] == [0, 1, 2]


@pytest.mark.parametrize(
    "arrays, told",
    [
        ({"data": (2, 3, 4), "klass": ()}, r"data \[3, 4\], klass, and column 'image'.*--map image=data label=klass"),
        ({"data": (2, 9), "klass": ()}, r"data \[9\], klass, and column 'vector'.*a vector under.*--map vector=data"),
        (
            {"x": (2, 3, 4)},
            r"column 'label' is missing.*under one of label, .*save .* with one class a row",
        ),
        (
            {"y": (2, 10), "x": (2, 3, 4)},
            r"column 'y' holds an array \[10\], expected a class.*one-hot rows, y\.argmax",
        ),
    ],
)
def test_an_archive_of_other_names_says_what_it_holds_and_what_to_type(tmp_path, arrays, told):
    made = {name: np.zeros(s if len(s) > 1 else 2, np.uint8) for name, s in arrays.items()}
    np.savez(tmp_path / "a.npz", **made)
    with pytest.raises(FormatError, match=told) as refused:
        open_pool(tmp_path / "a.npz")
    assert "prompt" not in str(refused.value), "nothing about texts"


def test_what_the_message_says_to_type_opens_the_archive(tmp_path):
    np.savez(tmp_path / "a.npz", data=np.zeros((2, 3, 4), np.uint8), klass=np.arange(2))
    pool = open_pool(tmp_path / "a.npz", mapping={"image": "data", "label": "klass"})
    assert [r.label for r in pool.examples()] == [0, 1]
