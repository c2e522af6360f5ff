"""Law 3 against an O(N*Q) twin on small random corpora, and its three borders met exactly."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataworth.checks.contamination import CONTAINMENT, LENGTH, TEMPLATE_ROWS, Contamination, stem
from dataworth.numerics.lexical import words


def run(pool, goal):
    return Contamination()({"prompts:pool": iter(pool), "prompts:goal": goal})


def grams(seq, n):
    return {tuple(seq[i : i + n]) for i in range(len(seq) - n + 1)}


def naive(pool, goal):
    """(near rows, goal names they are near to): every pool row held against every goal row, word by word."""
    near, names = set(), set()
    for name, text in goal:
        wanted_words = words(stem(text))
        if not wanted_words:
            continue
        n = min(13, len(wanted_words))
        wanted = grams(wanted_words, n)
        for row_id, source, row in pool:
            own = words(stem(row))
            held = wanted & grams(own, n)
            common = Counter(g for _, s, t in pool if s == source for g in grams(words(stem(t)), n))
            counted = [g for g in held if common[g] <= 5]
            if own == wanted_words or len(counted) / len(wanted) >= 0.5:
                near.add(row_id)
                names.add(name)
    return near, names


WORDS = st.sampled_from(["a", "b", "c"])
LONG = st.lists(WORDS, min_size=12, max_size=18)
SHORT = st.lists(WORDS, max_size=5)
TEXT = st.one_of(SHORT, LONG).map(" ".join)
GOALS = st.lists(TEXT, min_size=1, max_size=4)


@st.composite
def corpora(draw):
    goals = draw(GOALS)
    pool = draw(st.lists(st.tuples(st.sampled_from("st"), TEXT), max_size=14))
    for _ in range(draw(st.integers(0, 8))):  # rows that borrow from a goal, some of them often
        goal = draw(st.sampled_from(goals)).split()
        cut = draw(st.integers(0, len(goal)))
        pool.append((draw(st.sampled_from("st")), " ".join([*goal[cut:], *draw(SHORT)])))
    rows = [(f"r{i}", source, text) for i, (source, text) in enumerate(pool)]
    return rows, [(f"g{i}", text) for i, text in enumerate(goals) if text.strip()] or [("g", "a b")]


@settings(max_examples=250)
@given(corpora())
def test_the_gate_equals_the_naive_law(corpus):
    pool, goal = corpus
    found = run(pool, goal)
    near, names = naive(pool, goal)
    assert (set(found.rows) if found else set()) == near
    if found:
        assert set(found.evidence["near_goal_names"]) == names and found.evidence["goal_rows"] == len(goal)
        of = Counter(source for row_id, source, _ in pool if row_id in near)
        assert found.evidence["pool_rows_by_source"] == dict(of)


@settings(max_examples=60)
@given(corpora(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_goals_and_repeated_goals_change_nothing(corpus, random):
    pool, goal = corpus
    found = run(pool, goal)
    random.shuffle(pool)
    again = run(pool, [*goal[::-1], *goal])
    assert (set(found.rows) if found else None) == (set(again.rows) if again else None)


@pytest.mark.parametrize("rows", [1, TEMPLATE_ROWS, TEMPLATE_ROWS + 1, 3 * TEMPLATE_ROWS])
@pytest.mark.parametrize("together", [True, False])
def test_five_rows_of_a_source_are_copies_and_six_are_a_template(rows, together):
    """The goal's words stand inside longer rows, so only n-grams can find them."""
    goal = [("g", "what makes the sky look blue")]
    inside = [
        (f"r{i}", "s" if together else f"s{i}", f"row {i} what makes the sky look blue tell") for i in range(rows)
    ]
    found = run(inside, goal)
    if rows <= TEMPLATE_ROWS or not together:
        assert set(found.rows) == {f"r{i}" for i in range(rows)}
    else:
        assert found is None
    # Whole stems are found however often they stand there.
    whole = [(f"w{i}", "s", "What makes the sky look blue?") for i in range(rows)]
    assert set(run([*inside, *whole], goal).rows) >= {f"w{i}" for i in range(rows)}


