import math

import numpy as np
import pytest
from scipy.optimize import minimize

from dataworth.errors import RequestError
from dataworth.laws.objective import huber
from dataworth.laws.power import PowerLaw, fit_power

TRUTH = PowerLaw(0.3, 8.0, 0.45)
SIZES = 125 * 2.0 ** np.arange(6)


def noisy(law=TRUTH, chains=5, noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    D_R = np.tile(SIZES, chains)
    return D_R, law.at(D_R) * np.exp(noise * rng.standard_normal(len(D_R)))


@pytest.mark.parametrize("truth", [TRUTH, PowerLaw(1.8, 3.0, 0.3), PowerLaw(0.8, 20.0, 0.7), PowerLaw(2.0, 1e4, 1.5)])
def test_a_law_is_recovered_from_points_without_noise(truth):
    law = fit_power(SIZES, truth.at(SIZES))
    assert (law.E, law.B, law.beta) == pytest.approx((truth.E, truth.B, truth.beta), rel=1e-6)
    assert law.objective < 1e-20
    assert law.runs == 6


def test_kaplan_ratio():
    kaplan = PowerLaw(E=0.0, B=5.4e13**0.095, beta=0.095)
    assert kaplan.at(1e9) / kaplan.at(1e10) == pytest.approx(10**0.095)
    assert kaplan.at(1e9) / kaplan.at(1e10) == pytest.approx(1.2445, abs=5e-5)


def test_a_law_without_a_floor_is_fitted_too():
    kaplan = PowerLaw(E=0.0, B=5.4e13**0.095, beta=0.095)
    D_R = np.geomspace(1e6, 1e9, 8)
    law = fit_power(D_R, kaplan.at(D_R))
    assert law.beta == pytest.approx(0.095, rel=0.02)
    assert law.at(1e10) == pytest.approx(kaplan.at(1e10), rel=2e-3)


def raw_objective(D_R, loss_R):
    """The objective as the paper writes it, in natural parameters (log B, log E, beta)."""

    def value(p):
        return float(huber(np.logaddexp(p[0] - p[2] * np.log(D_R), p[1]) - np.log(loss_R)).sum())

    return value


@pytest.mark.parametrize("seed", range(4))
def test_no_naive_search_finds_a_lower_objective(seed):
    D_R, loss_R = noisy(seed=seed)
    law = fit_power(D_R, loss_R)
    naive = raw_objective(D_R, loss_R)
    assert law.objective == pytest.approx(naive([math.log(law.B), math.log(law.E), law.beta]), rel=1e-9)
    rng = np.random.default_rng(seed)
    for _ in range(6):
        start = [rng.uniform(0, 4), rng.uniform(-3, 0), rng.uniform(0.1, 1.0)]
        options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-9, "fatol": 1e-14}
        found = minimize(naive, start, method="Nelder-Mead", options=options)
        assert law.objective <= found.fun * (1 + 1e-6)


def test_the_objective_is_robust_to_one_diverged_run():
    D_R, loss_R = noisy(noise=0.002)
    loss_R[7] *= 3.0
    law = fit_power(D_R, loss_R)
    assert law.at(40_000) == pytest.approx(TRUTH.at(40_000), rel=0.02)
    weights = np.stack([D_R**0, D_R**-0.45], axis=1)
    least_squares = np.linalg.lstsq(weights, loss_R, rcond=None)[0]
    assert abs(least_squares @ [1.0, 40_000**-0.45] / TRUTH.at(40_000) - 1) > 0.04


def test_order_of_runs_changes_nothing():
    D_R, loss_R = noisy()
    order = np.random.default_rng(1).permutation(len(D_R))
    assert fit_power(D_R[order], loss_R[order]) == fit_power(D_R, loss_R)


def test_scaling_losses_or_sizes_scales_the_law():
    D_R, loss_R = noisy()
    law, dearer, longer = fit_power(D_R, loss_R), fit_power(D_R, 7.0 * loss_R), fit_power(300.0 * D_R, loss_R)
    assert (dearer.E, dearer.B, dearer.beta) == pytest.approx((7 * law.E, 7 * law.B, law.beta), rel=1e-5)
    assert (longer.E, longer.beta) == pytest.approx((law.E, law.beta), rel=1e-5)
    assert longer.at(300.0 * 40_000) == pytest.approx(law.at(40_000), rel=1e-6)


