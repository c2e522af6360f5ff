"""Slices of goal files against list slices; roles, joins and dotted paths through whole pools and goals."""

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.formats import pool_files as files

from dataworth.errors import FormatError, RequestError
from dataworth.formats import open_goal, open_pool, take_rows
from dataworth.formats.goal import goal_files

TEXTS = [f"t{i % 6}" for i in range(15)]


def goal_yaml(folder, **entry):
    (folder / "goal.yaml").write_text(yaml.safe_dump({"subtasks": [{"name": "g", **entry}]}))
    return folder / "goal.yaml"


@given(
    st.integers(0, 16),
    st.integers(0, 16),
    st.sampled_from(["rows.jsonl", "rows.jsonl.gz", "rows.parquet", "a:1-2.jsonl"]),
)
@settings(max_examples=60)
def test_a_slice_is_that_of_a_list(tmp_path_factory, first, last, name):
    folder = tmp_path_factory.mktemp("goal")
    rows = [{"text": t} for t in TEXTS]
    (files.table_file if name.endswith("parquet") else files.jsonl)(folder / name, rows)
    path = goal_yaml(folder, steer=f"{name}:{first}-{last}")
    if not first < last <= 15:
        with pytest.raises(RequestError, match=r"empty slice|outside its 15 readable rows"):
            open_goal(path)
        return
    steer = open_goal(path).subtasks[0].steer
    assert [e.text for e in steer.examples()] == TEXTS[first:last]
    assert steer.copies == last - first - len(set(TEXTS[first:last]))
    alone = open_pool(files.jsonl(folder / "alone.jsonl", rows[first:last]))
    assert (
        steer.ids == alone.ids
        and steer.fingerprint == alone.fingerprint
        and sum(f.rows for f in steer.files) == len(steer)
    )


def test_slices_count_readable_rows_only_and_parts_of_one_file_do_not_overlap(tmp_path):
    lines = [json.dumps({"text": t + str(i)}) for i, t in enumerate(TEXTS)]
    lines[3:3] = ["broken", "", "[]"]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    path = goal_yaml(tmp_path, steer="x.jsonl:0-5", tune="x.jsonl:5-9", judge="x.jsonl:9-15")
    (task,) = open_goal(path, rejects=tmp_path / "r.jsonl").subtasks
    parts = [task.steer, task.tune, task.judge.open_for("gate")]
    assert [e.text for p in parts for e in p.examples()] == [t + str(i) for i, t in enumerate(TEXTS)]
    assert not set(parts[0].ids) & set(parts[1].ids) and [p.rejected for p in parts] == [2, 2, 2]


def test_take_rows_of_take_rows(tmp_path):
    pool = open_pool([files.jsonl(tmp_path / f"{n}.jsonl", [{"text": t} for t in TEXTS[n : n + 5]]) for n in range(3)])
    texts = [e.text for e in pool.examples()]
    part = take_rows(take_rows(pool, slice(2, 12)), slice(3, 9))
    assert [e.text for e in part.examples()] == texts[5:11] and [f.rows for f in part.files] == [0, 5, 1]
    assert len(set(part.ids)) == 6 and part.source_of(5) == "2"


@pytest.mark.parametrize("part", ["steer", "tune", "judge"])
@pytest.mark.parametrize("named", ["none.jsonl", "none.jsonl:0-2", "../none.jsonl", "x.txt"])
def test_a_file_that_is_not_there_is_named_before_anything_is_read(tmp_path, part, named):
    (tmp_path / "x.txt").write_text("")
    files.jsonl(tmp_path / "x.jsonl", [{"text": "a"}])
    with pytest.raises((RequestError, FormatError), match=r"is not here|unknown file type"):
        open_goal(goal_yaml(tmp_path, **{"steer": "x.jsonl", part: named}))


def test_the_files_of_a_goal_are_all_named_once_and_judges_are_not_opened(tmp_path):
    for name in ("a.jsonl", "b.jsonl", "sub/c.jsonl"):
        files.jsonl(tmp_path / name, [{"text": name}])
    (tmp_path / "b.jsonl").write_text("not JSON at all")
    path = goal_yaml(tmp_path, steer="a.jsonl:0-1", tune="sub", judge="b.jsonl")
    assert goal_files(path) == [path, tmp_path / "a.jsonl", tmp_path / "sub" / "c.jsonl", tmp_path / "b.jsonl"]
    same = goal_yaml(tmp_path, steer="a.jsonl:0-1", tune="a.jsonl")
    assert goal_files(same) == [same, tmp_path / "a.jsonl"]
    assert goal_files(tmp_path / "a.jsonl") == [tmp_path / "a.jsonl"]
    (tmp_path / "odd.yaml").write_text("subtasks: {steer: a.jsonl}")
    assert goal_files(tmp_path / "odd.yaml") == [tmp_path / "odd.yaml"]


