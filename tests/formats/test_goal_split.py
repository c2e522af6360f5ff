"""A goal file in three parts, and protected skills."""

import json

import pytest
from tests.formats import pool_files as files

from dataworth.errors import FormatError, RequestError
from dataworth.formats import open_goal, open_pool, protect, split_goal
from dataworth.formats.goal import goal_files

ROWS = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(100)]


@pytest.fixture
def path(tmp_path):
    return files.jsonl(tmp_path / "bikes.jsonl", ROWS)


def parts_of(folder, suffix=".jsonl"):
    return {part: open_pool(folder / f"{part}{suffix}") for part in ("steer", "tune", "judge")}


def test_every_row_is_in_one_part_with_its_bytes(path, tmp_path):
    split = split_goal(path, tmp_path / "goal")
    parts = parts_of(tmp_path / "goal")
    assert split.rows == {part: len(pool) for part, pool in parts.items()}
    assert sorted(i for pool in parts.values() for i in pool.ids) == sorted(open_pool(path).ids)
    lines = [line for part in parts for line in (tmp_path / "goal" / f"{part}.jsonl").read_text().splitlines()]
    assert sorted(lines) == sorted(path.read_text().splitlines())
    assert 25 <= split.rows["steer"] <= 55 and 8 <= split.rows["tune"] <= 35 and 25 <= split.rows["judge"] <= 55


def test_the_written_goal_opens_and_names_its_parts(path, tmp_path):
    split = split_goal(path, tmp_path / "goal")
    (only,) = open_goal(split.path).subtasks
    assert (only.name, only.judge_kind, len(only.steer), len(only.tune)) == (
        "bikes",
        "loss",
        split.rows["steer"],
        split.rows["tune"],
    )
    assert len(only.judge.open_for("proof")) == split.rows["judge"]
    assert "only a proof opens judge" in split.explain() and split.to_dict()["rows"] == split.rows


def test_rows_that_come_later_move_no_other_and_order_plays_no_part(path, tmp_path):
    split_goal(path, tmp_path / "a")
    more = files.jsonl(
        tmp_path / "more" / "bikes.jsonl", [*({**r, "prompt": r["prompt"] + "!"} for r in ROWS), *ROWS[::-1]]
    )
    split_goal(more, tmp_path / "b")
    for part, pool in parts_of(tmp_path / "a").items():
        assert set(pool.ids) <= set(parts_of(tmp_path / "b")[part].ids)


