"""Goals: one file steers; goal.yaml names subtasks; judge rows stay sealed."""

import pytest
from tests.formats import pool_files as files

from dataworth.errors import FormatError, RequestError
from dataworth.formats import open_goal
from dataworth.formats.goal import whole_of

YAML = """
subtasks:
  - name: maths
    steer: qa.jsonl.gz:0-3
    tune: qa.jsonl.gz:3-5
    judge: qa.jsonl.gz:5-20
    map: {prompt: question, completion: why+answer}
  - name: common sense
    steer: mc.jsonl
    judge: sealed.jsonl
    choices: {query: q, choices: options, gold: right}
"""


@pytest.fixture
def folder(tmp_path):
    files.jsonl(
        tmp_path / "qa.jsonl.gz",
        [{"question": f"q{i}", "why": f"w{i}", "answer": f"a{i}"} for i in range(20)],
    )
    files.jsonl(tmp_path / "mc.jsonl", [{"q": "?", "options": ["x", "y"], "right": 1}])
    files.jsonl(tmp_path / "sealed.jsonl", [{"q": "?", "options": ["x", "y"], "right": 0}])
    (tmp_path / "goal.yaml").write_text(YAML)
    return tmp_path


def test_one_file_is_all_steer(folder):
    goal = open_goal(folder / "qa.jsonl.gz")
    (only,) = goal.subtasks
    assert (only.name, len(only.steer), only.tune, only.judge, only.judge_kind) == (
        "qa",
        20,
        None,
        None,
        "loss",
    )
    assert (
        open_goal(folder / "mc.jsonl", mapping={"query": "q", "choices": "options", "gold": "right"}).steer_rows() == 1
    )


def test_goal_yaml(folder):
    goal = open_goal(folder / "goal.yaml")
    maths, sense = goal.subtasks
    assert [e.prompt for e in maths.steer.examples()] == ["q0", "q1", "q2"]
    assert maths.steer.example(0).response == "w0\na0"
    assert [e.prompt for e in maths.tune.examples()] == ["q3", "q4"]
    assert (maths.judge_kind, sense.judge_kind) == ("loss", "choice")
    assert sense.steer.example(0).response == "y" and goal.steer_rows() == 4
    assert not set(maths.steer.ids) & set(maths.tune.ids)


def test_judge_rows_are_read_only_for_gate_and_proof(folder):
    goal = open_goal(folder / "goal.yaml")
    (folder / "sealed.jsonl").write_text("not read before it is asked for")
    goal = open_goal(folder / "goal.yaml")
    maths, sense = goal.subtasks
    with pytest.raises(RequestError, match="sealed: 'select' may not read"):
        maths.judge.open_for("select")
    assert [e.prompt for e in maths.judge.open_for("proof").examples()] == [f"q{i}" for i in range(5, 20)]
    with pytest.raises(FormatError, match="no readable row"):
        sense.judge.open_for("gate")


def test_every_goal_file_has_rejects_of_its_own(folder):
    for name in ("mc.jsonl", "sealed.jsonl"):
        with (folder / name).open("a") as file:
            file.write(f"broken in {name}\n")
    goal = open_goal(folder / "goal.yaml", rejects=folder / "rejected.jsonl")
    sealed = goal.subtasks[1].judge.open_for("proof")
    assert goal.subtasks[1].steer.rejects_path != sealed.rejects_path
    for pool, name in ((goal.subtasks[1].steer, "mc.jsonl"), (sealed, "sealed.jsonl")):
        assert files.rejects_of(pool.rejects_path)[0]["raw"] == f"broken in {name}\n"


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("subtasks:", "subtask:", RequestError, "unknown key 'subtask'; did you mean 'subtasks'"),
        ("steer: mc", "ster: mc", RequestError, "subtask 2: unknown key 'ster'; did you mean 'steer'"),
        ("query: q,", "qury: q,", RequestError, "unknown key 'qury'; did you mean 'query'"),
        ("prompt: question", "promt: question", RequestError, "did you mean 'prompt'"),
        ("completion: why+answer", "completion: why+anser", RequestError, "did you mean 'answer'"),
        ("mc.jsonl", "mcc.jsonl", RequestError, r"goal\.yaml names a file .*mcc\.jsonl is not here"),
        ("sealed.jsonl", "gone.jsonl", RequestError, "is not here"),
        ("0-3", "3-3", RequestError, "an empty slice"),
        ("0-3", "0-30", RequestError, "outside its 20 readable rows"),
        ("name: maths", "name: common sense", RequestError, "repeat a name"),
        ("name: maths", "name: ''", RequestError, "name is ''"),
        ("judge: sealed", "judge_kind: choise\n    judge: sealed", RequestError, "did you mean 'choice'"),
        ("judge: sealed.jsonl", "judge: 5", RequestError, "5 is not a file name"),
        (
            "map: {prompt: question, completion: why+answer}",
            "map: [x]",
            RequestError,
            "expected role: column",
        ),
        ("subtasks:", "subtasks: []\nx:", RequestError, "unknown key 'x'"),
        (YAML, "subtasks: []", RequestError, "expected a list with at least one"),
        (YAML, "- a\n", FormatError, "holds no mapping"),
        (YAML, "a: [", FormatError, "not plain YAML"),
        (YAML, "a: !!python/object/apply:os.system ['true']", FormatError, "not plain YAML"),
        (YAML, "subtasks: [x]", RequestError, "subtask 1 is 'x'"),
    ],
)
def test_bad_goals_are_one_line_errors(folder, old, new, error, words):
    (folder / "goal.yaml").write_text(YAML.replace(old, new, 1))
    with pytest.raises(error, match=words) as caught:
        open_goal(folder / "goal.yaml")
    assert "\n" not in str(caught.value)


