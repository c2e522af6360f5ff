import math
import random
from collections import Counter

import numpy as np
import pytest

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics.lexical import words
from dataworth.scores.bm25 import BM25

K1, B = 1.2, 0.75


def naive(pool, goal, reduce="max"):
    docs = [words(t) for t in pool]
    n = sum(1 for d in docs if d)
    mean = sum(map(len, docs)) / n
    df = Counter(w for d in docs for w in set(d))
    out = []
    for d in docs:
        tf = Counter(d)
        per_subtask = []
        for texts in goal.values():
            scores = []
            for text in texts:
                s = 0.0
                for w in (w for w in words(text) if w not in "abcd"):
                    idf = math.log(1 + (n - df[w] + 0.5) / (df[w] + 0.5))
                    s += idf * tf[w] * (K1 + 1) / (tf[w] + K1 * (1 - B + B * len(d) / mean)) if tf[w] else 0.0
                scores.append(s)
            per_subtask.append(sum(scores) / len(scores))
        out.append((max if reduce == "max" else np.mean)(per_subtask))
    return out


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_equals_the_formula(reduce):
    rng = random.Random(0)
    letters = [*(f"w{i}" for i in range(25)), "a", "b"]
    pool = [" ".join(rng.choices(letters, k=rng.randint(1, 30))) for _ in range(50)]
    goal = {"a": ["w1 w2 w1 unseen", "w3"], "b": ["w4 A w5 B w6 w7", "w8 b"]}
    ids = [f"{i:032x}" for i in range(50)]
    got = BM25()({"ids": ids, "text:pool": iter(pool), "text:goal": goal}, reduce=reduce)
    np.testing.assert_allclose(got.values_N, naive(pool, goal, reduce), rtol=1e-5)


def test_rows_without_words_are_unscored_and_foreign_rows_score_zero():
    got = BM25()({"ids": ["a", "b", "c"], "text:pool": ["", "other", "goal word"], "text:goal": {"g": ["goal"]}})
    assert got.unscored == {"a": "it has no words"}
    assert got.values_N[1] == 0 < got.values_N[2]


def test_a_goal_without_words_is_refused():
    with pytest.raises(NonsenseRefused, match="no words"):
        BM25()({"ids": ["a"], "text:pool": ["x"], "text:goal": {"g": ["?! A. B."]}})


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"k1": -0.1}, "k1=-0.1: expected a number of at least 0; correct --option k1"),
        ({"k1": float("inf")}, "k1=inf: expected a number"),
        ({"k1": float("nan")}, "k1=nan: expected a number"),
        ({"b": -0.1}, "b=-0.1: expected 0 to 1; correct --option b"),
        ({"b": 1.1}, "b=1.1: expected 0 to 1"),
        ({"b": float("nan")}, "b=nan: expected 0 to 1"),
    ],
)
def test_options_out_of_range_are_refused(option, said):
    inputs = {"ids": ["a", "b"], "text:pool": ["x", "goal word"], "text:goal": {"g": ["goal"]}}
    with pytest.raises(RequestError, match=said):
        BM25()(inputs, **option)
    for edge in ({"k1": 0}, {"b": 0}, {"b": 1}):
        assert BM25()(inputs, **edge).values_N[1] > 0