def test_copies_stay_together(tmp_path):
    split_goal(files.jsonl(tmp_path / "twice.jsonl", ROWS + ROWS), tmp_path / "goal")
    seen = [{i.partition("#")[0] for i in pool.ids} for pool in parts_of(tmp_path / "goal").values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 100


def test_the_split_can_be_repeated_but_replaces_no_other_goal(path, tmp_path):
    first = split_goal(path, tmp_path / "goal")
    bytes_before = {p.name: p.read_bytes() for p in (tmp_path / "goal").iterdir()}
    assert split_goal(path, tmp_path / "goal") == first
    assert {p.name: p.read_bytes() for p in (tmp_path / "goal").iterdir()} == bytes_before
    first.path.write_text(first.path.read_text() + "protected: []\n")
    with pytest.raises(RequestError, match="says something else: expected a new folder"):
        split_goal(path, tmp_path / "goal")


def test_a_mapping_is_kept_and_packed_choices_are_judged_as_choices(tmp_path):
    rows = [{"q": f"which of {i}?", "A": "x", "B": "y", "right": "AB"[i % 2]} for i in range(90)]
    mapping = {"query": "q", "choices": "A+B", "gold": "right"}
    split = split_goal(files.jsonl(tmp_path / "mc.jsonl.gz", rows), tmp_path / "goal", mapping=mapping)
    (only,) = open_goal(split.path).subtasks
    assert only.judge_kind == split.judge_kind == "choice"
    assert {e.choices for e in only.judge.open_for("proof").examples()} == {("x", "y")}
    assert (tmp_path / "goal" / "judge.jsonl.gz").is_file()


def test_plain_text_is_judged_by_perplexity_and_rejects_are_listed(tmp_path):
    path = files.jsonl(tmp_path / "wiki.jsonl", [{"text": f"page {i}"} for i in range(90)])
    path.write_text(path.read_text() + "broken\n")
    split = split_goal(path, tmp_path / "goal")
    assert (split.judge_kind, split.rejected) == ("ppl", 1)
    assert files.rejects_of(split.rejects_path)[0]["raw"] == "broken\n" and "1 rejected" in split.explain()


@pytest.mark.parametrize("count", [1, 20, 40])
def test_too_few_judge_rows_are_refused_before_anything_is_written(count, tmp_path):
    path = files.jsonl(tmp_path / "few.jsonl", ROWS[:count])
    with pytest.raises(RequestError, match="at least 20 judge rows"):
        split_goal(path, tmp_path / "goal")
    assert not (tmp_path / "goal").exists()


def test_what_is_no_file_of_rows_is_refused(tmp_path):
    with pytest.raises(RequestError, match="holds no readable file"):
        split_goal(tmp_path, tmp_path / "goal")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(FormatError):
        split_goal(tmp_path / "x.txt", tmp_path / "goal")


PROTECTED = """
subtasks:
  - name: bikes
    steer: bikes.jsonl
    judge_kind: my_judges:spelling
protected:
  - name: wikipedia
    judge: wiki.jsonl:0-2
    judge_kind: ppl
    margin: 0.02
  - name: choices
    judge: mc.jsonl
    choices: {query: q, choices: [A, B], gold: right}
  - name: own
    judge: bikes.jsonl
    judge_kind: python judge.py {model} {rows} {out}
    margin: 0
"""


@pytest.fixture
def guarded(path, tmp_path):
    files.jsonl(tmp_path / "wiki.jsonl", [{"text": f"page {i}"} for i in range(3)])
    files.jsonl(tmp_path / "mc.jsonl", [{"q": "?", "A": "x", "B": "y", "right": "B"}])
    (tmp_path / "goal.yaml").write_text(PROTECTED)
    return tmp_path / "goal.yaml"


def test_protected_skills_are_read_and_stay_sealed(guarded):
    goal = open_goal(guarded)
    wiki, choices, own = goal.protected
    assert (wiki.name, wiki.judge_kind, wiki.margin) == ("wikipedia", "ppl", 0.02)
    assert (choices.judge_kind, choices.margin) == ("choice", None)
    assert (own.judge_kind, own.margin) == ("python judge.py {model} {rows} {out}", 0.0)
    assert goal.subtasks[0].judge_kind == "my_judges:spelling"
    assert [e.text for e in wiki.judge.open_for("proof").examples()] == ["page 0", "page 1"]
    assert next(choices.judge.open_for("gate").examples()).choices == ("x", "y")
    with pytest.raises(RequestError, match="sealed"):
        wiki.judge.open_for("select")
    assert {p.name for p in goal_files(guarded)} == {"goal.yaml", "bikes.jsonl", "wiki.jsonl", "mc.jsonl"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: wikipedia", "name: bikes", "repeat a name"),
        ("name: wikipedia", "nme: wikipedia", "protected 1: unknown key 'nme'; did you mean 'name'"),
        ("    judge: mc.jsonl\n", "", "protected 2: judge is None"),
        ("judge: mc", "judge: mcc", "is not here"),
        ("judge: mc.jsonl", "steer: mc.jsonl", "unknown key 'steer'"),
        ("judge_kind: ppl", "judge_kind: pppl", "did you mean 'ppl'"),
        ("judge_kind: ppl", "judge_kind: python judge.py {rows}", "neither module:function nor a command"),
        ("margin: 0.02", "margin: -1", "margin is -1, expected a number from 0 on"),
        ("margin: 0.02", "margin: .inf", "expected a number from 0 on"),
        ("margin: 0.02", "margin: '2%'", "expected a number from 0 on"),
        ("margin: 0.02", "margin: true", "expected a number from 0 on"),
        ("protected:", "protected: 5\nx:", "unknown key 'x'"),
        (PROTECTED[PROTECTED.index("protected:") :], "protected: 5", "protected is 5, expected a list"),
        (PROTECTED[PROTECTED.index("protected:") :], "protected: [5]", "protected 1 is 5"),
    ],
)
def test_bad_protected_skills_are_one_line_errors(guarded, old, new, words):
    guarded.write_text(PROTECTED.replace(old, new, 1))
    with pytest.raises(RequestError, match=words) as caught:
        open_goal(guarded)
    assert "\n" not in str(caught.value)


