"""Every JSON file of the store, damaged in each way: one line that names the file and says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from store_toys import SPEC, fill, row_ids

from dataworth.errors import FormatError
from dataworth.store import Cache, RunFolder, is_done, mark_done
from dataworth.store.json_files import read_json

DAMAGE = {"empty": b"", "half": b'{"ids": ["a"', "bytes": b"\xff\xfe\x00", "list": b"[1, 2]"}


def refused(call) -> str:
    with pytest.raises(FormatError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and "is damaged" in text and "delete" in text
    return text


def test_a_whole_file_comes_back_and_its_keys_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"ids": ["ü"], "rows": 3}')
    assert read_json(path, "delete it") == {"ids": ["ü"], "rows": 3}
    assert read_json(path, "delete it", {"ids": list, "rows": int})["rows"] == 3
    assert "'base' is missing" in refused(lambda: read_json(path, "delete it", {"base": int}))
    assert "expected a dict" in refused(lambda: read_json(path, "delete it", {"ids": dict}))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
@pytest.mark.parametrize("pattern", ["spec.json", "plans/*.json", "parts/*.rows.json", "parts/*.ok.json"])
def test_a_damaged_file_of_an_artefact_names_itself(tmp_path: Path, pattern: str, damage: bytes) -> None:
    ids = row_ids(20)
    found = fill(tmp_path, ids).folder
    path = next(found.glob(pattern))
    # Parts are checked against the size in their marker first: keep it where it can be kept.
    path.write_bytes(damage.ljust(path.stat().st_size) if pattern == "parts/*.rows.json" else damage)
    text = refused(lambda: Cache(tmp_path).artefact("toy", SPEC).plan([*ids, *row_ids(3, "new")]))
    assert str(path) in text and str(found) in text


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_marker_of_a_cache_folder_names_itself(tmp_path: Path, damage: bytes) -> None:
    folder = Cache(tmp_path).folder("trained", SPEC)
    mark_done(folder)
    (folder / "done.json").write_bytes(damage)
    assert str(folder / "done.json") in refused(lambda: is_done(folder))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
@pytest.mark.parametrize("name", ["record.json", "finished.json"])
def test_a_damaged_file_of_a_run_names_itself_and_deleting_it_makes_the_run_anew(
    tmp_path: Path, name: str, damage: bytes
) -> None:
    run = RunFolder(tmp_path / "r", {"a": 1})
    run.write_record({"n": 1}, {"seconds": 1.5})
    run.finish()
    (run.path / name).write_bytes(damage)
    assert str(run.path / name) in refused(lambda: RunFolder(run.path, {"a": 1}).finished)
    (run.path / name).unlink()
    assert not RunFolder(run.path, {"a": 1}).finished


def test_somebody_elses_json_in_a_run_is_hashed_and_not_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "r", {"a": 1})
    (run.path / "picked.json").write_bytes(b"[{}, not json")
    run.write_record({"n": 1}, {})
    run.finish()
    assert run.finished
    (run.path / "picked.json").write_bytes(json.dumps([{}]).encode())
    assert not run.finished
