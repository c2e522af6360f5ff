import numpy as np
import pytest
from scipy import integrate, special, stats

from dataworth.errors import RequestError
from dataworth.laws.abundance import crossover, predict

TABLE = {  # alpha -> test error of the hard, easy and random half
    0.5: (0.442, 0.312, 0.376),
    1: (0.406, 0.250, 0.329),
    2: (0.321, 0.182, 0.266),
    4: (0.136, 0.117, 0.189),
    8: (0.061, 0.068, 0.114),
    12: (0.041, 0.048, None),
    16: (0.031, 0.037, None),
}


@pytest.mark.parametrize("alpha", TABLE)
def test_the_table(alpha):
    for keep, expected in zip(("hard", "easy", "random"), TABLE[alpha], strict=True):
        if expected is not None:
            assert predict(alpha, keep, 0.5).error == pytest.approx(expected, abs=6e-4), keep


@pytest.mark.parametrize(("alpha", "share"), [(1.0, 0.3), (4.0, 0.5), (16.0, 0.8)])
@pytest.mark.parametrize("keep", ["hard", "easy"])
def test_the_solution_solves_both_equations_as_they_are_published(alpha, share, keep):
    """With adaptive quadrature, and the integrands in the form that isn't the one we compute with."""
    found = predict(alpha, keep, share)
    r, kappa = found.overlap, found.margin
    s, h = np.sqrt(1 - r**2), special.ndtr
    gamma = stats.norm.isf((1 - share) / 2) if keep == "hard" else stats.norm.isf(share / 2)

    def first(t):
        if keep == "hard":
            bracket = 1 - np.exp(-gamma * (gamma - 2 * r * t) / (2 * s**2))
            return stats.norm.pdf(t) * np.exp(-(r**2) * t**2 / (2 * s**2)) * bracket * (kappa - t)
        return stats.norm.pdf(t) * np.exp(-((gamma - r * t) ** 2) / (2 * s**2)) * (kappa - t)

    def second(t):
        inner = h(r * t / s) - h(-(gamma - r * t) / s) if keep == "hard" else h(-(gamma - r * t) / s)
        return stats.norm.pdf(t) * inner * (kappa - t) ** 2

    def over(f):
        return integrate.quad(f, -12, kappa, limit=400, points=[p for p in (0, gamma / r) if p < kappa] or None)[0]

    assert 2 * alpha / (np.sqrt(2 * np.pi) * s) * over(first) == pytest.approx(r, rel=1e-5)
    assert 2 * alpha * over(second) == pytest.approx(s**2, rel=1e-5)
    assert found.error == pytest.approx(np.arccos(r) / np.pi)


def test_keeping_everything_is_one_thing():
    errors = [predict(3.0, keep, 1.0).error for keep in ("hard", "easy", "random")]
    assert np.ptp(errors) < 1e-7
    assert predict(6.0, "random", 0.5).error == pytest.approx(errors[0], abs=1e-8)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_more_examples_never_hurt_and_all_settings_are_solved(share):
    for keep in ("hard", "easy", "random"):
        errors = [predict(alpha, keep, share).error for alpha in (0.5, 2, 8, 16)]
        assert (np.diff(errors) < 0).all() and 0 < errors[-1] and errors[0] < 0.5


def test_scarce_keep_easy_and_abundant_keep_hard():
    assert crossover(0.5) == pytest.approx(5.05, abs=0.02)
    assert predict(1, "easy", 0.5).error < predict(1, "random", 0.5).error < predict(1, "hard", 0.5).error
    assert predict(16, "hard", 0.5).error < predict(16, "easy", 0.5).error < predict(16, "random", 0.5).error


def test_wrong_requests():
    for alpha, share in ((0, 0.5), (1, 0), (1, 1.5), (np.nan, 0.5), (np.inf, 0.5)):
        with pytest.raises(RequestError, match="above 0"):
            predict(alpha, "hard", share)
    with pytest.raises(RequestError, match="hard, easy, random"):
        predict(1, "middle", 0.5)
    with pytest.raises(RequestError, match="don't cross"):
        crossover(0.5, 8, 16)
