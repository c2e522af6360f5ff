import math
import random
from collections import Counter

import numpy as np
import pytest

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics.lexical import words
from dataworth.numerics.ngrams import WordHashes, ngrams
from dataworth.scores import dsir
from dataworth.scores.dsir import DSIR


def case(pool, goal):
    return {"ids": [f"{i:032x}" for i in range(len(pool))], "text:pool": iter(pool), "text:goal": goal}


def made(n=60, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices([f"w{i}" for i in range(40)], k=rng.randint(1, 25))) for _ in range(n)]


def grams(text, buckets):
    """The buckets of a text: of its words, and of its pairs."""
    found = np.array([WordHashes()[w] for w in words(text)], dtype=np.int64)
    return [int(g % np.uint64(buckets)) for width in (1, 2) for g in ngrams(found, np.array([len(found)]), width)[0]]


def naive(pool, goal_texts, buckets, smoothing):
    rows = [grams(t, buckets) for t in pool]
    in_pool, in_goal = Counter(b for r in rows for b in r), Counter(b for t in goal_texts for b in grams(t, buckets))
    mass, n_pool, n_goal = smoothing * buckets, sum(in_pool.values()), sum(in_goal.values())

    def weight(b):
        q = in_pool[b] / n_pool
        return math.log((in_goal[b] + mass * q) / (n_goal + mass)) - math.log(q)

    return [sum(map(weight, r)) for r in rows]


@pytest.mark.parametrize(("buckets", "smoothing"), [(10_000, 1.0), (50, 0.2)])
def test_equals_the_formula(buckets, smoothing):
    pool, goal = made(), ["w1 w2 w3", "w2 w3 w9 unseen"]
    got = DSIR()(case(pool, {"g": goal}), buckets=buckets, smoothing=smoothing)
    np.testing.assert_allclose(got.values_N, naive(pool, goal, buckets, smoothing), rtol=1e-9, atol=1e-9)


def test_a_row_copied_from_the_goal_ranks_first():
    goal = ["w3 w1 w4 w1 w5 w9 w2 w6", "w5 w3 w5 w8 w9 w7 w9 w3"]
    pool = [*made(200, seed=4), goal[1]]
    for options in ({}, {"normalise": True}):
        assert int(np.argmax(DSIR()(case(pool, {"g": goal}), **options).values_N)) == 200


def test_word_order_counts():
    """Same words, but only one row has the goal's pairs."""
    goal = ["one two three four five six"]
    pool = ["six four two five three one", *goal, *made(30)]
    values = DSIR()(case(pool, {"g": goal})).values_N
    assert values[1] > values[0]


def test_pairs_stay_inside_their_row():
    """The last word of one row and the first of the next are no pair."""
    together = DSIR()(case(["a b", "c d"], {"g": ["a b"]})).values_N
    apart = DSIR()(case(["c d", "a b"], {"g": ["a b"]})).values_N
    np.testing.assert_array_equal(together, apart[::-1])
    assert sum(int(length.sum()) for _, length in dsir._Bags.of(["a b", "c d"], WordHashes(), 100).batches) == 6


def test_normalised_is_the_mean_over_n_grams():
    pool = ["w1", "w1 w2", "w1 w2 w3 w4"]
    goal = {"g": ["w1 w2 w9"]}
    total, mean = (DSIR()(case(pool, goal), normalise=how).values_N for how in (False, True))
    np.testing.assert_allclose(mean, total / [1, 3, 7])


def test_a_pool_that_is_the_goal_weighs_nothing():
    pool = made()
    np.testing.assert_allclose(DSIR()(case(pool, {"g": pool})).values_N, 0, atol=1e-9)


def test_copies_of_the_whole_pool_change_nothing():
    pool, goal = made(), {"g": ["w1 w2 w3"]}
    np.testing.assert_allclose(DSIR()(case(pool * 10, goal)).values_N[:60], DSIR()(case(pool, goal)).values_N)


def test_subtasks_are_reduced():
    pool, goal = made(), {"a": ["w1 w2 w3"], "b": ["w7 w8"]}
    alone = [DSIR()(case(pool, {n: goal[n]})).values_N for n in goal]
    np.testing.assert_array_equal(DSIR()(case(pool, goal)).values_N, np.maximum(*alone))
    np.testing.assert_allclose(DSIR()(case(pool, goal), reduce="mean").values_N, np.mean(alone, axis=0))


def test_batches_do_not_matter():
    pool, goal = made(9000), {"g": ["w1 w2 w3"]}
    values = DSIR()(case(pool, goal)).values_N
    order = np.random.default_rng(0).permutation(9000)
    np.testing.assert_array_equal(DSIR()(case([pool[i] for i in order], goal)).values_N, values[order])


def test_rows_without_words_are_unscored_and_half_surrogates_are_words():
    got = DSIR()(case(["", "?!", "w1 \ud800x"], {"g": ["w1"]}))
    assert set(got.unscored.values()) == {"it has no words"} and len(got.unscored) == 2
    assert np.isfinite(got.values_N[2])


def test_a_subtask_without_words_is_refused():
    with pytest.raises(NonsenseRefused, match="'empty' holds no words"):
        DSIR()(case(["w1"], {"g": ["w1"], "empty": ["?!"]}))


@pytest.mark.parametrize("options", [{"buckets": 1}, {"buckets": 65_537}, {"smoothing": 0}, {"smoothing": math.inf}])
def test_wrong_options_are_refused(options):
    with pytest.raises(RequestError, match="correct --option"):
        DSIR()(case(["w1"], {"g": ["w1"]}), **options)
