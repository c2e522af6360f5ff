"""What a user sees before anything long: how files were understood, and what will carry loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.made_pools import jsonl_file, numbered

from dataworth import config
from dataworth.previews import goal_rejects, preview_text
from dataworth.session import Session, open_session


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def opened(rows: list[dict[str, Any]], run: Path | None = None, **more: Any) -> Session:
    jsonl_file(Path("pool.jsonl"), rows)
    values = {"pool": "pool.jsonl", "device": "cpu", "workers": 0, **more}
    return open_session(config.build(config.SelectRequest, values), run)


def test_files_and_three_rows_are_shown_with_the_response_marked() -> None:
    lines = preview_text(opened(numbered(8))).splitlines()
    assert lines[0].startswith("pool.jsonl: jsonl, 8 rows of prompt and completion")
    assert [line.split()[0] for line in lines[1:]] == ["1.", "2.", "3."]
    assert lines[1] == "  1. amber amber number 0 «yes 0»"


def test_fewer_rows_than_three_are_shown_once_each() -> None:
    assert len(preview_text(opened(numbered(2))).splitlines()) == 3


def test_every_file_is_named() -> None:
    jsonl_file(Path("other.jsonl"), [{"text": "plain words"}])
    lines = preview_text(opened(numbered(2), pool=("pool.jsonl", "other.jsonl"))).splitlines()
    assert lines[1].startswith("other.jsonl: jsonl, 1 row of plain text")


def test_a_row_is_one_line_and_cut_in_its_middle() -> None:
    long = {"prompt": "first line\nsecond " + "p" * 300, "completion": "c" * 300 + " the end"}
    row = preview_text(opened([long])).splitlines()[1]
    assert "first line⏎second" in row
    assert " … " in row
    assert row.endswith("the end»")
    assert len(row) < 320


def test_copies_are_counted_and_said_to_be_kept_apart() -> None:
    text = preview_text(opened([*numbered(3), *numbered(2)]))
    assert "2 rows are further copies of identical rows" in text
    assert "copies" not in preview_text(opened(numbered(3)))


def test_rejected_rows_of_pool_and_goal_are_told_with_their_files(tmp_path: Path) -> None:
    jsonl_file(Path("goal.jsonl"), numbered(2, 40))
    for name in ("pool.jsonl", "goal.jsonl"):
        jsonl_file(Path(name), numbered(2, 40))
        Path(name).write_text(Path(name).read_text() + "{broken\n")
    Path("run").mkdir()
    request = config.build(config.SelectRequest, {"pool": "pool.jsonl", "goal": "goal.jsonl"})
    session = open_session(request, Path("run"))
    text = preview_text(session)
    assert "1 rows were rejected: see run/rejected.jsonl" in text
    assert goal_rejects(session) == ["1 rows of goal 'goal' were rejected: see run/goal-rejected.jsonl"]
    assert goal_rejects(session)[0] in text


def test_a_sound_goal_or_none_says_nothing() -> None:
    jsonl_file(Path("goal.jsonl"), numbered(2, 40))
    assert goal_rejects(opened(numbered(2), goal="goal.jsonl")) == []
    assert goal_rejects(opened(numbered(2))) == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pytest.importorskip("torch")
    from tests.learners.tinymodel import tiny_folder

    yield tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.mark.lm
def test_with_a_model_the_template_is_shown_and_the_marks_follow_the_mask(model: Path) -> None:
    shown = preview_text(opened(numbered(1), model=str(model))).splitlines()[1]
    assert "<|im_start|>user⏎amber amber number 0<|im_end|>" in shown
    assert shown.index("«") > shown.index("assistant⏎")
    marked = shown[shown.index("«") : shown.rindex("»") + 1]
    assert marked == "«yes 0<|im_end|>»"
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    every = opened([{"messages": turns}], model=str(model), mask_like="trl")
    shown = preview_text(every).splitlines()[1]
    assert "user⏎hi" in shown[shown.index("«") : shown.rindex("»")], "trl puts loss on every token of a conversation"
