"""Which family a row belongs to, how it reads as turns, and why a row doesn't belong."""

import pytest
from tests.formats.pool_files import schema_named

from dataworth.errors import FormatError
from dataworth.formats.schemas import ORDER, choose, implied, order_for
from dataworth.records import Message

U, A, S, T = (
    (lambda role: lambda text: Message(role, text))("user"),
    *[(lambda role: lambda text: Message(role, text))(r) for r in ("assistant", "system", "tool")],
)
CHAT = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "a"},
]
SHARE = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]

CASES = [
    ({"messages": CHAT}, "messages", "sft", (S("s"), U("q"), A("a"))),
    ({"conversations": CHAT, "id": 3}, "messages", "sft", (S("s"), U("q"), A("a"))),
    ({"conversations": SHARE, "system": "s"}, "sharegpt", "sft", (S("s"), U("q"), A("a"))),
    ({"conversations": SHARE, "system": ""}, "sharegpt", "sft", (U("q"), A("a"))),
    ({"instruction": "i", "input": "x", "output": "o"}, "alpaca", "sft", (U("i\nx"), A("o"))),
    (
        {"instruction": "i", "output": "o", "system": "s", "history": [["q", "a"]]},
        "alpaca",
        "sft",
        (S("s"), U("q"), A("a"), U("i"), A("o")),
    ),
    ({"prompt": "p", "completion": "c"}, "prompt_completion", "sft", (U("p"), A("c"))),
    (
        {"prompt": CHAT[:2], "completion": CHAT[2:], "answer": "x"},
        "prompt_completion",
        "sft",
        (S("s"), U("q"), A("a")),
    ),
    ({"question": "q", "answer": "a"}, "question_answer", "sft", (U("q"), A("a"))),
    ({"query": "q", "choices": ["x", "y"], "gold": 1}, "choice", "sft", (U("q"), A("y"))),
    ({"question": "q", "choices": ["x", "y"], "answer": 0}, "choice", "sft", (U("q"), A("x"))),
    ({"text": "t", "label": 3}, "text", "text", ()),
    ({"raw_content": "t", "meta": {}}, "text", "text", ()),
    ({"prompt": "p", "completion": "c", "label": False}, "preference", "preference", (U("p"), A("c"))),
    ({"prompt": "p", "completion": "c", "label": "x"}, "prompt_completion", "sft", (U("p"), A("c"))),
    ({"prompt": "p", "chosen": "c", "rejected": "r"}, "preference", "preference", (U("p"), A("c"))),
    ({"chosen": CHAT[1:], "rejected": CHAT[1:]}, "preference", "preference", (U("q"), A("a"))),
    (
        {"prompt": CHAT[1:2], "chosen": CHAT[1:], "rejected": CHAT[1:]},
        "preference",
        "preference",
        (U("q"), A("a")),
    ),
    ({"prompt": CHAT[1:2], "reward_model": {"ground_truth": "4"}, "data_source": "x"}, "rl", "rl", (U("q"),)),
    ({"prompt": "p", "solution": 4}, "rl", "rl", (U("p"),)),
    (
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "q"}]},
                {"role": "assistant", "content": None},
            ]
        },
        "messages",
        "sft",
        (U("q"), A("")),
    ),
    (
        {"messages": [{"role": "Human", "content": "q"}, {"role": "function", "content": "r"}]},
        "messages",
        "sft",
        (U("q"), T("r")),
    ),
    ({"image": {"bytes": b"png", "path": None}, "label": "cat"}, "labelled_image", "classify", ()),
    ({"embedding": [0.5, 2], "label": 3}, "labelled_vector", "classify", ()),
    ({"messages": [{"role": "user", "content": "q"}], "embedding": [0.5], "label": 3}, "messages", "sft", (U("q"),)),
]


@pytest.mark.parametrize(("row", "name", "kind", "turns"), CASES)
def test_detection_and_turns(row, name, kind, turns):
    schema = choose([row] * 3, ORDER, "f")
    assert (schema.name, schema.kind) == (name, kind)
    assert schema.turns(row) == turns
    assert schema.text(row) == ("t" if name == "text" else "")
    assert schema_named(name) is schema


def test_every_schema_is_covered():
    assert {name for _, name, _, _ in CASES} == {s.name for s in ORDER}


