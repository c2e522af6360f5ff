"""A request comes back from its folder unchanged, whatever words are in it; tables keep their rows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataworth.errors import FormatError, RequestError
from dataworth.store import RunFolder, canonical_json, digests
from dataworth.store.artefact import differing_keys

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["no", "1e5", "2024-01-01", "0x1f", "~", "null", "5%", "a: b", "- x", "#", "'", "1_000", "=", "<<"]
    )
)
JSON = st.recursive(
    SCALARS, lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=4), c, max_size=3), max_leaves=8
)
CONFIG = st.dictionaries(st.text(max_size=6) | st.sampled_from(["on", "1", "~"]), JSON, max_size=5)


@settings(max_examples=60)
@given(CONFIG)
def test_any_request_is_recognised_again(config):
    folder = Path(tempfile.mkdtemp())
    try:
        first = RunFolder(folder / "r", config)
        assert RunFolder(folder / "r", config).config == first.config == RunFolder.existing(folder / "r").config
        other = {**config, "another key": 1}
        with pytest.raises(RequestError, match="differs in another key"):
            RunFolder(folder / "r", other)
    finally:
        shutil.rmtree(folder)


def naive_differences(one, other, prefix=""):
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return set() if canonical_json(one) == canonical_json(other) else {prefix or "."}
    out = set()
    for key in {*one, *other}:
        where = f"{prefix}.{key}" if prefix else key
        out |= naive_differences(one[key], other[key], where) if key in one and key in other else {where}
    return out


KEYED = st.recursive(st.integers(0, 2), lambda c: st.dictionaries(st.sampled_from("abc"), c, max_size=3), max_leaves=6)


@given(KEYED, KEYED)
def test_differing_keys_are_exactly_those_that_differ(one, other):
    assert set(differing_keys(one, other)) == naive_differences(one, other)
    assert differing_keys(one, other) == sorted(differing_keys(one, other)) == differing_keys(other, one)
    assert (differing_keys(one, other) == []) == (canonical_json(one) == canonical_json(other))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(5, dtype=np.uint8), np.ndarray),
        (np.array([1.5, np.nan, np.inf, -0.0, 5e-324]), np.ndarray),
        (np.array([True, False, True, True, False]), np.ndarray),
        ([1, None, 3, 4, 5], list),
        (["a", "", "ünï", None, "x" * 1000], list),
        ([[1, 2], [], [3], [4], [5]], list),
    ],
)
def test_columns_of_a_table_come_back_equal(tmp_path, values, kind):
    run = RunFolder(tmp_path / "r", {})
    path = run.write_table("deep/er/t", {"v": values, "id": [str(i) for i in range(5)]})
    back = run.read_table("deep/er/t")
    assert path.is_relative_to(run.path) and list(back) == ["v", "id"] and isinstance(back["v"], kind)
    if kind is list:
        assert back["v"] == list(values)
    else:
        assert back["v"].dtype == values.dtype
        np.testing.assert_array_equal(back["v"], values)


def test_a_table_is_replaced_whole_and_equal_tables_have_equal_bytes(tmp_path):
    one, two = (RunFolder(tmp_path / name, {"same": 1}) for name in "ab")
    one.write_table("t", {"x": np.arange(1000)})
    for run in (one, two):
        run.write_table("t", {"x": np.arange(3), "y": ["a", "b", "c"]})
    assert digests(one.path) == digests(two.path)
    assert one.read_table("t")["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("change", ["edit", "remove", "config", "log", "new", "temporary"])
def test_what_makes_a_finished_run_unfinished(tmp_path, change):
    run = RunFolder(tmp_path / "r", {"a": 1})
    run.write_table("scores/x", {"v": [1.0]})
    run.write_record({"n": 1}, {"seconds": 1.5})
    run.finish()
    if change == "edit":
        run.write_record({"n": 2}, {"seconds": 1.5})
    elif change == "remove":
        (run.path / "scores" / "x.parquet").unlink()
    elif change == "config":
        (run.path / "config.yaml").write_text("a: 1  # the same request in other bytes\n")
    else:
        name = {"log": "debug.log", "new": "extra.txt", "temporary": ".tmp-half"}[change]
        (run.path / name).write_text("x")
    assert RunFolder(run.path, {"a": 1}).finished == (change in ("log", "new", "temporary"))


def test_finishing_removes_what_an_interrupted_writer_left(tmp_path):
    run = RunFolder(tmp_path / "r", {})
    run.write_table("scores/x", {"v": [1.0]})
    for folder in (run.path, run.path / "scores"):
        (folder / ".tmp-torn").write_bytes(b"x")
    run.finish()
    assert run.finished and not list(run.path.rglob(".tmp-*"))


@pytest.mark.parametrize("text", ["a: [", "\tx", "a: !!python/object:os.system x", "- a\n- b"])
def test_a_damaged_request_is_one_line(tmp_path, text):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.yaml").write_text(text)
    with pytest.raises(FormatError, match="is damaged") as caught:
        RunFolder(tmp_path / "r", {"a": 1})
    assert "\n" not in str(caught.value)


def test_a_folder_with_nothing_but_a_lock_and_logs_may_become_a_run(tmp_path):
    for name in ("lock", "x.log", ".tmp-config.yaml"):
        (tmp_path / name).write_text("")
    run = RunFolder(tmp_path, {"a": 1})
    assert run.config == {"a": 1} and (tmp_path / "config.yaml").exists()
