"""Multiple choice in the shapes it comes in, and gold in the ways it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.formats import pool_files as files

from dataworth.formats import open_pool
from dataworth.formats.schemas import choice

TEXTS = ("iron", "salt", "wood")
SHAPES = {
    "list": list(TEXTS),
    "arc": {"text": list(TEXTS), "label": ["A", "B", "C"]},
    "objects": [{"text": t, "label": n} for t, n in zip(TEXTS, "ABC", strict=True)],
    "bare objects": [{"text": t} for t in TEXTS],
    "letters": dict(zip("ABC", TEXTS, strict=True)),
}


def read(choices, gold):
    row = {"query": "which?", "choices": choices, "gold": gold}
    return choice.SCHEMA.problem(row) or choice.SCHEMA.choices(row)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gold", [1, "1", "B", "b", " B ", "salt"])
def test_every_shape_and_every_gold_name_the_same_choice(shape, gold):
    assert read(SHAPES[shape], gold) == (TEXTS, 1)


@pytest.mark.parametrize(
    ("choices", "gold", "right"),
    [
        ({"text": ["x", "y", "z", "w"], "label": ["1", "2", "3", "4"]}, "3", 2),  # ARC numbers some of its labels
        ({"text": ["x", "y"], "label": ["option1", "option2"]}, "2", 1),  # winogrande
        ({"text": ["x", "y"], "label": ["option1", "option2"]}, "option1", 0),
        (["A", "B"], "B", 1),
        (["0", "1", "2"], "1", 1),  # text and index agree
        (["yes", "no"], "no", 1),
    ],
)
def test_labels_settle_what_gold_means(choices, gold, right):
    assert read(choices, gold)[1] == right


@pytest.mark.parametrize(
    ("choices", "gold", "words"),
    [
        (["1", "2", "3"], "1", "could mean choices 0 and 1"),
        (["B", "A"], "B", "could mean choices 0 and 1"),
        (["x", "x"], "x", "could mean choices 0 and 1"),
        (["x", "y"], "D", "expected the index, letter or text of one of 2 choices"),
        (["x", "y"], "2", "expected the index, letter or text"),
        (["x", "y"], 2, "counted from 0"),
        ([], 0, "one of 0 choices"),
        ({"text": ["x", "y"], "label": ["A"]}, "A", "'choices' holds an object"),
        ({"text": ["x", 3], "label": ["A", "B"]}, "A", "'choices' holds an object"),
        ({"A": "x", "B": None}, "A", "'choices' holds an object"),
        ([{"text": "x"}, {"label": "B"}], 0, "'choices' holds a list"),
        ("xy", 0, "'choices' holds a string"),
    ],
)
def test_what_is_not_sure_is_refused_with_the_reason(choices, gold, words):
    assert words in read(choices, gold)


@given(st.lists(st.text(min_size=2, max_size=6), min_size=1, max_size=6, unique_by=lambda t: t.strip()), st.data())
def test_index_and_text_are_two_names_of_one_choice(texts, data):
    right = data.draw(st.integers(0, len(texts) - 1))
    assert read(texts, right) == (tuple(texts), right)
    by_text = read(texts, texts[right])
    assert by_text == (tuple(texts), right) or "could mean" in by_text or texts[right].strip().isdecimal()


def test_columns_side_by_side_are_choices_labelled_by_their_names(tmp_path):
    rows = [
        {"q": "1st?", "A": "x", "B": "y", "C": "z", "right": "C"},
        {"q": "2nd?", "A": "x", "B": "y", "C": None, "right": "B"},
        {"q": "3rd?", "A": "x", "B": "y", "C": None, "right": "C"},
    ]
    path = files.jsonl(tmp_path / "p.jsonl", rows)
    pool = open_pool(path, mapping={"query": "q", "choices": "A+B+C", "gold": "right"}, rejects=tmp_path / "r.jsonl")
    found = [(e.choices, e.gold, e.response) for e in pool.examples()]
    assert found == [(("x", "y", "z"), 2, "z"), (("x", "y"), 1, "y")]
    assert "is 'C'" in files.rejects_of(pool.rejects_path)[0]["reason"]


def test_csv_choices_are_read_by_letter(tmp_path):
    (tmp_path / "p.csv").write_text("q,A,B,right\nwhich?,x,y,B\n")
    pool = open_pool(tmp_path / "p.csv", mapping={"query": "q", "choices": "A+B", "gold": "right"})
    (example,) = pool.examples()
    assert (example.choices, example.gold, example.prompt) == (("x", "y"), 1, "which?")


def test_rows_without_choices_have_none(tmp_path):
    (example,) = open_pool(files.jsonl(tmp_path / "p.jsonl", [{"prompt": "p", "completion": "c"}])).examples()
    assert (example.choices, example.gold) == ((), None)


@pytest.mark.data
def test_real_choice_rows_know_their_right_answer(data):
    pool = open_pool(data / "eval_small" / "arc_easy.jsonl.gz")
    assert (len(pool), pool.rejected) == (2376, 0)
    for i in range(0, 2376, 97):
        columns, example = pool.columns(i), pool.example(i)
        assert (example.choices, example.gold) == (tuple(columns["choices"]), columns["gold"])
        assert example.response == columns["choices"][columns["gold"]]
