"""The contamination gate in a run: what it reads, what it excludes, what it records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.made_pools import held_pool, numbered

from dataworth import config
from dataworth.gating import PoolStems, gate, goal_questions, question
from dataworth.recipe import Recipe
from dataworth.records import Example, Goal, Message, Pool, Protected, Sealed, Subtask
from dataworth.session import SILENT, Session
from dataworth.store.cache import Cache

QUESTIONS = [
    {"prompt": "Which river flows through the old town of Prague?", "completion": "The Vltava."},
    {"prompt": "How many moons does the planet Neptune have?", "completion": "Sixteen."},
    {"prompt": "Who painted the ceiling of the Sistine Chapel?", "completion": "Michelangelo."},
    {"prompt": "What is the boiling point of pure ethanol at sea level?", "completion": "78.4 degrees."},
]


class Judge:
    """Sealed rows that count how often they are read."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.read = 0

    def sealed(self) -> Sealed:
        return Sealed(Path("judge.jsonl"), self.open)

    def open(self) -> Pool:
        self.read += 1
        return self.pool


def rows_asking(*numbers: int) -> Pool:
    return held_pool([QUESTIONS[n] for n in numbers])


def session(pool: Pool, goal: Goal | None, tmp_path: Path, **more: Any) -> Session:
    request = config.build(config.SelectRequest, {"pool": "pool.jsonl", **more})
    return Session(request, pool, goal, Recipe(), Cache(tmp_path), SILENT)


def near_pool() -> Pool:
    """Twelve unrelated rows, and each of the four questions with another answer."""
    return held_pool([*numbered(12), *({**q, "completion": "Another answer."} for q in QUESTIONS)])


def test_what_is_compared_is_the_prompt_or_the_text_where_there_is_none() -> None:
    asked = (Message("user", "Why?"), Message("assistant", "Because."))
    assert question(Example("i", "sft", "messages", asked)) == "Why?"
    assert question(Example("i", "text", "text", (), "the text")) == "the text"
    assert question(Example("i", "sft", "messages", (Message("assistant", "alone"),))) == "alone"


def test_stems_are_streamed_with_ids_and_sources_as_often_as_asked() -> None:
    pool = held_pool(numbered(3), sources=["a", "b", "a"])
    stems = PoolStems(pool)
    assert len(stems) == 3
    assert list(stems) == list(stems) == [(pool.ids[i], "aba"[i], numbered(3)[i]["prompt"]) for i in range(3)]


def test_every_part_of_a_goal_is_compared_judge_and_protected_rows_too() -> None:
    judge = Judge(rows_asking(2))
    goal = Goal(
        (Subtask("a", rows_asking(0), tune=rows_asking(1), judge=judge.sealed()),),
        protected=(Protected("p", Judge(rows_asking(3)).sealed()),),
    )
    found = goal_questions(goal)
    assert [text for _, text in found] == [q["prompt"] for q in QUESTIONS]
    assert [name.split(":")[0] for name, _ in found] == ["a", "a", "a", "p"]
    assert judge.read == 1


def test_rows_near_any_part_of_the_goal_leave_with_their_reason(tmp_path: Path) -> None:
    judge = Judge(rows_asking(2))
    goal = Goal(
        (Subtask("a", rows_asking(0), tune=rows_asking(1), judge=judge.sealed()),),
        protected=(Protected("p", Judge(rows_asking(3)).sealed()),),
    )
    opened = session(near_pool(), goal, tmp_path)
    gate(opened)
    assert set(opened.excluded) == set(opened.pool.ids[12:])
    assert {code for code, _ in opened.excluded.values()} == {"near-goal"}
    assert all(why for _, why in opened.excluded.values())
    (recorded,) = opened.guards
    assert recorded["guard"] == "contamination-gate"
    assert (recorded["rows"], recorded["keep_near_goal"], recorded["passed"]) == (4, False, True)
    assert "4 pool rows are nearly equal to 4 of 4 goal rows" in opened.notes[0]
    assert "--keep-near-goal" in opened.notes[0]
    assert opened.costs["gate"]["rows"] == 16
    assert judge.read == 1, "the judge rows were opened once, by the gate"