def test_a_row_that_repeats_a_sequence_counts_once_for_its_source():
    goal = [("g", "one two three four")]
    pool = [(f"r{i}", "s", "x one two three four y one two three four z one two three four") for i in range(5)]
    assert set(run(pool, goal).rows) == {f"r{i}" for i in range(5)}


@pytest.mark.parametrize("size", [14, 16, 18, 24, 27])
def test_containment_of_exactly_one_half_is_near_and_a_sequence_less_is_not(size):
    """A goal of `size` words has size - 12 sequences of 13; a row with k + 12 of its first words holds k of them."""
    letters = [f"w{i}" for i in range(size)]
    sequences = size - LENGTH + 1
    goal = [("g", " ".join(letters))]
    for k in range(sequences):
        held = run([("r", "s", " ".join(["before", *letters[: k + LENGTH - 1], "after"]))], goal)
        assert (held is not None) == (k >= CONTAINMENT * sequences and k > 0), k
    exact = -(-sequences // 2)
    text = run([("r", "s", " ".join(["x", *letters[: exact + LENGTH - 1]]))], goal).rows["r"]
    assert text == f"holds {exact / sequences:.0%} of the word sequences of goal row g"


@pytest.mark.parametrize("size", [1, 2, 12, 13])
def test_short_goals_are_one_sequence_and_must_be_held_whole(size):
    letters = [f"w{i}" for i in range(size)]
    goal = [("g", " ".join(letters))]
    assert set(run([("r", "s", " ".join(["x", *letters, "y"]))], goal).rows) == {"r"}
    assert run([("r", "s", " ".join([*letters[:-1], "other"]))], goal) is None
    if size > 1:
        assert run([("r", "s", " ".join([*letters[:1], "between", *letters[1:]]))], goal) is None


def test_template_words_are_left_out_row_by_row_and_source_by_source():
    """Twelve of the goal's words are a template of source s; the rest decides there, the whole in source t."""
    template = [f"t{i}" for i in range(14)]
    own = [f"o{i}" for i in range(14)]
    goal = [("g", " ".join([*template, *own]))]
    filler = [(f"f{i}", "s", " ".join([*template, f"u{i}"])) for i in range(6)]
    only_template = ("a", "s", " ".join(template))
    with_own = ("b", "s", " ".join([*template, *own[:8]]))
    elsewhere = ("c", "t", " ".join([*template, *own[:6]]))
    found = run([*filler, only_template, with_own, elsewhere], goal)
    # 16 sequences; 2 lie in the template. b holds 10 of which 8 count (half); c holds 8 (half); none but they.
    assert set(found.rows) == {"b", "c"}
    assert found.rows["b"] == found.rows["c"] == "holds 50% of the word sequences of goal row g"
    less = ("b", "s", " ".join([*template, *own[:7]]))
    assert set(run([*filler, only_template, less, elsewhere], goal).rows) == {"c"}


@pytest.mark.parametrize(
    ("row", "near"),
    [
        ("Question: who wrote hamlet\nOptions:\n(A) him\n(B) her", True),
        ("Q: Who wrote Hamlet?!", True),
        ("WHO wrote\nHAMLET", True),
        ("who wrote hamlet\nAnswer choices: him, her", True),
        ("who wrote hamlet (a) him (b) her", True),
        ("so who wrote hamlet then", True),
        ("who wrote ham let", False),
        ("hamlet wrote who", False),
        ("", False),
        ("Options:\nwho wrote hamlet", True),
    ],
)
def test_what_is_compared_is_the_question(row, near):
    found = run([("r", "s", row)], [("g", "Question: Who wrote Hamlet?\nChoices:\nA. one\nB. two")])
    assert (found is not None) == near


def test_the_finding_names_the_nearest_goal_row_and_counts_in_words():
    goal = [("part", "one two three four five"), ("same", "six seven"), ("far", "eight nine")]
    found = run([("x", "s", "six seven"), ("y", "t", "zero one two three four five six seven")], goal)
    assert found.rows["x"] == "the same question as goal row same"
    assert found.rows["y"] == "holds 100% of the word sequences of goal row part"
    assert found.evidence["near_goal_names"] == ["part", "same"]
    assert found.text == "2 pool rows are nearly equal to 2 of 3 goal rows." and found.code == "DW001"
