import random
import zlib

import numpy as np
import pytest

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics.compressed import ncd
from dataworth.scores.compression import Compression
from dataworth.scores.ncd import NCD

WORDS = "red blue seven goal why cat sum of planet turn slow bright star river stone".split()


def made(n=40, seed=0, words=30):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(n)]


def case(pool, goal=None):
    inputs = {"ids": [f"{i:032x}" for i in range(len(pool))], "text:pool": iter(pool)}
    return inputs if goal is None else {**inputs, "text:goal": goal}


def test_the_raw_ratio_is_the_papers():
    pool = made()
    naive = [len(t.encode()) / len(zlib.compress(t.encode(), 9)) for t in pool]
    np.testing.assert_array_equal(Compression()(case(pool), length="raw").values_N, naive)
    assert Compression.higher == "drop"


@pytest.mark.parametrize("length", ["raw", "peers"])
def test_a_row_that_repeats_itself_is_the_worst(length):
    pool = [*made(), "red blue red blue red blue " * 6]
    assert int(np.argmax(Compression()(case(pool), length=length).values_N)) == 40


def test_short_rows_win_raw_and_not_beside_their_peers():
    short, long = made(30, seed=1, words=4), made(30, seed=2, words=200)
    raw, peers = (Compression()(case([*short, *long]), length=how).values_N for how in ("raw", "peers"))
    assert raw[:30].max() < raw[30:].min()
    assert abs(np.median(peers[:30]) - np.median(peers[30:])) < 0.05


def test_a_row_copied_from_the_goal_ranks_first():
    goal = {"a": made(3, seed=9), "b": made(2, seed=8)}
    pool = [*made(), goal["b"][1]]
    for options in ({}, {"length": "peers"}, {"reduce": "mean"}):
        assert int(np.argmax(NCD()(case(pool, goal), **options).values_N)) == 40


def test_alignment_is_one_minus_the_mean_distance():
    pool, goal = made(5), made(3, seed=9)
    naive = [1 - np.mean([ncd(t.encode(), g.encode()) for g in goal]) for t in pool]
    np.testing.assert_allclose(NCD()(case(pool, {"g": goal})).values_N, naive)


def test_a_long_copy_of_the_goal_is_found():
    """The pair is longer than gzip's window, which would find nothing alike."""
    rng = random.Random(3)
    long = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=40_000))
    other = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=40_000))
    got = NCD()(case([other, long], {"g": [long]})).values_N
    assert got[1] > 0.9 and got[0] < 0.2


def test_empty_rows_are_unscored():
    assert list(Compression()(case(["", "red blue"])).unscored.values()) == ["it is empty"]
    assert list(NCD()(case(["", "red blue"], {"g": ["red"]})).unscored.values()) == ["it is empty"]


def test_a_goal_without_text_is_refused():
    with pytest.raises(NonsenseRefused, match="'g' holds no text"):
        NCD()(case(["red"], {"g": [""]}))


@pytest.mark.parametrize("score", [Compression(), NCD()], ids=["compression", "ncd"])
def test_level_zero_and_unknown_lengths_are_refused(score):
    with pytest.raises(RequestError, match="does not compress"):
        score(case(["red"], {"g": ["red"]}), level=0)
    with pytest.raises(RequestError, match="correct --option length"):
        score(case(["red"], {"g": ["red"]}), length="short")
