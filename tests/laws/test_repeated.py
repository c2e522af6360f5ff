import math

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.laws.power import PowerLaw
from dataworth.laws.repeated import C4_LAW, RepeatedLaw, effective_data, effective_multiple, fit_repetition

LAW = PowerLaw(0.3, 8.0, 0.45)
UNIQUE, EPOCHS = (a.ravel() for a in np.meshgrid(125 * 2.0 ** np.arange(5), [1.0, 2.0, 4.0, 8.0, 16.0]))


def losses(r_star, noise=0.0, seed=0):
    clean = np.array([LAW.at(effective_data(u, e, r_star)) for u, e in zip(UNIQUE, EPOCHS, strict=True)])
    return clean * np.exp(noise * np.random.default_rng(seed).standard_normal(len(clean)))


def test_the_papers_two_losses():
    assert C4_LAW.at(6.34e9, 242e9, 25e9) == pytest.approx(2.2256440889984477, abs=1e-9)
    assert C4_LAW.at(8.67e9, 178e9, 25e9) == pytest.approx(2.2269634075087867, abs=1e-9)


def test_the_papers_multiples_of_unique_data():
    multiples = effective_multiple(np.array([1, 2, 4, 8, 16, 40, math.inf]))
    assert np.round(multiples, 2).tolist() == [1.0, 1.97, 3.73, 6.62, 10.58, 15.17, 16.39]


def test_repeats_count_less_and_less_but_never_hurt():
    multiple = np.array([effective_multiple(e, 5.0) for e in range(1, 30)])
    gains = np.diff(multiple)
    assert (gains > 0).all() and (np.diff(gains) < 0).all() and (gains < 1).all()
    assert effective_multiple(3.0, 1e9) == pytest.approx(3.0)
    assert effective_multiple(3.0, 1e-9) == pytest.approx(1.0)
    assert effective_data(500, 4) == 500 * effective_multiple(4)


def test_without_repeats_or_spare_parameters_the_law_is_the_joint_one():
    N, D = 1e8, 1e11
    assert C4_LAW.at(N, D, D) == pytest.approx(C4_LAW.joint.at(N, D))
    assert C4_LAW.at(N, D, 10 * D) == C4_LAW.at(N, D, D)
    lavish = RepeatedLaw(C4_LAW.joint, r_star_data=1e12, r_star_parameters=1e12)
    assert lavish.at(1e12, 4e9, 1e9) == pytest.approx(lavish.joint.at(1e12, 4e9), rel=1e-9)


@pytest.mark.parametrize("r_star", [0.5, 4.0, 15.4, 100.0])
def test_r_star_is_recovered_from_points_without_noise(r_star):
    fit = fit_repetition(EPOCHS, UNIQUE, losses(r_star))
    assert fit.r_star == pytest.approx(r_star, rel=1e-6)
    assert (fit.law.E, fit.law.B, fit.law.beta) == pytest.approx((0.3, 8.0, 0.45), rel=1e-6)
    assert fit.at(777.0, 3.0) == pytest.approx(LAW.at(effective_data(777.0, 3.0, r_star)))


def test_r_star_survives_noise_and_order():
    loss_R = losses(4.0, noise=0.005)
    fit = fit_repetition(EPOCHS, UNIQUE, loss_R)
    assert 3.0 < fit.r_star < 5.4
    order = np.random.default_rng(0).permutation(len(loss_R))
    again = fit_repetition(EPOCHS[order], UNIQUE[order], loss_R[order])
    assert repr(again) == repr(fit), "with its NaN"


def test_worthless_repeats_and_perfect_ones_stay_finite():
    worthless = np.array([LAW.at(u) for u in UNIQUE])
    perfect = np.array([LAW.at(u * e) for u, e in zip(UNIQUE, EPOCHS, strict=True)])
    assert fit_repetition(EPOCHS, UNIQUE, worthless).r_star < 0.01
    assert fit_repetition(EPOCHS, UNIQUE, perfect).r_star > 1000


@pytest.mark.parametrize("epochs", [np.ones(25), np.full(25, 2.0), np.full(25, 0.5), np.ones(3)])
def test_runs_that_cannot_tell_r_star_are_refused(epochs):
    with pytest.raises(RequestError, match="some equal to 1 and some above"):
        fit_repetition(epochs, UNIQUE, losses(4.0))


def test_senseless_numbers_are_refused():
    with pytest.raises(RequestError, match="at least 1 epoch"):
        effective_multiple(0.5)
    with pytest.raises(RequestError, match="R\\*"):
        effective_multiple(2.0, 0.0)
    with pytest.raises(RequestError, match="unique data"):
        effective_data(0, 2)
