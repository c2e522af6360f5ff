import random
import string
import zlib

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.numerics.compressed import After, as_bytes, checked_level, minus_peers, ncd, ratio

ONE = b"the cat sat on the mat and the dog sat on the cat " * 6
OTHER = b"seven bright planets turn slowly round a distant star " * 6


def noise(size, seed=0):
    return "".join(random.Random(seed).choices(string.ascii_letters + string.digits, k=size)).encode()


def test_ratio_is_bytes_before_over_bytes_after():
    assert ratio(b"a" * 1000) > 50
    assert ratio(noise(1000)) < 1.4
    assert np.isnan(ratio(b""))


@pytest.mark.parametrize("level", [0, 10, -1, 2.5])
def test_a_level_that_does_not_compress_is_refused(level):
    """At gzip's level 0 a text is as far from itself as from any other."""
    with pytest.raises(RequestError, match="does not compress"):
        checked_level(level)


def test_the_distance_is_the_formula():
    for x, y in ((ONE, OTHER), (OTHER, ONE[:40]), (b"a", noise(100))):
        both, cx, cy = (len(zlib.compress(data, 9)) for data in (x + y, x, y))
        assert ncd(x, y) == (both - min(cx, cy)) / max(cx, cy)


def test_without_compression_all_distances_are_alike():
    """Why level 0 is refused: it is the default of ZIP-FIT's helper."""
    for other in (ONE, OTHER, noise(300)):
        assert ncd(ONE, other, level=0) > 0.9


def test_distances_are_told_apart():
    near, unlike, random_text = ncd(ONE, ONE), ncd(ONE, OTHER), ncd(ONE, noise(300))
    assert near < 0.2 < 0.6 < unlike <= 1.05
    assert near < unlike < random_text + 0.2


@pytest.mark.parametrize("size", [300, 20_000, 40_000, 200_000])
def test_a_text_is_near_itself_at_every_size(size):
    """Gzip looks 32 KiB back: 40 kB of noise are a stranger to themselves (0.999)."""
    text = noise(size)
    assert ncd(text, text) < 0.05
    assert ncd(text, noise(size, seed=1)) > 0.75


def test_a_long_row_that_repeats_itself_from_afar_is_redundant():
    text = noise(40_000)
    assert ratio(text * 2) > 1.8 * ratio(text)


def test_both_measures_agree_where_they_meet():
    """A pair just below the window and one just above it have about the same distance."""
    words = random.Random(0).choices(["red", "blue", "seven", "planet", "turn", "cat", "dog"], k=4000)
    a, b = " ".join(words[:2000]).encode()[:16_384], " ".join(words[2000:]).encode()
    assert ncd(a, b[: 16_384 - 8]) == pytest.approx(ncd(a, b[:16_384] + b"12345678"), abs=0.08)


@pytest.mark.parametrize("size", [0, 100, 40_000, 400_000])
def test_what_was_seen_costs_little_after_it(size):
    row = noise(400, seed=1)
    seen, fresh = After(row + noise(size, seed=2)), After(noise(size, seed=2))
    assert seen.cost(row) < 40 < 250 < fresh.cost(row)


def test_costs_are_at_least_one_byte():
    assert After(b"").cost(b"") == 1
    assert After(b"abc" * 30).cost(b"abc") >= 1


def test_half_surrogates_have_bytes():
    assert len(as_bytes("a\ud800")) == 4


def test_minus_peers_takes_the_median_of_similar_lengths_off():
    values = np.array([1.0, 3.0, 5.0, 10.0, np.nan, 30.0])
    got = minus_peers(values, [64, 100, 127, 128, 0, 255])
    np.testing.assert_array_equal(got, [-2, 0, 2, -10, np.nan, 10])
