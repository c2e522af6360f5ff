"""Bits of data against bits of parameters."""

import math

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.laws.capacity import (
    bits_of,
    compressed_bits,
    fill,
    membership_f1,
    memorised_bits,
    most_memorised,
)

XL, MEDIUM = 1_556_075_200, 123_702_528


@pytest.mark.parametrize(
    ("parameters", "samples", "expected"),
    [
        (XL, 170_654_583, 0.5505),
        (XL, 76_795_021, 0.7516),
        (XL, 18_851_574, 0.9514),
        (MEDIUM, 13_566_442, 0.5505),
        (MEDIUM, 6_104_935, 0.7516),
        (MEDIUM, 1_498_634, 0.9514),
    ],
)
def test_membership_gives_the_paper_s_own_table_which_its_printed_formula_does_not(parameters, samples, expected):
    assert membership_f1(samples, parameters) == pytest.approx(expected, abs=5e-5)
    printed = 0.5 * (1 + 1.34 / (1 + math.exp(0.034 * (3.64 * parameters / samples - 33.14))))
    assert abs(printed - expected) > 0.1


def test_membership_falls_with_data_from_certainty_to_chance():
    found = [membership_f1(n, 10**8) for n in np.geomspace(1, 10**10, 60)]
    assert found[0] == 1.0 and found[-1] == pytest.approx(0.5)
    assert (np.diff(found) <= 0).all()


@pytest.mark.parametrize(
    ("sequences", "length", "vocabulary", "bits"),
    [(4, 16, 64, 376.0), (8, 16, 64, 744.0), (15, 16, 64, 1381.4), (30, 16, 64, 2732.8), (125, 16, 64, 11129.3)],
)
def test_the_most_that_can_be_held_without_an_index(sequences, length, vocabulary, bits):
    assert most_memorised(sequences, length, vocabulary) == pytest.approx(bits, abs=0.1)


def test_a_model_that_knows_the_set_but_not_the_order_holds_exactly_that():
    """Each of N sequences at probability 1/N under the model, uniform under the reference."""
    sequences, length, vocabulary = 30, 16, 64
    target = np.full(sequences, math.log(sequences))
    reference = np.full(sequences, length * math.log(vocabulary))
    total = memorised_bits(target, reference).sum()
    assert total == pytest.approx(most_memorised(sequences, length, vocabulary))


def test_memorised_bits_are_counted_by_row_in_bits_and_never_below_none():
    found = memorised_bits(np.array([1.0, 5.0, 2.0]) * math.log(2), np.array([4.0, 3.0, 2.0]) * math.log(2))
    np.testing.assert_allclose(found, [3.0, 0.0, 0.0])


def test_a_zone_is_named_only_where_the_whole_band_lies_in_it():
    assert fill(1000, 1000).zones == ("can hold all",)  # 0.24 to 0.4 times what they hold
    assert fill(3600, 1000).zones == ("threshold",)
    assert fill(20_000, 1000).zones == ("cannot hold all",)
    assert fill(1500, 1000).zones == ("can hold all", "threshold")
    assert fill(7000, 1000).zones == ("threshold", "cannot hold all")
    told = fill(3600, 1000)
    assert (told.ratio.value, told.ratio.low, told.ratio.high) == pytest.approx((1.0, 3.6 / 4.2, 3.6 / 2.5))
    assert "doesn't tell" in str(fill(1500, 1000)) and "untested" in str(fill(1000, 1000, adapter=True))
    assert "untested" not in str(told) and told.to_dict()["zones"] == ["threshold"]


def test_bits_scale_a_sample_to_the_pool_and_know_a_whole_pool_exactly():
    rng = np.random.default_rng(0)
    nats = rng.gamma(4.0, 30.0, 2000)
    truth = nats.sum() / math.log(2)
    covered = 0
    for _ in range(200):
        found = bits_of(rng.choice(nats, 100, replace=False), 2000)
        covered += found.low <= truth <= found.high
    assert 0.83 <= covered / 200 <= 0.97
    whole = bits_of(nats, 2000)
    assert whole.value == pytest.approx(truth) == whole.low == whole.high


def test_a_compressor_bounds_from_above_counts_copies_once_and_finds_what_repeats_far_away():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), 8)) for _ in range(400)]
    texts = [" ".join(rng.choice(words, 40)) for _ in range(300)]
    entropy = 300 * 40 * math.log2(400)
    found = compressed_bits(texts)
    assert entropy < found < 1.5 * entropy + 8 * 8 * 400
    assert compressed_bits(texts * 3) == found
    far = [texts[0], *("".join(map(chr, rng.integers(97, 123, 1000))) for _ in range(60)), texts[0] + "!"]
    assert compressed_bits(far) - compressed_bits(far[:-1]) < 0.1 * 8 * len(texts[0])


@pytest.mark.parametrize(
    "call",
    [
        lambda: fill(0, 10),
        lambda: fill(10, 0),
        lambda: membership_f1(0, 1),
        lambda: most_memorised(0, 2, 2),
        lambda: most_memorised(5, 2, 2),
        lambda: bits_of([1.0], 10),
        lambda: bits_of([1.0, 2.0, 3.0], 2),
        lambda: bits_of([1.0, math.nan], 10),
    ],
)
def test_numbers_that_mean_nothing_are_refused_in_one_line(call):
    with pytest.raises(RequestError, match="expected") as error:
        call()
    assert "\n" not in str(error.value)