def test_near_rows_can_be_kept_and_the_record_says_so(tmp_path: Path) -> None:
    opened = session(near_pool(), Goal((Subtask("a", rows_asking(0, 1)),)), tmp_path, keep_near_goal=True)
    gate(opened)
    assert opened.excluded == {}
    assert (opened.guards[0]["rows"], opened.guards[0]["keep_near_goal"]) == (2, True)
    assert opened.notes[0].endswith("Kept, as asked.")


def test_a_pool_away_from_the_goal_passes_and_is_recorded(tmp_path: Path) -> None:
    opened = session(held_pool(numbered(10)), Goal((Subtask("a", rows_asking(0)),)), tmp_path)
    gate(opened)
    assert (opened.excluded, opened.notes) == ({}, [])
    assert opened.guards[0]["evidence"] == "none of 10 pool rows is near the goal"
    assert opened.guards[0]["rows"] == 0


def test_every_copy_of_a_near_row_leaves(tmp_path: Path) -> None:
    near = {**QUESTIONS[0], "completion": "x"}
    opened = session(held_pool([near, *numbered(4), near]), Goal((Subtask("a", rows_asking(0)),)), tmp_path)
    gate(opened)
    assert set(opened.excluded) == {opened.pool.ids[0], f"{opened.pool.ids[0]}#1"}


def test_without_a_goal_nothing_happens(tmp_path: Path) -> None:
    opened = session(near_pool(), None, tmp_path)
    gate(opened)
    assert (opened.excluded, opened.guards, opened.notes, opened.costs) == ({}, [], [], {})


def test_a_goal_without_words_is_recorded_as_not_applicable(tmp_path: Path) -> None:
    wordless = held_pool([{"prompt": "?!", "completion": "..."}])
    opened = session(near_pool(), Goal((Subtask("a", wordless),)), tmp_path)
    gate(opened)
    assert opened.excluded == {}
    assert opened.guards[0]["evidence"].startswith("not applicable: the goal has no row with words")


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_the_pool_changes_nothing(order: int, tmp_path: Path) -> None:
    rows = [*numbered(12), *({**q, "completion": "Another answer."} for q in QUESTIONS)]
    opened = session(held_pool(rows[::order]), Goal((Subtask("a", rows_asking(0, 1, 2)),)), tmp_path)
    gate(opened)
    assert set(opened.excluded) == set(near_pool().ids[12:15])


@pytest.mark.parametrize("encoded", [False, True])
def test_a_test_image_in_the_pool_is_left_out_whatever_its_class_and_its_likes_stay(
    tmp_path: Path, encoded: bool
) -> None:
    """Fails where a picture has no words and so passes as unlike every other."""
    import numpy as np

    from dataworth.formats import open_goal, open_pool

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 6, 6, 3)).astype(np.uint8)
    test = pixels[:20].copy()
    test[10:] ^= 1  # looks alike, and isn't the same
    if encoded:
        image = pytest.importorskip("PIL.Image")
        for name, found in (("pool", pixels), ("test", test)):
            for n, one in enumerate(found):
                at = tmp_path / name / f"class{(n + (name == 'test')) % 2}" / f"{n}.png"
                at.parent.mkdir(parents=True, exist_ok=True)
                image.fromarray(one).save(at)
        paths = tmp_path / "pool", tmp_path / "test"
    else:
        np.savez(tmp_path / "pool.npz", image=pixels, label=np.arange(40) % 2)
        np.savez(tmp_path / "test.npz", image=test, label=(np.arange(20) + 1) % 2)
        paths = tmp_path / "pool.npz", tmp_path / "test.npz"
    opened = session(open_pool(paths[0]), open_goal(paths[1]), tmp_path)
    gate(opened)
    left_out = [opened.pool.example(opened.pool.position[i]).content for i in opened.excluded]
    if encoded:
        copies = [next((tmp_path / "test").rglob(f"{n}.png")).read_bytes() for n in range(10)]
        assert sorted(left_out) == sorted(copies)
    else:
        assert sorted(c.tobytes() for c in left_out) == sorted(c.tobytes() for c in pixels[:10])