def test_the_flag_protects_a_file(guarded, monkeypatch):
    monkeypatch.chdir(guarded.parent)
    skill = protect("wikipedia=wiki.jsonl:0-2:ppl")
    assert (skill.name, skill.judge_kind, skill.margin, len(skill.judge.open_for("proof"))) == (
        "wikipedia",
        "ppl",
        None,
        2,
    )
    assert protect("b=bikes.jsonl").judge_kind == "loss"
    assert protect("w=wiki.jsonl:0-2:ppl:0.25").margin == 0.25
    assert len(protect(f"b={guarded.parent / 'bikes.jsonl'}").judge.open_for("proof")) == 100
    for flag, words in {
        "wiki.jsonl": "expected NAME=FILE",
        "=wiki.jsonl": "expected NAME=FILE",
        "w=": "expected NAME=FILE",
        "w=wiki.jsonl:pppl": "did you mean 'ppl'",
        "w=gone.jsonl": "gone.jsonl is not here",
        "w=wiki.jsonl:2-2:ppl": "an empty slice",
        "w=wiki.jsonl:ppl:-1": "margin is -1",
        "w=wiki.jsonl:ppl:1e": "margin is '1e'",
    }.items():
        with pytest.raises(RequestError, match=words):
            protect(flag)


def test_a_judge_may_be_named_for_one_file(tmp_path, path):
    split = split_goal(path, tmp_path / "goal", judge="ppl")
    assert split.judge_kind == "ppl" and open_goal(split.path).subtasks[0].judge_kind == "ppl"
    with pytest.raises(RequestError, match=r"judge_kind is 'pplx'.*did you mean 'ppl'"):
        split_goal(path, tmp_path / "other", judge="pplx")
    assert not (tmp_path / "other").exists()


def test_unmapped_json_survives_the_split_exactly(tmp_path):
    odd = '{"prompt": "\\ud800 %d", "completion": "x", "n": 123456789012345678901234567890}'
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(odd % i + "\r\n" for i in range(90)), newline="")
    split_goal(path, tmp_path / "goal")
    lines = b"".join((tmp_path / "goal" / f"{p}.jsonl").read_bytes() for p in ("steer", "tune", "judge")).splitlines(
        True
    )
    assert sorted(lines) == sorted(path.read_bytes().splitlines(True)) and json.loads(lines[0])["n"] > 2**64


def test_a_folder_of_images_is_split_as_files_are_copied_and_a_folder_of_files_is_refused(tmp_path, path):
    image = pytest.importorskip("PIL.Image")
    for k in range(90):
        at = tmp_path / "photos" / f"class{k % 2}" / f"{k}.png"
        at.parent.mkdir(parents=True, exist_ok=True)
        image.new("L", (4, 4), k).save(at)
    split = split_goal(tmp_path / "photos", tmp_path / "goal")
    names = [sorted(p.name for p in (tmp_path / "goal" / part).rglob("*.png")) for part in ("steer", "tune", "judge")]
    assert sorted(name for part in names for name in part) == sorted(f"{k}.png" for k in range(90))
    assert [len(n) for n in names] == [split.rows[part] for part in ("steer", "tune", "judge")]
    (only,) = open_goal(split.path).subtasks
    assert (only.name, only.judge_kind) == ("photos", "accuracy")
    (tmp_path / "many").mkdir()
    for name in ("a", "b"):
        (tmp_path / "many" / f"{name}.jsonl").write_bytes(path.read_bytes())
    with pytest.raises(RequestError, match=r"not one file \(2 files\)"):
        split_goal(tmp_path / "many", tmp_path / "other")
