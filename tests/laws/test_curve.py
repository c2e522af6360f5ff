import json
import math
from functools import cache

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.laws.curve import Curve, fit_curve
from dataworth.laws.power import PowerLaw, fit_power

TRUTH = PowerLaw(0.3, 8.0, 0.45)
SIZES = 125 * 2.0 ** np.arange(6)


def made(curve=TRUTH.at, chains=5, noise=0.02, seed=0, sizes=SIZES):
    return curve(sizes) * np.exp(noise * np.random.default_rng(seed).standard_normal((chains, len(sizes))))


@cache
def clean() -> Curve:
    return fit_curve(SIZES, made(noise=0.01))


@cache
def bent() -> Curve:
    return fit_curve(SIZES, made(lambda D: 0.5 + 1.5 * np.exp(-D / 1000)))


def test_a_clean_curve_speaks_at_ten_times_the_data():
    curve = clean()
    assert curve.reasons == ()
    answer = curve.predict(40_000)
    assert answer.refusal == "" and answer.out_of_range and answer.beyond == 10
    assert answer.low < TRUTH.at(40_000) < answer.high
    assert answer.low < answer.value < answer.high
    assert answer.value == curve.law.at(40_000)
    assert set(answer.rivals) == {"pow4", "mmf4", "trimmed"}
    assert answer.rivals["mmf4"] == pytest.approx(answer.value, rel=0.1)
    assert str(answer).startswith("loss at 40,000 rows: 0.3")


def test_the_interval_is_the_spread_of_the_chains_own_fits():
    curve = clean()
    own = [fit_power(SIZES, row, start=curve.law).at(9000) for row in curve.loss_CK]
    off = np.log(own) - np.log(curve.law.at(9000))
    half = 2.1318 * math.sqrt((off**2).sum() / 4 / 5)
    answer = curve.predict(9000, level=0.9)
    assert (answer.low, answer.high) == pytest.approx(
        (answer.value * math.exp(-half), answer.value * math.exp(half)), rel=1e-4
    )


def test_a_wider_level_and_a_farther_size_give_wider_intervals():
    curve = clean()

    def width(D, level=0.9):
        answer = curve.predict(D, level)
        return math.log(answer.high / answer.low)

    assert width(40_000, 0.5) < width(40_000, 0.9) < width(40_000, 0.99)
    assert width(2000) < width(8000) < width(40_000)