def test_each_subtask_has_its_own_mapping_and_kind(tmp_path):
    files.jsonl(tmp_path / "qa.jsonl", [{"q": "Q", "why": "W", "a": 4, "meta": {"topic": "maths"}}])
    files.jsonl(tmp_path / "mc.jsonl", [{"ask": "Q2", "options": ["x", "y"], "right": 0}])
    content = {
        "subtasks": [
            {"name": "one", "steer": "qa.jsonl", "map": {"prompt": "q+meta.topic", "completion": "why + a"}},
            {"name": "two", "steer": "mc.jsonl", "choices": {"query": "ask", "choices": "options", "gold": "right"}},
            {"name": "three", "steer": "qa.jsonl", "map": {"text": "why", "source": "meta.topic"}, "judge_kind": "ppl"},
        ]
    }
    (tmp_path / "goal.yml").write_text(yaml.safe_dump(content))
    one, two, three = open_goal(tmp_path / "goal.yml").subtasks
    assert (one.steer.example(0).prompt, one.steer.example(0).response) == ("Q\nmaths", "W\n4")
    assert (two.steer.example(0).response, two.judge_kind, one.judge_kind) == ("x", "choice", "loss")
    assert (three.steer.example(0).text, three.steer.source_of(0), three.judge_kind) == ("W", "maths", "ppl")


COLUMN = st.sampled_from(["q", "d.x", "d.y.z", "n", "gone", "none", "flag", "a+b", "d"])
ROW = {"q": "Q", "d": {"x": "X", "y": {"z": 1.5}}, "n": 7, "none": None, "flag": True, "a+b": "AB"}
VALUE = {"q": "Q", "d.x": "X", "d.y.z": "1.5", "n": "7", "none": "", "a+b": "AB"}


@given(st.lists(COLUMN, min_size=2, max_size=4), st.sampled_from(["+", " + "]))
def test_joins_are_the_texts_on_lines_of_their_own(columns, plus):
    from dataworth.formats.exact import BadRowError
    from dataworth.formats.mapping import mapped

    parts = [c for name in columns for c in name.split("+")]
    expression = plus.join(columns)
    if expression == "a+b":
        assert mapped({"text": expression}, ROW) == {"text": "AB"}
        return
    first_bad = next((p for p in parts if p not in VALUE), None)
    if first_bad is None:
        assert mapped({"text": expression}, ROW) == {"text": "\n".join(v for v in map(VALUE.get, parts) if v)}
    elif first_bad in ("flag", "d"):
        with pytest.raises(BadRowError, match=f"'{first_bad}' holds"):
            mapped({"text": expression}, ROW)
    else:
        assert mapped({"text": expression}, ROW) == {}


def test_rows_that_lack_a_mapped_column_are_rejects_with_its_role(tmp_path):
    rows = [
        {"q": "a", "r": {"t": "x"}},
        {"q": "b"},
        {"q": "c", "r": {"t": None}},
        {"q": "d", "r": "flat"},
        {"q": ["e"]},
    ]
    rows += [{"q": "f", "r": {"t": "y"}}] * 3
    rejects = tmp_path / "r.jsonl"
    pool = open_pool(
        files.jsonl(tmp_path / "x.jsonl", rows), mapping={"prompt": "q", "completion": "r.t"}, rejects=rejects
    )
    assert [e.prompt for e in pool.examples()] == ["a", "f", "f", "f"] and pool.copies == 2
    assert [(r["line"], "'completion'" in r["reason"]) for r in files.rejects_of(rejects)] == [
        (2, 1),
        (3, 1),
        (4, 1),
        (5, 0),
    ]
    # Ids come from the columns as they are, so that a mapping does not change them.
    assert open_pool(files.jsonl(tmp_path / "y.jsonl", rows[:1]), mapping={"text": "q"}).ids[0] == pool.ids[0]
