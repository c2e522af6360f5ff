"""Ids and their order, pools, sealed rows, goals, budgets, and sampling by hash."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.made_pools import held_pool, numbered

from dataworth.errors import RequestError
from dataworth.records import (
    Budget,
    Example,
    Goal,
    Message,
    Protected,
    Sealed,
    Subtask,
    digest_of,
    format_id,
    hash_unit,
    id_order,
)

IDS = st.lists(
    st.tuples(st.sampled_from(["0" * 32, "a" * 32, "f" * 31 + "0"]), st.integers(0, 30)), unique=True, max_size=20
)


def turns(*said: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message(role, text) for role, text in said)


def test_an_id_is_the_blake2b_of_the_row_and_the_number_of_its_copy() -> None:
    digest = digest_of(b'{"a":1}')
    assert digest == hashlib.blake2b(b'{"a":1}', digest_size=16).digest()
    assert format_id(digest, 0) == digest.hex()
    assert len(format_id(digest, 0)) == 32
    assert format_id(digest, 3) == f"{digest.hex()}#3"


def test_copies_get_numbered_ids_in_pool_order() -> None:
    row, other = numbered(2)
    pool = held_pool([row, other, row, row])
    first, second, third, fourth = pool.ids
    assert (third, fourth) == (f"{first}#1", f"{first}#2")
    assert "#" not in second
    assert pool.copies == 2
    assert [pool.position[i] for i in pool.ids] == [0, 1, 2, 3]
    assert pool.ids == tuple(format_id(pool.digest_N16[i].tobytes(), int(pool.copy_N[i])) for i in range(4))


def test_copy_two_sorts_before_copy_ten() -> None:
    a, b = "a" * 32, "b" * 32
    ids = [f"{a}#10", b, f"{a}#2", a, f"{a}#1", f"{b}#1"]
    assert [ids[i] for i in id_order(ids)] == [a, f"{a}#1", f"{a}#2", f"{a}#10", b, f"{b}#1"]


def test_no_ids_have_an_empty_order() -> None:
    order = id_order([])
    assert order.dtype == np.int64
    assert len(order) == 0


@given(IDS, st.randoms())
def test_id_order_is_a_permutation_that_ignores_the_order_given(
    parts: list[tuple[str, int]], rng: random.Random
) -> None:
    ids = [h if k == 0 else f"{h}#{k}" for h, k in parts]
    shuffled = rng.sample(ids, len(ids))
    assert sorted(id_order(ids).tolist()) == list(range(len(ids)))
    assert [ids[i] for i in id_order(ids)] == [shuffled[i] for i in id_order(shuffled)]
    assert [ids[i] for i in id_order(ids)] == [h if k == 0 else f"{h}#{k}" for h, k in sorted(parts)]


def naive_order(ids: list[str]) -> list[int]:
    keys = [(i[:32], int(i[33:]) if len(i) > 32 else 0, n) for n, i in enumerate(ids)]
    return [n for *_, n in sorted(keys)]


HALF = "0123456789abcdef"
HEADS = [HALF * 2, HALF + "f" * 16, HALF + "0" * 16, "f" * 32, "0" * 32, "8" + "0" * 31, "7" + "f" * 31]
ODD = ["a", "", HALF, "F" * 32, "f" * 31 + "G", "f" * 31 + " ", "é" * 32, "f" * 31 + "\0", HALF.upper() * 2]
NUMBERED = st.builds(lambda head, k: head + (f"#{k}" if k else ""), st.sampled_from(HEADS), st.integers(0, 2**32))


@given(st.lists(NUMBERED | st.sampled_from(HEADS), max_size=30))
def test_ids_of_pools_sort_by_digest_then_copy_then_place(ids: list[str]) -> None:
    """Also where digests agree in one half, and where an id comes twice."""
    assert id_order(ids).tolist() == naive_order(ids)
    assert id_order(tuple(ids)).dtype == np.int64


@given(st.lists(NUMBERED | st.sampled_from(ODD) | st.text(max_size=32), max_size=20))
def test_ids_that_are_no_digests_sort_as_texts(ids: list[str]) -> None:
    assert id_order(ids).tolist() == naive_order(ids)


@pytest.mark.parametrize("copy", [f"{'a' * 32}#{2**70}", f"{'a' * 32}# 3", f"{'a' * 32}#-1", f"{'é' * 32}#2"])
def test_copies_of_any_number_have_a_place(copy: str) -> None:
    ids = [copy, "a" * 32, f"{'a' * 32}#2", "b" * 32, f"{'a' * 32}#{2**63}"]
    assert id_order(ids).tolist() == naive_order(ids)


@pytest.mark.parametrize("bad", ["a" * 33, f"{'a' * 32}#", f"{'a' * 32}#x"])
def test_an_id_whose_copy_is_no_number_is_an_error_as_ever(bad: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        id_order(["b" * 32, bad])


def test_many_digests_sort_as_texts_do() -> None:
    hexes = np.random.default_rng(0).bytes(16 * 5000).hex()
    ids = [hexes[32 * i : 32 * i + 32] for i in range(5000)]
    ids += [f"{i}#{k}" for k, i in enumerate(ids[:500], 1)]
    assert id_order(ids).tolist() == naive_order(ids)


def test_a_pool_reads_rows_by_position_in_the_order_asked() -> None:
    rows = numbered(5)
    pool = held_pool(rows, sources=["x", "y", "x", "y", "x"], rejected=2)
    assert len(pool) == 5
    assert [e.response for e in pool.examples([4, 0])] == [rows[4]["completion"], rows[0]["completion"]]
    assert [e.id for e in pool.examples()] == list(pool.ids)
    assert pool.columns(3) == rows[3]
    assert digest_of(pool.raw(2)).hex() == pool.ids[2]
    assert [pool.source_of(i) for i in range(5)] == ["x", "y", "x", "y", "x"]
    assert pool.kinds == {"sft"}


def test_rows_without_an_answer_are_found_by_the_way_of_a_whole_pass_or_by_one_of_their_own() -> None:
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": " \n"}, {"prompt": "d", "completion": ""}]
    for look in (list, lambda _: None):
        pool = held_pool(rows)
        list(pool.examples([0]))
        assert "unanswered" not in vars(pool), "part of a pool says nothing about the rest"
        look(pool.examples())
        assert pool.unanswered == {pool.ids[1], pool.ids[2]}
    passed = held_pool(rows)
    list(passed.examples())
    assert "unanswered" in vars(passed)


@pytest.mark.parametrize(
    ("kind", "turns", "answered"),
    [
        ("sft", (("user", "q"), ("assistant", "a")), True),
        ("sft", (("user", "q"), ("assistant", "a"), ("user", "q")), True),
        ("sft", (("user", "q"), ("assistant", "a"), ("assistant", "")), True),
        ("sft", (("user", "q"), ("assistant", "\t")), False),
        ("sft", (("user", "q"),), False),
        ("sft", (), False),
        ("rl", (("user", "q"),), True),
        ("preference", (("user", "q"),), True),
        ("text", (), True),
    ],
)
def test_only_a_supervised_row_needs_an_answer(kind: Any, turns: Any, answered: bool) -> None:
    assert Example("0" * 32, kind, "messages", tuple(Message(*t) for t in turns)).answered is answered


def test_a_file_without_rows_gives_the_pool_no_kind() -> None:
    pool = held_pool(numbered(2))
    empty = replace(pool.files[0], kind="text", rows=0)
    assert replace(pool, files=(*pool.files, empty)).kinds == {"sft"}


def test_the_fingerprint_of_a_pool_knows_rows_and_copies_but_not_order_or_paths() -> None:
    rows = numbered(6)
    pool = held_pool(rows)
    moved = replace(held_pool(rows[::-1]), files=(replace(pool.files[0], path=Path("elsewhere.jsonl")),))
    assert pool.fingerprint == moved.fingerprint
    assert pool.fingerprint != held_pool(rows[:5]).fingerprint
    assert pool.fingerprint != held_pool([*rows, rows[0]]).fingerprint
    assert len(pool.fingerprint) == 64


@pytest.mark.parametrize(
    ("example", "prompt", "response", "text"),
    [
        (Example("i", "text", "text", (), "whole"), "", "whole", "whole"),
        (Example("i", "sft", "messages", turns(("user", "q"), ("assistant", "a"))), "q", "a", "q\na"),
        (Example("i", "sft", "messages", turns(("user", "q"))), "q", "", "q"),
        (
            Example("i", "sft", "messages", turns(("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "r"))),
            "s\nq\na\nr",
            "",
            "s\nq\na\nr",
        ),
        (
            Example(
                "i", "sft", "messages", turns(("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"))
            ),
            "1\n2\n3",
            "4",
            "1\n2\n3\n4",
        ),
        (Example("i", "sft", "messages"), "", "", ""),
    ],
)
def test_prompt_and_response_split_at_the_last_assistant_turn(
    example: Example, prompt: str, response: str, text: str
) -> None:
    assert (example.prompt, example.response, example.full_text) == (prompt, response, text)


@pytest.mark.parametrize("caller", ["gate", "proof"])
def test_judge_rows_open_for_the_gate_and_the_proof(caller: Any) -> None:
    pool = held_pool(numbered(2))
    assert Sealed(Path("judge.jsonl"), lambda: pool).open_for(caller) is pool


@pytest.mark.parametrize("caller", ["steer", "score", "less", "", "Gate", None])
def test_nobody_else_opens_judge_rows_nor_has_them_read(caller: Any) -> None:
    opened: list[str] = []
    sealed = Sealed(Path("judge.jsonl"), lambda: opened.append("read"))  # type: ignore[arg-type,return-value]
    with pytest.raises(RequestError, match=r"judge\.jsonl are sealed.*use the steer rows"):
        sealed.open_for(caller)
    assert opened == []
    assert "lambda" not in repr(sealed)


def test_a_goal_needs_a_subtask_and_unique_names() -> None:
    steer = held_pool(numbered(2))
    with pytest.raises(RequestError, match="no subtask"):
        Goal(())
    with pytest.raises(RequestError, match="repeat a name"):
        Goal((Subtask("a", steer), Subtask("b", steer), Subtask("a", steer)))
    with pytest.raises(RequestError, match="repeat a name"):
        Goal((Subtask("a", steer),), (Protected("a", Sealed(Path("p.jsonl"), lambda: steer)),))
    assert Goal((Subtask("a", steer), Subtask("b", held_pool(numbered(3))))).steer_rows() == 5


def test_the_fingerprint_of_a_goal_knows_names_and_steer_rows_only() -> None:
    steer, other = held_pool(numbered(2)), held_pool(numbered(2, start=50))
    goal = Goal((Subtask("a", steer),))
    assert goal.fingerprint == Goal((Subtask("a", held_pool(numbered(2)[::-1])),)).fingerprint
    sealed = Sealed(Path("p.jsonl"), lambda: other)
    assert goal.fingerprint == Goal((Subtask("a", steer, tune=other),), (Protected("p", sealed),)).fingerprint
    assert goal.fingerprint != Goal((Subtask("b", steer),)).fingerprint
    assert goal.fingerprint != Goal((Subtask("a", other),)).fingerprint


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("200", "rows", 200),
        (200, "rows", 200),
        ("1", "rows", 1),
        (" 1_000 ", "rows", 1000),
        ("5%", "fraction", 0.05),
        ("0.5%", "fraction", 0.005),
        ("100%", "fraction", 1.0),
        ("0.05", "fraction", 0.05),
        (0.05, "fraction", 0.05),
        ("1e-3", "fraction", 0.001),
        ("200ktok", "tokens", 200_000),
        ("1.5Mtok", "tokens", 1_500_000),
        ("2gtok", "tokens", 2_000_000_000),
        ("750tok", "tokens", 750),
        ("750 TOK", "tokens", 750),
    ],
)
def test_budgets_are_read(text: Any, unit: str, amount: float) -> None:
    found = Budget.parse(text)
    assert found.unit == unit
    assert found.amount == pytest.approx(amount)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not understood"),
        ("some", "not understood"),
        ("5 rows", "not understood"),
        ("tok", "not understood"),
        ("ktok", "not understood"),
        ("%", "not understood"),
        (True, "not understood"),
        (None, "not understood"),
        ("0", "out of range"),
        ("-3", "out of range"),
        ("0%", "out of range"),
        ("101%", "out of range"),
        ("1.5", "out of range"),
        ("1e3", "out of range"),
        ("-1ktok", "out of range"),
        ("inftok", "out of range"),
        ("nantok", "out of range"),
        (float("nan"), "out of range"),
        (float("inf"), "out of range"),
        (1.0, "say 1 or 100%"),
        ("1.0", "say 1 or 100%"),
        ("1e0", "say 1 or 100%"),
    ],
)
def test_what_is_no_budget_is_refused_with_what_would_be(text: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        Budget.parse(text)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.integers(1, 10**12), st.sampled_from(["rows", "tokens"]))
def test_a_whole_budget_survives_being_written(amount: int, unit: Any) -> None:
    budget = Budget(unit, float(amount))
    assert Budget.parse(str(budget)) == budget


@given(st.integers(1, 10_000))
def test_a_share_in_hundredths_of_a_percent_survives_being_written(hundredths: int) -> None:
    budget = Budget.parse(f"{hundredths / 100}%")
    assert Budget.parse(str(budget)).amount == pytest.approx(hundredths / 10_000)
    assert str(Budget.parse(str(budget))) == str(budget)


@pytest.mark.parametrize(
    ("keep", "rows"), [("5%", 10), ("0.1%", 1), ("100%", 200), ("7", 7), ("500", 500), ("0.29", 58)]
)
def test_rows_of_a_budget_are_floored_and_at_least_one(keep: str, rows: int) -> None:
    assert Budget.parse(keep).rows(200) == rows


@given(st.integers(1, 100), st.integers(1, 5000))
def test_a_percentage_of_rows_is_the_exact_floor(percent: int, readable: int) -> None:
    assert Budget.parse(f"{percent}%").rows(readable) == max(1, percent * readable // 100)


def test_tokens_have_no_row_count() -> None:
    with pytest.raises(RequestError, match="token budget has no row count"):
        Budget.parse("1ktok").rows(10)


def test_hash_numbers_are_uniform() -> None:
    u = hash_unit([f"{i:032x}" for i in range(20_000)], seed=0, purpose="test")
    assert u.dtype == np.float64
    assert 0 <= u.min() < u.max() < 1
    counts, _ = np.histogram(u, bins=20, range=(0, 1))
    chi2 = ((counts - 1000) ** 2 / 1000).sum()
    assert chi2 < 43.8, "the 99.9% point of chi-square with 19 degrees of freedom"
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.03


def test_hash_numbers_belong_to_the_id_the_seed_and_the_purpose() -> None:
    ids = [format_id(digest_of(str(i).encode()), i % 3) for i in range(50)]
    u = hash_unit(ids, 1, "warm-up")
    assert np.array_equal(hash_unit(ids[::-1], 1, "warm-up"), u[::-1])
    assert np.array_equal(hash_unit(ids[10:20], 1, "warm-up"), u[10:20]), "other rows change nothing"
    assert not (hash_unit(ids, 2, "warm-up") == u).any()
    assert not (hash_unit(ids, 1, "random") == u).any()
    assert len(set(u.tolist())) == 50
    assert hash_unit([], 0, "x").shape == (0,)


def test_hash_numbers_are_those_of_the_written_formula() -> None:
    expected = int.from_bytes(hashlib.blake2b(b"draw:7:abc", digest_size=8).digest(), "big") / 2**64
    assert hash_unit(["abc"], 7, "draw")[0] == expected