def test_a_run_given_twice_counts_twice():
    D_R, loss_R = noisy(chains=3)
    every = fit_power(np.tile(D_R, 2), np.tile(loss_R, 2))
    once = fit_power(D_R, loss_R)
    assert every.objective == pytest.approx(2 * once.objective, rel=1e-6)
    assert every.at(40_000) == pytest.approx(once.at(40_000), rel=1e-4)
    pulled = fit_power(np.append(D_R, [4000.0] * 9), np.append(loss_R, [0.6] * 9))
    assert abs(math.log(pulled.at(4000) / 0.6)) < abs(math.log(once.at(4000) / 0.6))


def test_a_refit_from_its_own_law_stays_there():
    D_R, loss_R = noisy()
    law = fit_power(D_R, loss_R)
    assert fit_power(D_R, loss_R, start=law).objective == pytest.approx(law.objective, rel=1e-9)


def test_rows_for_a_loss_inverts_the_law_and_says_never_at_the_floor():
    assert TRUTH.rows_for(TRUTH.at(1234.0)) == pytest.approx(1234.0)
    assert TRUTH.rows_for(0.3) == math.inf
    assert TRUTH.rows_for(0.1) == math.inf
    assert TRUTH.rows_for(0.3 + 1e-300) == math.inf


def test_gain_from_doubling_is_the_papers_formula():
    assert TRUTH.gain_from_doubling(1000.0) == pytest.approx(8 * 1000**-0.45 * (1 - 2**-0.45))


def test_at_takes_arrays():
    assert TRUTH.at(SIZES).tolist() == [TRUTH.at(float(d)) for d in SIZES]
    assert isinstance(TRUTH.at(100.0), float)


def test_correlation_of_floor_and_exponent_grows_as_the_range_shrinks():
    wide, narrow = 125 * 4.0 ** np.arange(6), 125 * 1.2 ** np.arange(6)
    corr = [fit_power(D_K, TRUTH.at(D_K)).corr_E_beta for D_K in (wide, SIZES, narrow)]
    assert 0 < corr[0] < corr[1] < corr[2] <= 1
    assert corr[2] > 0.995


def test_correlation_agrees_with_the_spread_of_many_fits():
    laws = [fit_power(*noisy(noise=0.003, seed=s), start=TRUTH) for s in range(120)]
    measured = np.corrcoef([law.E for law in laws], [law.beta for law in laws])[0, 1]
    assert laws[0].corr_E_beta == pytest.approx(measured, abs=0.03)


def test_a_flat_curve_is_flat_and_never_rises():
    rng = np.random.default_rng(0)
    D_R = np.tile(SIZES, 5)
    law = fit_power(D_R, 1.5 * np.exp(0.02 * rng.standard_normal(30)))
    assert law.at(40_000) == pytest.approx(1.5, rel=0.02)
    rising = fit_power(D_R, 1.5 * (D_R / 1000) ** 0.1)
    assert rising.at(40_000) <= rising.at(125)


@pytest.mark.parametrize("sizes, losses", [([1, 2], [1, 1]), ([1, 2, 3], [1, 1]), ([1, 1, 2, 2], [1, 1, 1, 1])])
def test_too_little_is_refused(sizes, losses):
    with pytest.raises(RequestError, match="at least 3 different sizes"):
        fit_power(sizes, losses)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_numbers_that_have_no_logarithm_are_refused(bad):
    with pytest.raises(RequestError, match="losses"):
        fit_power([1, 2, 3], [1.0, bad, 1.0])
    with pytest.raises(RequestError, match="sizes"):
        fit_power([1, bad, 3], [1.0, 1.0, 1.0])


def test_a_law_is_plain_json_values():
    assert set(TRUTH.to_dict()) == {"E", "B", "beta", "objective", "corr_E_beta", "runs"}
