import gzip
import json
import os
import random
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from dataworth.checks.contamination import Contamination, stem
from dataworth.errors import NotApplicable
from dataworth.numerics.lexical import words

check = Contamination()


def run(pool, goal):
    return check({"prompts:pool": pool, "prompts:goal": goal})


def naive(pool, goal):
    """The law, word for word, with nested loops."""
    goals = [tuple(words(stem(text))) for _, text in goal]
    rows = [(row_id, source, tuple(words(stem(text)))) for row_id, source, text in pool]

    def grams(seq, n):
        return {seq[i : i + n] for i in range(len(seq) - n + 1)}

    common = defaultdict(Counter)
    for n in {min(13, len(g)) for g in goals}:
        for _, source, seq in rows:
            common[source].update(grams(seq, n))
    found = set()
    for g in filter(None, goals):
        n = min(13, len(g))
        wanted = grams(g, n)
        for row_id, source, seq in rows:
            shared = {w for w in wanted & grams(seq, n) if common[source][w] <= 5}
            if seq == g or len(shared) / len(wanted) >= 0.5:
                found.add(row_id)
    return found


def test_equals_the_naive_law_on_random_texts():
    rng = random.Random(0)
    for trial in range(30):
        letters = [f"w{i}" for i in range(rng.choice([3, 12]))]
        texts = [" ".join(rng.choices(letters, k=rng.choice([0, 1, 4, 15, 30]))) for _ in range(60)]
        texts += [t + " tail of its own" for t in texts[:20]]
        pool = [(f"r{i}", rng.choice("ab"), t) for i, t in enumerate(texts)]
        goal = [(f"g{i}", " ".join(rng.choices(letters, k=rng.choice([0, 2, 14, 20])))) for i in range(8)]
        goal += [("copy", texts[5]), ("part", texts[11])]
        found = run(iter(pool), goal)
        assert set(found.rows if found else {}) == naive(pool, goal), trial


ASKED = "Of the below sentences, which one does not make sense?\nOptions:\n- {}\n- {}"


def odd(n, turned=False):
    pair = (f"she ate a brick {n}", f"she ate a banana {n}")
    return ASKED.format(*(reversed(pair) if turned else pair))


def test_a_stem_that_a_source_asks_of_everything_is_its_template():
    """All 200 rows of flan_cot's sensemaking ask one question; what is asked stands in the options."""
    pool = [(f"r{n}", "a", odd(n)) for n in range(9)]
    assert set(run(pool, [("g", odd(3))]).rows) == {"r3"}
    assert set(run(pool, [("g", odd(3, turned=True))]).rows) == {"r3"}
    assert set(run(pool, [("g", "Question: " + odd(3)), ("h", odd(5))]).rows) == {"r3", "r5"}
    assert run(pool, [("g", odd(99))]) is None


def test_up_to_five_texts_under_a_stem_are_its_question_and_copies_are_one_text():
    few = [(f"r{n}", "a", odd(n)) for n in range(5)]
    assert set(run(few, [("g", odd(99))]).rows) == {f"r{n}" for n in range(5)}
    assert run([*few, ("r5", "a", odd(5))], [("g", odd(99))]) is None
    assert len(run([*few, ("r5", "b", odd(5))], [("g", odd(99))]).rows) == 6
    copies = [(f"c{n}", "a", odd(3, turned=n % 2 == 0)) for n in range(20)]
    assert len(run(copies, [("g", odd(3))]).rows) == 20
    labelled = [(f"l{n}{label}", "a", label + odd(n)) for n in range(5) for label in ("", "Question: ", "Q: ")]
    assert len(run(labelled, [("g", odd(99))]).rows) == 15


def test_a_source_of_which_most_is_left_out_is_named():
    pool = [(f"a{n}", "a", f"what is {n} plus {n} in words") for n in range(10)]
    pool += [(f"b{n}", "b", f"name {n} rivers of the north") for n in range(10)]
    most = run(pool, [(f"g{n}", f"what is {n} plus {n} in words") for n in range(6)])
    assert "Among them are 6 of the 10 rows of source a" in most.text
    assert "source b" not in most.text
    assert "Among" not in run(pool, [(f"g{n}", f"what is {n} plus {n} in words") for n in range(5)]).text
    assert "Among" not in run(pool[:10], [(f"g{n}", f"what is {n} plus {n} in words") for n in range(6)]).text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Question: Why is it so?\nChoices:\nA. this\nB. that\nAnswer:", "Why is it so?"),
        ("Why is it so?\nOptions:\n- this\n- that", "Why is it so?"),
        ("Why is it so?\n(A) this\n(B) that", "Why is it so?"),
        ("Why is it so?\nAnswer choices: this, that", "Why is it so?"),
        ("Why is it so? (a) this (b) that", "Why is it so?"),
        ("q: Why is it so?", "Why is it so?"),
        ("Options:\nA. a\nB. b\nWhich one?", "Options:\nA. a\nB. b\nWhich one?"),
        ("Take vitamin A. It helps.", "Take vitamin A. It helps."),
        ("A. Smith wrote it.", "A. Smith wrote it."),
    ],
)
def test_stems(text, expected):
    assert stem(text).strip() == expected


