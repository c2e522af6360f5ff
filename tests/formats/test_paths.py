"""Files, globs, folders and saved datasets become a list of files in a defined order."""

import json

import pyarrow as pa
import pytest

from dataworth.errors import FormatError, RequestError
from dataworth.formats import open_pool
from dataworth.formats.paths import find_files, format_of, source_names, stem_of


def touch(path, text="{}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_folders_and_globs_are_sorted_and_skip_what_is_not_data(tmp_path):
    names = ["b.jsonl", "a/z.csv", "a/y.parquet", "c.json.gz"]
    for name in [*names, "README.md", ".hidden/x.jsonl", ".x.jsonl", "p.jsonl.dataworth/reasons.parquet"]:
        touch(tmp_path / name)
    expected = [tmp_path / n for n in ("a/y.parquet", "a/z.csv", "b.jsonl", "c.json.gz")]
    assert find_files(tmp_path) == expected
    assert find_files(str(tmp_path / "*.jsonl")) == [tmp_path / "b.jsonl"]
    assert find_files(str(tmp_path / "**" / "*.[cp]*")) == [tmp_path / "a/y.parquet", tmp_path / "a/z.csv"]
    assert find_files([expected[2], tmp_path, str(expected[0])]) == [expected[2], *expected[:2], expected[3]]


def test_relative_globs(tmp_path, monkeypatch):
    touch(tmp_path / "d" / "x.jsonl")
    monkeypatch.chdir(tmp_path)
    assert [str(p) for p in find_files("d/*.jsonl")] == ["d/x.jsonl"]


@pytest.mark.parametrize(
    ("name", "fmt", "stem"),
    [
        ("x.jsonl", "jsonl", "x"),
        ("x.y.ndjson.zst", "jsonl", "x.y"),
        ("x.JSON.GZ", "json", "x"),
        ("x.csv", "csv", "x"),
        ("x.txt", None, "x"),
        ("x.gz", None, "x"),
    ],
)
def test_format_and_stem(tmp_path, name, fmt, stem):
    assert format_of(tmp_path / name) == fmt and stem_of(tmp_path / name) == stem


def test_odd_names(tmp_path):
    path = touch(tmp_path / "a b\nc [1].jsonl", '{"text": "x"}')
    assert find_files(path) == [path] and open_pool(path).sources == ("a b\nc [1]",)
    assert source_names([path, tmp_path / "d" / path.name]) == [f"{tmp_path.name}/a b\nc [1]", "d/a b\nc [1]"]


def test_what_is_not_there_or_not_data(tmp_path):
    with pytest.raises(RequestError, match="download it"):
        find_files("org/name-of-a-hub-set")
    with pytest.raises(RequestError, match="no readable file matches"):
        find_files(str(tmp_path / "*.jsonl"))
    with pytest.raises(RequestError, match="holds no readable file"):
        find_files(tmp_path)
    with pytest.raises(FormatError, match=r"unknown file type '\.txt'"):
        find_files(touch(tmp_path / "x.txt"))
    with pytest.raises(RequestError, match="no pool was named"):
        find_files([])


def save_dataset(folder, tables):
    """What `Dataset.save_to_disk` leaves: streamed Arrow shards, listed in state.json."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{len(tables):05}.arrow" for i in range(len(tables))]
    for name, rows in zip(names, tables, strict=True):
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_saved_dataset(tmp_path):
    folder = save_dataset(tmp_path / "ds", [[{"text": "a"}, {"text": "b"}], [{"text": "c"}]])
    pool = open_pool(folder)
    assert [e.text for e in pool.examples()] == ["a", "b", "c"]
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../outside.arrow"}]}')
    with pytest.raises(FormatError, match="isn't in the folder"):
        find_files(folder)
    (folder / "state.json").write_text("{}")
    with pytest.raises(FormatError, match="lists no data file"):
        find_files(folder)


def test_dataset_with_splits_asks_for_one(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(RequestError, match="train, test"):
        find_files(tmp_path)


def test_a_dataset_saved_by_the_real_library(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(25)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "ds", num_shards=2)
    pool = open_pool(tmp_path / "ds")
    assert [pool.columns(i) for i in range(25)] == rows and len(pool.files) == 2


def test_a_folder_is_searched_without_its_runs(tmp_path):
    for name in ("a.jsonl", "more/b.jsonl", "runs/select-a/rejected.jsonl", "runs/select-a/scores/length.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "record.json").write_text("{}")
    for name in ("config.yaml", "record.json", "finished.json"):
        (tmp_path / "runs/select-a" / name).write_text("{}")
    assert [f.name for f in find_files(tmp_path)] == ["a.jsonl", "b.jsonl", "record.json"]


def test_a_slice_of_a_pool_says_where_slices_are_known(tmp_path):
    (tmp_path / "a.npz").touch()
    with pytest.raises(RequestError, match=r"a\.npz:0-5 is not here: slices are for .*`steer: .*a\.npz:0-5`"):
        find_files(f"{tmp_path / 'a.npz'}:0-5")
    with pytest.raises(RequestError, match="expected a file, a glob or a folder"):
        find_files(f"{tmp_path / 'b.npz'}:0-5")
