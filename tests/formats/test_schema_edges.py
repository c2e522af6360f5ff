"""Where each schema ends: roles, tool turns, parts, nulls; and that a pool holds every row to its file's schema."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.formats import pool_files as files

from dataworth.errors import FormatError
from dataworth.formats import open_pool
from dataworth.formats.schemas import LABELLED, ORDER, ROLES, choose, order_for
from dataworth.formats.schemas.base import ROLE_OF
from dataworth.records import Message


def problem(name: str, row: dict) -> str | None:
    return files.schema_named(name).problem(row)


def turns(name: str, row: dict) -> list[tuple[str, str]]:
    assert problem(name, row) is None
    return [(m.role, m.content) for m in files.schema_named(name).turns(row)]


@pytest.mark.parametrize(("said", "meant"), ROLE_OF.items())
def test_every_spelling_of_a_role_in_any_case(said, meant):
    for role in (said, said.upper(), said.title()):
        assert turns("messages", {"messages": [{"role": role, "content": "x"}]}) == [(meant, "x")]
        assert turns("sharegpt", {"conversations": [{"from": role, "value": "x"}]}) == [(meant, "x")]


@pytest.mark.parametrize("role", ["", " user", "users", "narrator", None, 3, ["user"], {"role": "user"}, True])
def test_other_roles_are_named_with_their_turn(role):
    chat = [{"role": "user", "content": "q"}, {"role": role, "content": "a"}]
    said = problem("messages", {"messages": chat})
    assert said is not None and said.startswith("turn 2 of 'messages' has the role") and repr(role) in said


def test_a_tool_conversation_keeps_its_order_and_reads_a_bare_call_as_empty():
    chat = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "w"}}]},
        {"role": "tool", "content": "12 degrees", "tool_call_id": "1"},
        {"role": "assistant", "content": "12"},
    ]
    read = turns("messages", {"messages": chat})
    assert [r for r, _ in read] == ["system", "user", "assistant", "tool", "assistant"]
    assert [t for _, t in read] == ["be brief", "weather?", "", "12 degrees", "12"]
    share = [{"from": "function_call", "value": "{}"}, {"from": "observation", "value": "12"}]
    assert [r for r, _ in turns("sharegpt", {"conversations": share})] == ["assistant", "tool"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"text": ""}], ""),
        (None, ""),
        ("", ""),
    ],
)
def test_content_as_text_or_parts(content, text):
    assert turns("messages", {"messages": [{"role": "user", "content": content}]}) == [("user", text)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"type": "image_url", "image_url": {}}], "a part without text (image_url)"),
        ([{"type": "text", "text": None}], "a part without text (text)"),
        (["bare string"], "a part without text (a string)"),
        ([None], "a part without text (null)"),
        ({"text": "x"}, "is an object"),
        (0, "is a number"),
        (False, "is true or false"),
    ],
)
def test_content_that_is_not_text_is_refused(content, words):
    said = problem("messages", {"messages": [{"role": "user", "content": content}]})
    assert said is not None and words in said


def test_a_turn_without_content_is_empty_and_further_keys_are_ignored():
    chat = [{"role": "user", "name": "bob", "weight": 0}, {"role": "assistant", "content": "a", "content2": 5}]
    assert turns("messages", {"messages": chat, "tools": None}) == [("user", ""), ("assistant", "a")]


@pytest.mark.parametrize("value", [None, "text", {"role": "user"}, 3, ("a",)])
def test_messages_must_be_a_list(value):
    assert "expected a list of turns" in problem("messages", {"messages": value})


def test_the_first_of_several_conversation_columns_counts():
    chat = [{"role": "user", "content": "first"}]
    other = [{"role": "user", "content": "second"}]
    row = {"dialog": other, "messages": chat, "conversations": other}
    assert turns("messages", row) == [("user", "first")]
    share = {"dialog": [{"from": "human", "value": "d"}], "conversation": [{"from": "human", "value": "c"}]}
    assert turns("sharegpt", share) == [("user", "c")]


@pytest.mark.parametrize("system", [None, "", 5, ["s"]])
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("sharegpt", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}),
        ("prompt_completion", {"prompt": "q", "completion": "a"}),
        ("question_answer", {"question": "q", "answer": "a"}),
        ("alpaca", {"instruction": "q", "output": "a"}),
        ("choice", {"query": "q", "choices": ["b", "a"], "gold": 1}),
    ],
)
def test_only_a_system_that_says_something_becomes_a_turn(name, row, system):
    assert turns(name, {**row, "system": system}) == [("user", "q"), ("assistant", "a")]
    assert turns(name, {**row, "system": "s"}) == [("system", "s"), ("user", "q"), ("assistant", "a")]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"instruction": "i", "output": "o", "history": "x"}, "pairs"),
        ({"instruction": "i", "output": "o", "history": [["q"]]}, "pairs"),
        ({"instruction": "i", "output": "o", "history": [["q", None]]}, "pairs"),
        ({"instruction": "i", "output": "o", "history": [["q", "a", "b"]]}, "pairs"),
        ({"instruction": None, "output": "o"}, "'instruction' holds null"),
        ({"output": "o"}, "'instruction' is missing"),
        ({"instruction": "i", "output": "o", "input": []}, "'input' holds a list"),
    ],
)
def test_alpaca_objections(row, words):
    assert words in problem("alpaca", row)


def test_alpaca_history_stands_between_system_and_question():
    row = {"instruction": "i", "input": "", "output": "", "system": "s", "history": [["a", "b"], ["c", ""]]}
    said = turns("alpaca", row)
    assert [t for _, t in said] == ["s", "a", "b", "c", "", "i", ""]
    assert [r for r, _ in said] == ["system", "user", "assistant", "user", "assistant", "user", "assistant"]
    for none in (None, []):
        assert turns("alpaca", {**row, "history": none, "system": None}) == [("user", "i"), ("assistant", "")]


@pytest.mark.parametrize("gold", [-1, 2, 1.0, "2", "c", "", None, True])
def test_choice_needs_the_index_of_a_choice(gold):
    assert problem("choice", {"query": "q", "choices": ["a", "b"], "gold": gold}) is not None
    assert problem("choice", {"query": "q", "choices": ["a", "b"], "gold": 1}) is None


def test_choice_columns_may_be_mixed_and_gold_wins_over_answer():
    row = {"question": "q", "choices": ["a", "b"], "gold": 0, "answer": 1}
    assert turns("choice", row)[-1] == ("assistant", "a")
    assert problem("choice", {"query": None, "question": "q", "choices": ["a"], "gold": 0}) is not None
    assert problem("choice", {"query": "q", "choices": [], "gold": 0}) is not None
    assert problem("choice", {"query": "q", "choices": "ab", "gold": 0}) is not None


CHAT_Q, CHAT_A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "q|a"),
        ({"prompt": None, "chosen": "a", "rejected": "b"}, "a"),
        ({"prompt": [CHAT_Q], "chosen": [CHAT_A], "rejected": [CHAT_A]}, "q|a"),
        ({"prompt": "q", "chosen": [CHAT_Q, CHAT_A], "rejected": [CHAT_Q, CHAT_A]}, "q|a"),
        ({"prompt": "other", "chosen": [CHAT_Q, CHAT_A], "rejected": "b"}, "other|q|a"),
        ({"prompt": [CHAT_Q], "completion": [CHAT_A], "label": True}, "q|a"),
        ({"prompt": "q", "completion": "a", "label": False}, "q|a"),
    ],
)
def test_preference_sides(row, expected):
    assert "|".join(t for _, t in turns("preference", row)) == expected


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": "a"},
        {"chosen": None, "rejected": "b"},
        {"chosen": "a", "rejected": ["b"]},
        {"prompt": 1, "chosen": "a", "rejected": "b"},
        {"prompt": "q", "completion": "a", "label": 1},
        {"prompt": "q", "completion": "a", "label": None},
        {"completion": "a", "label": True},
        {"prompt": "q", "chosen": "a", "completion": "a", "label": True},
    ],
)
def test_what_is_no_preference(row):
    assert problem("preference", row) is not None


@pytest.mark.parametrize("truth", ["answer", "solution", "ground_truth", "expected_answer", "reward_model"])
def test_an_rl_row_needs_something_to_check_against_and_no_completion(truth):
    assert problem("rl", {"prompt": "p", truth: 0}) is None
    assert "without one of" in problem("rl", {"prompt": "p", truth: None})
    assert "'completion' stands" in problem("rl", {"prompt": "p", truth: "x", "completion": None})
    asked = files.schema_named("rl", "rl")
    assert asked.problem({"question": "p", truth: [1]}) is None and problem("rl", {"question": "p", truth: 1})
    assert asked.turns({"question": "p", truth: 1}) == (Message("user", "p"),)


@pytest.mark.parametrize("name", ["text", "content", "raw_content"])
def test_plain_text_columns(name):
    assert problem("text", {name: ""}) is None and files.schema_named("text").text({name: "x"}) == "x"
    for bad in (None, 3, ["x"], {}):
        assert problem("text", {name: bad}) is not None
    assert files.schema_named("text").text({"content": "second", "text": "first"}) == "first"


def test_every_required_role_is_read_and_may_be_mapped():
    for schema in ORDER:
        assert set(schema.required) <= set(schema.roles) <= set(ROLES)
        assert problem(schema.name, {}) is not None
    assert len(ROLES) == len(set(ROLES)) and ROLES[-1] == "source"
    labelled = {s.name for s in LABELLED}
    assert {s.name for s in order_for("sft")} == {s.name for s in ORDER} - {"rl"} - labelled
    assert {s.name for s in order_for("classify")} == labelled and not labelled & {s.name for s in order_for("rl")}


LEAVES = st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "user", "gpt", "x"])
TURN = st.dictionaries(st.sampled_from(["role", "content", "from", "value", "text", "type"]), LEAVES, max_size=4)
CELL = LEAVES | st.lists(LEAVES | TURN | st.lists(LEAVES, max_size=2), max_size=3) | TURN
ROW = st.dictionaries(st.sampled_from([r for r in ROLES if r != "source"]), CELL, max_size=5)


@given(st.lists(ROW, min_size=1, max_size=4), st.sampled_from([None, "sft", "rl"]))
@settings(max_examples=400)
def test_whatever_a_schema_accepts_it_can_read(rows, task):
    """No accepted row breaks `turns` or `text`; a chosen schema holds for half of the rows, and no earlier one does."""
    order = order_for(task)
    for schema in order:
        for row in rows:
            if schema.problem(row) is None:
                assert all(type(m.content) is str and m.role in ROLE_OF.values() for m in schema.turns(row))
                assert type(schema.text(row)) is str
            else:
                assert "\n" not in schema.problem(row)
    fitting = [s.name for s in order if 2 * sum(s.problem(r) is None for r in rows) >= len(rows)]
    try:
        assert choose(rows, order, "f.jsonl").name == fitting[0]
    except FormatError as error:
        assert not fitting and "f.jsonl" in str(error)


def test_a_row_unlike_its_files_schema_is_a_reject_with_its_reason(tmp_path):
    good = {"messages": [CHAT_Q, CHAT_A]}
    odd = [{"prompt": "p", "completion": "c"}, {"messages": [{"role": "narrator", "content": ""}]}, {"messages": None}]
    rejects = tmp_path / "r.jsonl"
    pool = open_pool(files.jsonl(tmp_path / "x.jsonl", [good, *odd, {**good, "n": 1}] + [good] * 2), rejects=rejects)
    assert len(pool) == 4 and pool.rejected == 3
    assert [r["line"] for r in files.rejects_of(rejects)] == [2, 3, 4]
    assert ["missing" in r["reason"] for r in files.rejects_of(rejects)] == [True, False, False]


def test_files_of_one_pool_may_have_other_schemas(tmp_path):
    rows = [{"text": "t"}, {"prompt": "p", "completion": "c"}, {"chosen": "a", "rejected": "b"}]
    pool = open_pool([files.jsonl(tmp_path / f"{n}.jsonl", [row]) for n, row in enumerate(rows)])
    assert [f.schema for f in pool.files] == ["text", "prompt_completion", "preference"]
    assert [e.kind for e in pool.examples()] == ["text", "sft", "preference"]
    assert [e.full_text for e in pool.examples()] == ["t", "p\nc", "a"]
