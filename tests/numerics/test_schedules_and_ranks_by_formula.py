"""Schedules against their formulas in plain Python; correlations and intervals against counting and scipy."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics.ranks import Estimate, difference_interval, mean_interval, rank_correlation, spearman
from dataworth.numerics.schedules import learning_rates, lr_weights


def naive_rate(step: int, steps: int, warmup: int, peak: float, schedule: str) -> float:
    if step < warmup:
        return peak * step / max(1, warmup)
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done)))


@given(st.integers(0, 40), st.integers(0, 45), st.floats(1e-6, 10), st.sampled_from(["linear", "cosine"]))
def test_learning_rates_follow_the_formula(steps, warmup, peak, schedule):
    got = learning_rates(steps, warmup, peak, schedule)
    assert got.tolist() == pytest.approx([naive_rate(s, steps, warmup, peak, schedule) for s in range(steps)])
    assert (got >= 0).all() and (got <= peak * (1 + 1e-12)).all()
    if steps > warmup:
        assert got[warmup] == pytest.approx(peak) and (np.diff(got[warmup:]) <= 1e-15).all()
    if warmup and steps:
        assert got[0] == 0


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=20), st.data())
def test_checkpoint_weights_are_mean_rates_since_the_checkpoint_before(rates, data):
    steps = sorted(data.draw(st.sets(st.integers(1, len(rates)), min_size=1)))
    means, before = [], 0
    for step in steps:
        means.append(sum(rates[before:step]) / (step - before))
        before = step
    got = lr_weights(rates, steps)
    assert got.tolist() == pytest.approx([m / sum(means) for m in means])
    assert lr_weights([7 * r for r in rates], steps).tolist() == pytest.approx(got.tolist())


@pytest.mark.parametrize("steps", [[0], [-1, 2], [2, 1], [1, 1], [4], [1, 2, 9]])
def test_checkpoints_that_do_not_rise_within_the_run_are_refused(steps):
    with pytest.raises(RequestError, match="rising steps up to 3"):
        lr_weights([1.0, 1.0, 1.0], steps)


def naive_ranks(values: list[float]) -> list[float]:
    return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]


PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.floats(-5, 5).map(lambda v: round(v, 1))), min_size=3, max_size=25)


@given(PAIRS)
def test_rank_correlation_is_the_correlation_of_counted_ranks(pairs):
    x, y = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    a, b = (np.array(naive_ranks(v)) for v in (x, y))
    naive = float(np.corrcoef(a, b)[0, 1])
    got = rank_correlation(x, y)
    assert got == pytest.approx(naive, abs=1e-12) and got == pytest.approx(rank_correlation(y, x))
    assert rank_correlation([math.exp(v) for v in x], [-v for v in y]) == pytest.approx(-got, abs=1e-12)


@settings(max_examples=15)
@given(st.integers(4, 30), st.integers(0, 10**6), st.sampled_from([0.5, 0.9, 0.95]))
def test_the_interval_is_the_quantile_of_resampled_correlations(n, seed, level):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 5, size=(2, n)).astype(float)
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    got = spearman(x, y, draws=60, level=level, seed=seed)
    picks = np.random.default_rng(seed).integers(0, n, size=(60, n))
    naive = [stats.spearmanr(x[p], y[p]).statistic for p in picks if np.ptp(x[p]) > 0 and np.ptp(y[p]) > 0]
    low, high = np.quantile(naive, [(1 - level) / 2, (1 + level) / 2])
    assert (got.low, got.high) == (pytest.approx(low), pytest.approx(high))
    assert (got.n, got.level) == (n, level) and -1 <= got.low <= got.high <= 1


@pytest.mark.parametrize(
    ("x", "y", "error"),
    [
        ([], [], RequestError),
        ([1.0], [1.0], RequestError),
        ([1.0, 2.0], [1.0, 2.0, 3.0], RequestError),
        ([1.0, math.inf], [1.0, 2.0], NonsenseRefused),
        ([1.0, 2.0], [math.nan, 2.0], NonsenseRefused),
        ([5.0, 5.0], [1.0, 2.0], NonsenseRefused),
    ],
)
def test_correlations_that_mean_nothing_are_refused(x, y, error):
    with pytest.raises(error, match="rank correlation"):
        rank_correlation(x, y)


NUMBERS = st.lists(st.floats(-100, 100).map(lambda v: round(v, 3)), min_size=2, max_size=12)


@given(NUMBERS, NUMBERS, st.sampled_from([0.5, 0.9, 0.99]))
def test_intervals_equal_scipy_and_move_with_their_numbers(x, y, level):
    one = mean_interval(x, level=level)
    assume(np.ptp(x) > 1e-3 and np.ptp(y) > 1e-3)
    low, high = stats.t.interval(level, len(x) - 1, np.mean(x), stats.sem(x))
    assert (one.low, one.high, one.n) == (pytest.approx(low), pytest.approx(high), len(x))
    gap = difference_interval(x, y, level=level)
    welch = stats.ttest_ind(x, y, equal_var=False).confidence_interval(level)
    assert (gap.low, gap.high) == (pytest.approx(welch.low, abs=1e-9), pytest.approx(welch.high, abs=1e-9))
    back = difference_interval(y, x, level=level)
    assert (back.low, back.high) == (pytest.approx(-gap.high), pytest.approx(-gap.low))
    moved = mean_interval([v + 10 for v in x], level=level)
    assert moved.low == pytest.approx(one.low + 10) and moved.to_dict()["level"] == level


def test_an_estimate_in_words():
    assert str(Estimate(0.5, -0.25, 1.0, 7)) == "0.500 [-0.250 .. 1.000]"
    assert Estimate(1, 0, 2, 3).to_dict() == {"value": 1, "low": 0, "high": 2, "n": 3, "level": 0.95}