def test_goal_without_rows_or_file(folder):
    (folder / "empty.jsonl").write_text("")
    with pytest.raises(FormatError, match="no readable row"):
        open_goal(folder / "empty.jsonl")
    with pytest.raises(RequestError, match="is not here"):
        open_goal(folder / "none.yaml")
    with pytest.raises(RequestError, match="put it into the file"):
        open_goal(folder / "goal.yaml", mapping={"prompt": "q"})


def test_a_part_that_only_judges_needs_no_steer_rows_but_says_how_it_judges(folder):
    text = (
        "subtasks:\n  - name: sense\n    judge: sealed.jsonl\n    judge_kind: loss\n"
        "    map: {query: q, choices: options, gold: right}\n"
    )
    (folder / "judge.yaml").write_text(text)
    goal = open_goal(folder / "judge.yaml")
    (only,) = goal.subtasks
    assert goal.steer_rows() == 0 == len(only.steer) and only.judge_kind == "loss"
    assert goal.fingerprint and len(only.judge.open_for("proof")) == 1
    (folder / "judge.yaml").write_text(text.replace("    judge_kind: loss\n", ""))
    with pytest.raises(RequestError, match="subtask 1: without steer and tune rows judge_kind has to be told"):
        open_goal(folder / "judge.yaml")
    (folder / "judge.yaml").write_text("subtasks:\n  - {name: sense}\n")
    with pytest.raises(RequestError, match="subtask 1: neither steer nor judge"):
        open_goal(folder / "judge.yaml")


def test_the_whole_of_a_part_is_found_by_what_the_goal_says_not_by_a_name(tmp_path):
    folder = tmp_path / "goal"
    (folder / "other").mkdir(parents=True)
    whole = folder / "goal.yaml"

    def written(*lines: str) -> None:
        whole.write_text("\n".join(["subtasks:", "  - name: images", *(f"    {line}" for line in lines)]) + "\n")

    written("steer: steer.jsonl", "tune: ./tune.jsonl", "judge: judge.jsonl")
    assert whole_of(folder / "steer.jsonl") == whole and whole_of(folder / "tune.jsonl") == whole
    for other in ("judge.jsonl", "er.jsonl", "images", "goal.yaml"):
        assert whole_of(folder / other) is None, other
    assert whole_of(folder) is None and whole_of(folder / "other" / "steer.jsonl") is None
    written("steer: other/steer.jsonl  # not steer.jsonl", "judge: judge.jsonl")
    assert whole_of(folder / "steer.jsonl") is None
    written("steer: goal.jsonl:0-20", "judge: goal.jsonl:20-60")
    assert whole_of(folder / "goal.jsonl") is None, "slices of one file have no part that is a file"
    written("steer: steer.jsonl")
    assert whole_of(folder / "steer.jsonl") is None, "without judge rows the whole is no better"
    for broken in ("subtasks: [1, {}]\n", "subtasks: none\n", "{", "- 1\n"):
        whole.write_text(broken)
        assert whole_of(folder / "steer.jsonl") is None