def test_a_row_tells_its_schema_by_its_columns():
    for row, name, _, _ in CASES:
        assert implied(row) == name
    assert implied({"question": "q", "answer": "a"}) == "question_answer"
    assert implied({"messages": None, "text": "t"}) == "text" and implied({"n": 1}) is None


def test_task_settles_what_could_be_either():
    row = {"question": "q", "answer": "a"}
    assert choose([row], order_for(None), "f").kind == choose([row], order_for("sft"), "f").kind == "sft"
    rl = choose([row], order_for("rl"), "f")
    assert rl.kind == "rl" and rl.turns(row) == (U("q"),) and schema_named("rl", "rl") is rl


def test_half_of_the_rows_decide():
    good, other = {"text": "t"}, {"prompt": "p", "completion": "c"}
    assert choose([good, good, other], ORDER, "f").name == "text"
    assert choose([good, other], ORDER, "f").name == "prompt_completion"  # earlier in the order
    with pytest.raises(FormatError, match="no known schema in columns text, prompt, completion"):
        choose([good, other, {}], ORDER, "f")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("prompt response", "nearest: prompt_completion, .* e.g. --map prompt=prompt completion=response "),
        ("instruction response", "nearest: alpaca, .* e.g. --map prompt=instruction completion=response "),
        ("prompt", "nearest: prompt_completion, .* e.g. --map prompt=prompt completion=COLUMN "),
        ("quiz solution", r"columns quiz, solution; .* e.g. --map prompt=COLUMN completion=solution "),
        ("label", "nearest: labelled_.*COLUMN label=label "),
    ],
)
def test_columns_of_no_schema_are_told_the_mapping_to_try(columns, words):
    with pytest.raises(FormatError, match=words):
        choose([dict.fromkeys(columns.split(), "x")], ORDER, "f")


@pytest.mark.parametrize(
    ("name", "row", "words"),
    [
        ("messages", {"messages": "hi"}, "'messages' holds a string, expected a list of turns"),
        ("messages", {"messages": ["hi"]}, "turn 1 of 'messages' is a string"),
        ("messages", {"messages": [{"content": "x"}]}, "has the role None"),
        ("messages", {"messages": [{"role": "narrator", "content": "x"}]}, "has the role 'narrator'"),
        ("messages", {"messages": [{"role": "user", "content": 5}]}, "content is a number"),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "a part without text (image)",
        ),
        ("messages", {"text": "x"}, "'messages' is missing"),
        ("sharegpt", {}, "'conversations' is missing"),
        ("alpaca", {"instruction": "i", "output": None}, "'output' holds null, expected a string"),
        ("alpaca", {"instruction": "i", "output": "o", "input": 3}, "'input' holds a number"),
        ("alpaca", {"instruction": "i", "output": "o", "history": ["x"]}, "pairs"),
        ("prompt_completion", {"prompt": "p", "completion": 3}, "'completion' holds a number"),
        ("choice", {"query": "q", "choices": ["x"], "gold": 1}, "the index of one of 1 choices"),
        ("choice", {"query": "q", "choices": ["x"], "gold": True}, "true or false"),
        ("choice", {"query": "q", "choices": ["x", 3], "gold": 0}, "'choices' holds a list"),
        ("choice", {"choices": ["x"], "gold": 0}, "'question' is missing"),
        ("question_answer", {"question": "q"}, "'answer' is missing"),
        ("preference", {"chosen": "c", "rejected": 1}, "'rejected' holds a number"),
        ("preference", {"prompt": 1, "chosen": "c", "rejected": "r"}, "'prompt' holds a number"),
        ("rl", {"prompt": "p"}, "an RL prompt without"),
        ("rl", {"answer": "p"}, "'prompt' is missing"),
        ("text", {"content": 5}, "'content' holds a number"),
    ],
)
def test_objections_in_plain_words(name, row, words):
    assert words in schema_named(name).problem(row)


@pytest.mark.parametrize(
    "row",
    [{"messages": []}, {"messages": [{"role": "user", "content": ""}]}, {"messages": [CHAT[2], CHAT[1]]}],
)
def test_odd_but_readable_rows_are_carried(row):
    assert schema_named("messages").problem(row) is None
    assert len(schema_named("messages").turns(row)) == len(row["messages"])
