"""Judges of the user's own: what they are given, what they may give back, how they fail."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path

import pytest
from tests.judges import judge_toys
from tests.judges.judged import CHOICES, RECIPE, Bare, asked, text
from tests.made_pools import jsonl_file

from dataworth.errors import RequestError
from dataworth.formats import open_goal
from dataworth.judges import JUDGES, JUDGES_OF_CLASSES, Trained, judge_named
from dataworth.judges.command import Command, as_dict
from dataworth.outcome import ALL_ROWS

pytestmark = pytest.mark.lm

TOYS = "tests.judges.judge_toys:"
ROWS = [asked("p", "why?", "so"), CHOICES[0], text("t", "half \ud800")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    return tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dataworth.trial import train_on

    return train_on(str(model), RECIPE, [ROWS[0]], tmp_path_factory.mktemp("trained"))


@pytest.fixture
def trained(model: Path, tmp_path: Path) -> Trained:
    return Trained(str(model), RECIPE, scratch=tmp_path)


def script(tmp_path: Path, code: str) -> str:
    (tmp_path / "judge it.py").write_text("import json, sys, time, os\nmodel, rows, out = sys.argv[1:4]\n" + code)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(tmp_path / 'judge it.py'))} {{model}} {{rows}} {{out}}"


def test_rows_are_plain_dictionaries() -> None:
    assert as_dict(ROWS[0]) == {
        "id": "p",
        "messages": [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}],
    }
    assert as_dict(ROWS[2]) == {"id": "t", "text": "half \ud800"}
    seen = as_dict(CHOICES[0])
    assert seen["choices"] == list(CHOICES[0].choices) and seen["gold"] == 2


def test_a_function_gives_a_number_per_row(trained, model) -> None:
    outcome = judge_named(TOYS + "count_words")(trained, ROWS)
    assert judge_toys.CALLS.pop() == (str(model), [as_dict(r) for r in ROWS])
    assert outcome.ids == ("p", "a", "t")
    assert outcome.value_Q.tolist() == [len(json.dumps(as_dict(r)).split()) for r in ROWS]
    assert (outcome.judge, outcome.unit, outcome.higher) == (TOYS + "count_words", "value", "better")


def test_a_function_may_give_one_number_or_leave_rows_out(trained) -> None:
    one = judge_named(TOYS + "size_of_model")(trained, ROWS)
    assert one.ids == (ALL_ROWS,) and one.mean > 1000 and one.counts == {"rows": 3}
    some = judge_named(TOYS + "some")(trained, ROWS)
    assert some.ids == ("p",) and some.unjudged == dict.fromkeys(("a", "t"), "the judge gave it no value")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("strange", "gave a value to 'zzz', which is no row's id"),
        ("nothing", "gave all rows None: expected a finite number"),
        ("infinite", "gave p inf: expected a finite number"),
        ("broken", "failed: KeyError: 'answer.*is missing'"),
        ("NO_FUNCTION", "is no function"),
        ("absent", "can't be imported: .*absent"),
    ],
)
def test_a_function_that_goes_wrong_is_one_line(trained, function, words) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        judge_named(TOYS + function)(trained, ROWS)
    assert "\n" not in str(caught.value)


def test_a_function_beside_the_user_is_found(trained, tmp_path, monkeypatch) -> None:
    (tmp_path / "my_own_judge.py").write_text("def judge(model, rows):\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert judge_named("my_own_judge:judge")(trained, ROWS).mean == 7
    assert sys.path == before


def test_a_command_gives_lines_or_one_value(trained, model, tmp_path) -> None:
    lines = "\n".join(
        [
            "given = [json.loads(line) for line in open(rows)]",
            "assert os.path.exists(os.path.join(model, 'config.json'))",
            "print('noise on stdout')",
            "with open(out, 'w') as f:",
            "    for n, row in enumerate(given): f.write(json.dumps({'id': row['id'], 'value': n}) + '\\n')",
        ]
    )
    outcome = judge_named(script(tmp_path, lines))(trained, ROWS)
    assert outcome.ids == ("p", "a", "t") and outcome.value_Q.tolist() == [0, 1, 2]
    one = judge_named(script(tmp_path, "json.dump({'value': 0.5}, open(out, 'w'))"))(trained, ROWS)
    assert one.ids == (ALL_ROWS,) and one.mean == 0.5
    assert not list(tmp_path.glob("dataworth-*")), "nothing is left behind"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("sys.exit('no such\\nmodel')", "exited with 1: no such model"),
        ("os._exit(3)", r"exited with 3: \(it said nothing\)"),
        ("pass", "wrote no {out} file"),
        ("open(out, 'w').write('accuracy: 5')", "not JSON lines"),
        ("open(out, 'w').write('[1]')", 'expected one {"value": x} or lines'),
        ("open(out, 'w').write('{\"score\": 1}')", "gave all rows None"),
        ("open(out, 'w').write('{\"value\": true}')", "gave all rows True"),
        ('open(out, \'w\').write(\'{"id": "p", "value": 1}\\n\' * 2)', "two values"),
        ('open(out, \'w\').write(\'{"id": "q", "value": 1}\')', "'q', which is no row's id"),
    ],
)
def test_a_command_that_goes_wrong_is_one_line(trained, tmp_path, code, words) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        judge_named(script(tmp_path, code))(trained, ROWS)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800


def test_a_command_that_takes_too_long_ends_with_all_it_started(trained, tmp_path) -> None:
    code = "import subprocess\np = subprocess.Popen(['sleep', '60'])\n"
    code += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))\ntime.sleep(60)"
    start = time.monotonic()
    with pytest.raises(RequestError, match="took longer than 2 s"):
        Command(script(tmp_path, code), timeout=2.0)(trained, ROWS)
    assert time.monotonic() - start < 20
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]:
            return
        time.sleep(0.1)
    pytest.fail("the judge's own child still runs")


@pytest.mark.parametrize("spec", ["lost", "python judge.py", "python judge.py {rows}", "a b:c", ""])
def test_what_is_no_judge_is_refused_with_what_is_by_goals_too(spec, tmp_path) -> None:
    with pytest.raises(RequestError, match="expected loss, choice, choice_norm, ppl, module:function or a command"):
        judge_named(spec)
    with pytest.raises(RequestError, match="judge_kind is"):
        open_goal(goal_judged_by(spec, tmp_path))


@pytest.mark.parametrize("spec", [*JUDGES, "a.b:c", "x {out} {rows}", "x --in={rows} --out={out} {model}"])
def test_goals_take_every_judge_there_is(spec, tmp_path) -> None:
    assert open_goal(goal_judged_by(spec, tmp_path)).subtasks[0].judge_kind == judge_named(spec).name == spec


def goal_judged_by(spec: str, tmp_path: Path) -> Path:
    rows = jsonl_file(tmp_path / "rows.jsonl", [{"prompt": "p", "completion": "c"}])
    (tmp_path / "goal.yaml").write_text(
        json.dumps({"subtasks": [{"name": "a", "steer": rows.name, "judge_kind": spec}]})
    )
    return tmp_path / "goal.yaml"


def test_unreadable_quotes_and_missing_programs(trained) -> None:
    with pytest.raises(RequestError, match="correct its quotes"):
        judge_named("python 'judge.py {rows} {out}")(trained, ROWS)
    with pytest.raises(RequestError, match="can't be started"):
        judge_named("no-such-program-here {rows} {out}")(trained, ROWS)


def test_the_folder_is_the_trained_model_for_transformers_and_goes_with_the_trial(model, adapter, tmp_path) -> None:
    with Trained(str(model), RECIPE, adapter, scratch=tmp_path) as trained:
        folder = trained.folder
        assert trained.folder is folder, "made once"
        whole, peft = Bare(folder), Bare(model, adapter)
        ids = peft.ids("some words for both")
        assert whole.log_probability(ids, 1) == pytest.approx(peft.log_probability(ids, 1), rel=1e-4)
        assert whole.log_probability(ids, 1) != pytest.approx(Bare(model).log_probability(ids, 1), rel=1e-4)
        assert whole.model.config.use_cache and whole.tokenizer.chat_template == peft.tokenizer.chat_template
        assert not list(folder.glob("*.bin"))
    assert not folder.exists()
    with Trained(str(model), RECIPE) as untouched:
        assert untouched.folder == model
    assert (model / "config.json").is_file()


def test_a_whole_model_that_a_training_left_is_judged_with_the_base_models_tokenizer(model, tmp_path) -> None:
    from tests.trainer_toys import leave_model

    left = tmp_path / "out" / "checkpoint-3"
    left.mkdir(parents=True)
    leave_model(model, 0, left)
    before = sorted(p.name for p in left.iterdir())
    with Trained(str(model), RECIPE, left.parent, scratch=tmp_path) as trained:
        whole = Bare(trained.folder)
        ids = whole.ids("some words for both")
        assert whole.log_probability(ids, 1) != pytest.approx(Bare(model).log_probability(ids, 1), rel=1e-4)
        row = trained.plain.encode(ROWS[0])
        nats, _ = trained.nats([row])
    with Trained(str(model), RECIPE) as untouched:
        assert nats["p"] != untouched.nats([row])[0]["p"]
    assert sorted(p.name for p in left.iterdir()) == before


def test_kinds_of_a_goal_are_the_names_of_judges() -> None:
    from dataworth.formats.goal import JUDGE_KINDS

    assert tuple(JUDGES | JUDGES_OF_CLASSES) == JUDGE_KINDS and all(judge_named(k).name == k for k in JUDGES)


def test_the_files_of_a_judge_are_known_so_that_an_edited_one_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_own_judge.py").write_text("def spelling(model, rows): return 1.0")
    assert [p.name for p in Command("my_own_judge:spelling").files] == ["my_own_judge.py"]
    assert [p.name for p in Command("python my_own_judge.py {model} {rows} --out={out}").files] == ["my_own_judge.py"]
    with pytest.raises(RequestError, match="can't be imported"):
        _ = Command("no_such_package_here.judge:spelling").files
