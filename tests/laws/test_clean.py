import numpy as np

from dataworth.laws.clean import inspect, runs_of, whole_chains
from dataworth.laws.power import PowerLaw, fit_power

SIZES = 125 * 2.0 ** np.arange(6)
TRUTH = PowerLaw(0.3, 8.0, 0.45)


def inspected(curve, seed=0, noise=0.02, chains=5):
    loss_CK = curve(SIZES) * np.exp(noise * np.random.default_rng(seed).standard_normal((chains, 6)))
    return inspect(SIZES, loss_CK, fit_power(*runs_of(SIZES, loss_CK)))


def test_clean_laws_are_seldom_called_unclean():
    laws = (TRUTH, PowerLaw(1.8, 3.0, 0.3), PowerLaw(0.8, 20.0, 0.7))
    found = [inspected(laws[s % 3].at, seed=s) for s in range(6)]
    assert sum(bool(f.reasons) for f in found) <= 1
    assert all(f.falls for f in found)


def test_an_exponential_fall_is_always_found():
    for seed in range(2):
        found = inspected(lambda D: 0.5 + 1.5 * np.exp(-D / 1500), seed=seed)
        assert abs(found.misses["power"]) > found.noise
        assert abs(found.misses["power"]) > 2 * min(abs(found.misses["pow4"]), abs(found.misses["mmf4"]))
        assert "a curve that bends misses by" in found.reasons[0]


def test_misses_are_those_of_a_law_that_never_saw_the_largest_size():
    loss_CK = TRUTH.at(SIZES) * np.exp(0.02 * np.random.default_rng(1).standard_normal((3, 6)))
    found = inspect(SIZES, loss_CK, fit_power(*runs_of(SIZES, loss_CK)))
    blind = fit_power(np.tile(SIZES[:5], 3), loss_CK[:, :5].ravel())
    assert found.misses["power"] == np.log(blind.at(4000.0)) - np.log(loss_CK[:, 5]).mean()


def test_the_spread_of_chains_is_the_yardstick():
    """The same bent means are a finding among chains that agree and none among chains that don't."""

    def bent(D):
        return TRUTH.at(D) * np.where(D > 3000, 1.04, 1.0)

    assert inspected(bent, noise=0.003).reasons
    assert not inspected(bent, noise=0.06).reasons


def test_flat_and_rising_curves_do_not_fall():
    assert not inspected(lambda D: np.full_like(D, 1.5)).falls
    assert not inspected(lambda D: 1.5 * (D / 1000) ** 0.1).falls


def test_points_that_are_missing_are_left_out():
    loss_CK = np.array([[1.0, np.nan, 0.5, 0.4, 0.3], [np.nan, 0.7, np.nan, np.nan, 0.2]])
    sizes_R, losses_R = runs_of(np.arange(1.0, 6.0), loss_CK)
    assert sizes_R.tolist() == [1, 3, 4, 5, 2, 5]
    assert losses_R.tolist() == [1.0, 0.5, 0.4, 0.3, 0.7, 0.2]
    assert len(whole_chains(loss_CK)) == 1