def test_the_unit_is_the_chain_and_not_the_run():
    """Chains that differ as wholes, as nested ones do, get a wider interval than the same noise run by run."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(125, 4000, 12)
    shift = 0.02 * rng.standard_normal((5, 1))
    nested = TRUTH.at(sizes) * np.exp(shift + 0.001 * rng.standard_normal((5, 12)))
    as_chains = fit_curve(sizes, nested)
    as_runs = fit_curve(sizes, np.array([rng.permutation(column) for column in nested.T]).T)
    chains, runs = (c.estimate(lambda p: math.log(p.at(700))) for c in (as_chains, as_runs))
    assert chains.high - chains.low > 1.3 * (runs.high - runs.low)
    assert chains.low < math.log(TRUTH.at(700)) < chains.high


def test_the_same_chains_twice_are_not_twice_the_evidence_for_the_law():
    loss_CK = made()
    once, twice = fit_curve(SIZES, loss_CK), fit_curve(SIZES, np.repeat(loss_CK, 2, axis=0), resamples=20)
    assert twice.law.at(9000) == pytest.approx(once.law.at(9000), rel=1e-4)
    assert twice.interval == "resampled" and once.interval == "chains"


def test_from_ten_chains_on_chains_are_resampled_from_a_seed():
    loss_CK = made(chains=10)
    curve = fit_curve(SIZES, loss_CK, resamples=60, seed=4)
    again = fit_curve(SIZES, loss_CK[::-1], resamples=60, seed=4)
    other = fit_curve(SIZES, loss_CK, resamples=60, seed=5)
    assert curve.predict(9000) == again.predict(9000)
    assert curve.predict(9000) != other.predict(9000)
    assert len(curve.refits) == 60 and curve.estimate(lambda law: law.beta).n == 10
    answer = curve.predict(9000)
    assert answer.low < TRUTH.at(9000) < answer.high


def test_ten_chains_with_broken_ones_among_them_still_answer():
    loss_CK = made(chains=12)
    loss_CK[3:, 1:] = np.nan
    few = fit_curve(SIZES, loss_CK)
    assert (few.chains, few.interval, few.law.runs) == (3, "chains", 27)
    loss_CK = made(chains=12)
    loss_CK[10:, 1:] = np.nan
    many = fit_curve(SIZES, loss_CK, resamples=20)
    assert (many.chains, many.interval, many.law.runs) == (10, "resampled", 62)


def test_an_edge_that_an_unclean_curve_cannot_place_is_unknown():
    curve = bent()
    answer = curve.rows_for(float(curve.band(7000).value))
    assert not answer.refusal and answer.value == pytest.approx(7000)
    assert answer.high < 8000 or (math.isnan(answer.high) and "unknown" in str(answer))


def test_order_of_chains_and_sizes_changes_nothing():
    loss_CK = made()
    order = [4, 0, 5, 2, 1, 3]
    again = fit_curve(SIZES[order], loss_CK[[2, 0, 4, 1, 3]][:, order])
    assert again.predict(40_000) == fit_curve(SIZES, loss_CK).predict(40_000)


def test_scaling_losses_scales_answers():
    loss_CK = made(noise=0.01)
    a, b = clean().predict(9000), fit_curve(SIZES, 100 * loss_CK).predict(9000)
    assert (b.value, b.low, b.high) == pytest.approx((100 * a.value, 100 * a.low, 100 * a.high), rel=1e-4)


def test_missing_points_are_left_out():
    loss_CK = made(noise=0.01)
    loss_CK[0, 5] = loss_CK[3, 0] = np.nan
    loss_CK[4, 1:] = np.nan
    curve = fit_curve(SIZES, loss_CK)
    assert curve.law.runs == 23
    assert len(curve.refits) == 4
    assert curve.predict(7000).value == pytest.approx(TRUTH.at(7000), rel=0.05)
    with_empty_chain = fit_curve(SIZES, np.vstack([loss_CK, np.full(6, np.nan)]))
    assert with_empty_chain.predict(7000) == curve.predict(7000)


def test_an_unclean_curve_speaks_near_its_data_only():
    curve = bent()
    assert any(
        r.startswith("the curve is not a clean power law: fitted without the largest size (4000 rows)")
        for r in curve.reasons
    )
    near, far, tiny = curve.predict(7900), curve.predict(8100), curve.predict(50)
    assert near.refusal == "" and near.warnings == curve.reasons and math.isfinite(near.value)
    assert far.refusal == "; ".join(curve.reasons) and math.isnan(far.value) and math.isnan(far.low)
    assert tiny.refusal
    assert str(far).startswith("loss at 8,100 rows: cannot tell, because the curve is not a clean power law")
    assert curve.band(8100).value == curve.law.at(8100)


@pytest.mark.parametrize(
    "shape",
    [
        lambda D: 2 * (D / 125) ** -0.02 * np.where(D > 1000, (D / 1000) ** -0.4, 1),
        lambda D: TRUTH.at(D) * np.where(D > 3000, 1.2, 1.0),
    ],
    ids=["late fall", "last size rises"],
)
def test_other_shapes_are_not_clean_either(shape):
    assert any("not a clean power law" in r for r in fit_curve(SIZES, made(shape)).reasons)


def test_a_run_of_residual_signs_is_named():
    assert any(
        "the 3 sizes from 250 to 1000 all lie above it" in r
        for r in fit_curve(SIZES, made(lambda D: 0.5 + 1.5 * np.exp(-D / 1000), noise=0.005)).reasons
    )


def test_a_steep_curve_has_no_identifiable_floor():
    curve = fit_curve(SIZES, made(PowerLaw(1e-6, 8.0, 0.3).at, seed=2))
    assert any(r.startswith("still steep at the largest size: the floor is not identifiable") for r in curve.reasons)
    assert curve.predict(40_000).refusal
    assert not curve.predict(8000).refusal


@pytest.mark.parametrize("noise", [0.02, 0.0])
def test_a_flat_curve_says_that_no_fall_is_shown(noise):
    curve = fit_curve(SIZES, made(lambda D: np.full_like(D, 1.5), noise=noise))
    assert "no fall of the loss is shown over the measured sizes" in curve.reasons
    assert curve.predict(4000).value == pytest.approx(1.5, rel=0.02)
    assert curve.predict(40_000).refusal


def test_a_thin_design_speaks_near_its_data_only():
    few = fit_curve(SIZES[:4], made(noise=0.001)[:, :4])
    assert any("4 sizes over a factor of 8 can't check a law" in r for r in few.reasons)
    two = fit_curve(SIZES, made(chains=2, noise=0.001))
    assert any("2 whole chains give no reliable interval" in r for r in two.reasons)
    assert two.predict(40_000).refusal and not two.predict(7000).refusal


def test_rows_for_a_loss_and_where_the_band_reaches_it():
    curve = clean()
    answer = curve.rows_for(TRUTH.at(3000))
    assert answer.low < 3000 < answer.high and answer.low < answer.value < answer.high
    assert curve.band(answer.low).low == pytest.approx(TRUTH.at(3000), rel=1e-3)
    assert curve.band(answer.high).high == pytest.approx(TRUTH.at(3000), rel=1e-3)
    assert not answer.out_of_range


def test_rows_for_an_unreachable_loss_are_never():
    answer = clean().rows_for(0.05)
    assert answer.value == answer.low == answer.high == math.inf
    assert str(answer).startswith("rows for a loss of 0.05: never [never .. never]")
    assert answer.to_dict()["value"] == "never"
    json.loads(json.dumps(answer.to_dict(), allow_nan=False))


def test_rows_beyond_what_an_unclean_curve_knows_are_at_least_that():
    answer = bent().rows_for(0.05)
    assert math.isnan(answer.value) and answer.low == 8000 and math.isnan(answer.high)
    assert "cannot tell (at least 8,000), because" in str(answer)
    assert answer.to_dict()["value"] is None
    assert not bent().rows_for(float(bent().law.at(3000))).refusal


def test_both_fits_are_kept_and_explained():
    loss_CK = made(noise=0.01)
    loss_CK[:, 0] *= 1.4
    curve = fit_curve(SIZES, loss_CK)
    assert curve.trimmed_runs == 3 and curve.trimmed.runs == 27
    assert f"without the 3 runs of highest loss: {curve.trimmed.E:.4g}" in curve.explain()
    assert curve.predict(9000).rivals["trimmed"] == curve.trimmed.at(9000)
    json.loads(json.dumps(curve.to_dict(), allow_nan=True))


def test_any_quantity_has_an_interval():
    floor = clean().estimate(lambda law: law.E, 0.9)
    assert floor.low < 0.3 < floor.high
    gain = clean().estimate(lambda law: law.gain_from_doubling(4000))
    assert gain.low < TRUTH.gain_from_doubling(4000) < gain.high
    with pytest.raises(RequestError, match="finite"):
        clean().estimate(lambda law: law.rows_for(0.01))


@pytest.mark.parametrize(
    "sizes, shape, word",
    [
        (SIZES[:3], (5, 3), "at least 4 sizes"),
        (SIZES, (1, 6), "2 chains"),
        (SIZES, (5, 5), "one column a size"),
        ([1, 2, 3, 3], (5, 4), "different positive"),
        ([0, 1, 2, 3], (5, 4), "different positive"),
    ],
)
def test_a_wrong_design_is_refused(sizes, shape, word):
    with pytest.raises(RequestError, match=word):
        fit_curve(sizes, np.ones(shape))


def test_wrong_numbers_are_refused():
    for bad in (0.0, -1.0, math.inf):
        loss_CK = made()
        loss_CK[1, 1] = bad
        with pytest.raises(RequestError, match="positive numbers"):
            fit_curve(SIZES, loss_CK)
    with pytest.raises(RequestError, match="positive finite"):
        clean().predict(0)
    with pytest.raises(RequestError, match="positive finite"):
        clean().rows_for(-1)
    with pytest.raises(RequestError, match="level"):
        clean().predict(100, level=1.0)


def test_a_size_nobody_measured_is_refused():
    loss_CK = made()
    loss_CK[:, 2] = np.nan
    with pytest.raises(RequestError, match="leave out sizes without any"):
        fit_curve(SIZES, loss_CK)


@pytest.mark.slow
@pytest.mark.parametrize("chains, noise", [(3, "independent"), (5, "nested")])
def test_a_nominal_ninety_per_cent_interval_covers(chains, noise):
    from benchmarks.law_coverage import design

    found = design(chains, noise, curves=40, sizes=6, seed=1, with_others=False)
    assert 0.8 <= found["coverage"]["10x shipped"] <= 0.97
    assert found["refused"]["10x"] <= 0.35
    assert found["cpu_seconds_per_curve"] < 2