def test_whole_stem_ignores_case_punctuation_and_options():
    pool = [("x", "s", "WHY, is it so?\nOptions:\n- k"), ("y", "s", "Why is it not so?")]
    found = run(pool, [("goal 7", "Question: why is it so\nChoices:\nA. z")])
    assert dict(found.rows) == {"x": "the same question as goal row goal 7"}
    assert found.evidence["near_goal_names"] == ["goal 7"]


def test_template_words_do_not_empty_a_source_but_copies_are_still_found():
    template = "is the following sentence factually correct and can it be verified by common sense"
    pool = [(f"r{i}", "creak", f"{template} number {i}") for i in range(50)]
    pool += [("few", "other", f"{template} only here")]
    found = run(pool, [("g", f"{template} number 7")])
    assert set(found.rows) == {"r7", "few"}
    assert "holds" in found.rows["few"]
    copies = [(f"c{i}", "s", "what do people aim to do at work") for i in range(40)]
    assert len(run(copies, [("g", "What do people aim to do at work?")]).rows) == 40


def test_row_order_and_batches_play_no_part():
    rng = random.Random(1)
    pool = [(f"r{i}", "s", " ".join(rng.choices("abcdefgh", k=20))) for i in range(9000)]
    goal = [(f"g{i}", pool[i * 600][2]) for i in range(15)]
    found = run(pool, goal)
    shuffled = rng.sample(pool, len(pool))
    assert run(shuffled, goal).rows.keys() == found.rows.keys() >= {f"r{i * 600}" for i in range(15)}


def test_nothing_found_is_a_pass_and_an_empty_goal_not_applicable():
    assert run([("x", "s", "one two three"), ("y", "s", "")], [("g", "entirely other words")]) is None
    with pytest.raises(NotApplicable):
        run([("x", "s", "one")], [("g", " ?! ")])


def test_scripts_without_spaces_are_compared_by_character():
    found = run([("x", "s", "今天天气怎么样"), ("y", "s", "明天去哪里")], [("g", "今天天气怎么样?")])
    assert set(found.rows) == {"x"}


def test_cost_is_linear_in_the_pool():
    rng = random.Random(2)
    vocabulary = [f"word{i}" for i in range(5000)]
    pool = [(str(i), "s", " ".join(rng.choices(vocabulary, k=60))) for i in range(20_000)]
    goal = [(f"g{i}", " ".join(rng.choices(vocabulary, k=40))) for i in range(500)]
    start = time.process_time()
    assert run(pool, goal) is None
    assert time.process_time() - start < 6


@pytest.fixture(scope="module")
def flan_cot():
    if "DATAWORTH_DATA" not in os.environ:
        pytest.skip("DATAWORTH_DATA is not set")
    path = Path(os.environ["DATAWORTH_DATA"]) / "flan_cot" / "flan_cot.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        return [(str(i), row["source"], row["question"]) for i, row in enumerate(map(json.loads, lines))]


@pytest.mark.data
def test_oracle_commonsense_qa_against_flan_cot(flan_cot):
    path = Path(os.environ["DATAWORTH_DATA"]) / "eval_small" / "commonsense_qa.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        goal = [(f"csqa:{i}", json.loads(line)["query"]) for i, line in enumerate(lines)]
    found = run(flan_cot, goal)
    assert len(goal) == 1221
    assert len(found.evidence["near_goal_names"]) == 794
    assert set(found.evidence["pool_rows_by_source"]) == {"ecqa"}


@pytest.mark.data
@pytest.mark.parametrize("source", ["creak", "strategyqa"])
def test_templates_do_not_empty_a_source(flan_cot, source):
    """Held-out rows of a source as the goal flag little else of it, though all share template sentences."""
    own = [row for row in flan_cot if row[1] == source]
    goal = [(row_id, text) for row_id, _, text in own[:: len(own) // 100]]
    held_out = {name for name, _ in goal}
    found = run((row for row in flan_cot if row[0] not in held_out), goal)
    flagged = found.evidence["pool_rows_by_source"] if found else {}
    assert sum(flagged.values()) < 0.02 * len(own), flagged
