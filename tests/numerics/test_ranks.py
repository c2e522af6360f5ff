import numpy as np
import pytest
from scipy import stats

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics import ranks
from dataworth.numerics.ranks import Estimate, difference_interval, mean_interval, spearman


def test_spearman_equals_scipy_and_its_interval_covers():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(60):
        x = rng.normal(size=30)
        y = x + rng.normal(size=30)
        got = spearman(x, y, draws=300, seed=trial)
        assert got.value == pytest.approx(stats.spearmanr(x, y).statistic)
        assert got.low <= got.value <= got.high
        # population value of a bivariate normal with r = 1/sqrt(2)
        hits += got.low <= 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2) <= got.high
    assert hits >= 50


def test_spearman_is_reproducible_and_handles_ties():
    x, y = [1, 1, 2, 3, 4], [1, 2, 2, 2, 9]
    assert spearman(x, y) == spearman(x, y)
    assert spearman(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic)


def test_the_interval_does_not_depend_on_how_many_draws_are_made_at_once(monkeypatch):
    x, y = np.random.default_rng(1).normal(size=(2, 40))
    whole = spearman(x, y, draws=50)
    monkeypatch.setattr(ranks, "_RESAMPLED", 40 * 7)
    assert spearman(x, y, draws=50) == whole
    assert ranks.rank_correlation(x, y) == whole.value


def test_spearman_refuses_nonsense():
    with pytest.raises(NonsenseRefused):
        spearman([1, 1, 1], [1, 2, 3])
    with pytest.raises(NonsenseRefused):
        spearman([1, float("nan"), 1], [1, 2, 3])
    with pytest.raises(RequestError):
        spearman([1, 2], [1, 2])


def test_intervals_equal_scipy():
    x, y = np.array([1.0, 2.5, 3.0, 4.0]), np.array([0.5, 0.7, 5.0])
    got = mean_interval(x, level=0.9)
    low, high = stats.t.interval(0.9, 3, x.mean(), stats.sem(x))
    assert (got.low, got.high) == (pytest.approx(low), pytest.approx(high))
    welch = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    gap = difference_interval(x, y)
    assert (gap.low, gap.high) == (pytest.approx(welch.low), pytest.approx(welch.high))
    assert str(mean_interval([1, 1])) == "1.000 [1.000 .. 1.000]"
    assert difference_interval([1, 1], [0, 0]).to_dict()["low"] == 1
    with pytest.raises(RequestError, match="at least 2"):
        mean_interval([1])
    with pytest.raises(RequestError, match="at least 2"):
        difference_interval([1], [1, 2])


@pytest.mark.parametrize(
    ("value", "half", "said"),
    [
        (0.0131, 0.0069, "0.013 [0.006 .. 0.020]"),
        (12.5, 3.0, "12.500 [9.500 .. 15.500]"),
        (0.00042, 0.0003, "0.0004 [0.0001 .. 0.0007]"),
        (-2.5e-5, 1.2e-5, "-0.00003 [-0.00004 .. -0.00001]"),
        (-0.056, 0.0557, "-0.0560 [-0.1117 .. -0.0003]"),
        (-0.056, 0.055999, "-0.05600 [-0.11200 .. -0.00000]"),
        (0.010, 0.0102, "0.010 [-0.000 .. 0.020]"),
        (1e-12, 1e-12, "0.000000000 [0.000000000 .. 0.000000000]"),
        (float("nan"), float("nan"), "nan [nan .. nan]"),
        (1.0, float("inf"), "1.000 [-inf .. inf]"),
    ],
)
def test_a_narrow_interval_is_said_with_the_decimals_that_show_it(value: float, half: float, said: str) -> None:
    assert str(Estimate(value, value - half, value + half, 5)) == said
