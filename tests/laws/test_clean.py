import numpy as np

from dataworth.laws import clean
from dataworth.laws.clean import first_rise, inspect, runs_of, whole_chains
from dataworth.laws.curve import fit_curve
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


def test_a_law_that_misses_its_own_points_is_not_clean_and_the_interval_reaches_to_curves_that_bend():
    sizes = np.array([62.0, 125.0, 250.0, 500.0, 1000.0])
    mean_K = np.array([2.4314, 2.3940, 2.2746, 2.1466, 2.1454])  # real pilots, whose chains agree within 0.2 %
    loss_CK = mean_K * np.exp(0.002 * np.random.default_rng(0).standard_normal((3, 5)))
    found = fit_curve(sizes, loss_CK)
    assert any("it misses its own points by up to" in r for r in found.inspection.reasons)
    twice = found.predict(2000)
    bent = found.pow4.at(2000), found.mmf4.at(2000)
    assert twice.low <= min(bent) and max(bent) <= twice.high and twice.warnings
    assert "curves that bend say" in found.explain()
    apart_CK = loss_CK * np.array([[0.9], [1.0], [1.1]])  # nor do they hide what the law misses
    assert any("misses its own" in r for r in fit_curve(sizes, apart_CK).inspection.reasons)
    offset_CK = TRUTH.at(sizes) * np.array([[0.9], [1.0], [1.1]])  # chains that differ alike at all sizes miss nothing
    noise = np.exp(0.002 * np.random.default_rng(1).standard_normal((3, 5)))
    assert not any("misses its own" in r for r in fit_curve(sizes, offset_CK * noise).inspection.reasons)


def test_clean_curves_seldom_miss_their_own_points():
    rng, sizes, called = np.random.default_rng(0), np.array([62.0, 125.0, 250.0, 500.0, 1000.0]), 0
    for _ in range(60):
        loss_CK = TRUTH.at(sizes) * np.exp(0.01 * rng.standard_normal((3, 5)))
        law = fit_power(*runs_of(sizes, loss_CK), start=TRUTH)
        called += bool(clean._lack_of_fit(sizes, np.log(loss_CK) - np.log(law.at(sizes))))
    assert called <= 3  # 1 in 100 by the test's level


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


def test_a_rise_is_shown_in_one_flat_curve_of_twenty_however_many_sizes_there_are():
    rng = np.random.default_rng(0)
    sizes_K = np.array([62.0, 125.0, 250.0, 500.0, 1000.0])
    found = [first_rise(sizes_K, np.exp(0.01 * rng.normal(size=(3, 5)))) is not None for _ in range(1000)]
    assert np.mean(found) < 0.065
    rising_CK = np.array([3.0, 2.0, 1.2, 1.0, 1.15]) * np.exp(0.005 * rng.normal(size=(3, 5)))
    assert first_rise(sizes_K, rising_CK) == (500.0, 1000.0)
