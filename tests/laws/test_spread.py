import math

import numpy as np
import pytest
from scipy import stats

from dataworth.errors import RequestError
from dataworth.laws.spread import over_chains, over_resamples


def test_a_t_interval_about_the_pooled_value():
    own = [1.0, 2.0, 4.0]
    found = over_chains(2.0, own, 0.9)
    half = stats.t.ppf(0.95, 2) * math.sqrt((1 + 0 + 4) / 2 / 3)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((2.0, 2.0 - half, 2.0 + half, 3))


def test_about_the_mean_it_is_the_textbook_interval():
    own = np.array([1.0, 2.0, 4.0, 5.5])
    low, high = stats.t.interval(0.95, 3, loc=own.mean(), scale=stats.sem(own))
    found = over_chains(float(own.mean()), own, 0.95)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_expanded_percentiles_are_wider_than_plain_ones_and_less_so_with_many_chains():
    draws = np.random.default_rng(0).standard_normal(5000)
    low, high = np.quantile(draws, [0.05, 0.95])
    few, many = over_resamples(0.0, draws, 10, 0.9), over_resamples(0.0, draws, 10_000, 0.9)
    assert few.low < low and few.high > high
    assert (many.low, many.high) == pytest.approx((low, high), abs=1e-2)
    assert few.high == pytest.approx(math.sqrt(10 / 9) * stats.t.ppf(0.95, 9), abs=0.06)


def test_the_value_never_lies_outside():
    assert over_resamples(9.0, [1.0, 2.0, 3.0], 10, 0.9).high == 9.0


def test_an_expanded_interval_of_a_mean_covers():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        own = rng.standard_normal(10)
        means = own[rng.integers(0, 10, (200, 10))].mean(axis=1)
        found = over_resamples(float(own.mean()), means, 10, 0.9)
        hits += found.low <= 0 <= found.high
    assert 0.86 <= hits / 400 <= 0.94


@pytest.mark.parametrize("others, level", [([1.0], 0.9), ([1.0, math.inf], 0.9), ([1.0, 2.0], 0.0), ([1.0, 2.0], 1.0)])
def test_what_has_no_interval_is_refused(others, level):
    for interval in (over_chains, lambda v, o, q: over_resamples(v, o, 10, q)):
        with pytest.raises(RequestError):
            interval(1.0, others, level)
