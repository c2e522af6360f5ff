"""Comparisons of trials: known cases by hand, agreement with scipy, error rates by simulation, power."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dataworth.errors import RequestError
from dataworth.proof.contrast import AS_GOOD, BETTER, NOT_SHOWN, WORSE, contrast, decide, detectable

RNG = np.random.default_rng(7)


def test_means_are_compared_as_scipy_does() -> None:
    x, y = RNG.normal(1, 0.2, 5), RNG.normal(1.1, 0.5, 8)
    found, theirs = contrast(x, y, "means"), stats.ttest_ind(y, x, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert float(found.gain / found.se) == pytest.approx(theirs.statistic)
    assert float(found.df) == pytest.approx(theirs.df)
    assert float(found.gain - found.half_width(0.05)) == pytest.approx(interval.low)


def test_a_fixed_subset_against_draws_is_a_prediction() -> None:
    draws = np.array([1.0, 1.2, 1.1, 0.9, 1.3])
    found = contrast(np.array([0.5]), draws, "prediction")
    half = stats.t.ppf(0.975, 4) * draws.std(ddof=1) * np.sqrt(1 + 1 / 5)
    assert float(found.half_width(0.05)) == pytest.approx(half)
    assert float(found.gain) == pytest.approx(0.6)


def test_leading_axes_are_many_comparisons() -> None:
    x, y = RNG.normal(size=(4, 3, 5)), RNG.normal(size=(4, 3, 5))
    for claim in ("means", "prediction"):
        found = contrast(x, y, claim)
        one = contrast(x[2, 1], y[2, 1], claim)
        assert found.gain.shape == found.se.shape == found.df.shape == (4, 3)
        assert [found.gain[2, 1], found.se[2, 1], found.df[2, 1]] == pytest.approx(
            [float(v) for v in (one.gain, one.se, one.df)]
        )


@pytest.mark.parametrize(
    ("gain", "margin", "code"),
    [(1.0, None, BETTER), (-1.0, None, WORSE), (0.0, None, NOT_SHOWN), (0.0, 1.0, AS_GOOD), (-0.5, 1.0, AS_GOOD),
     (0.5, 1.0, BETTER), (-0.95, 1.0, WORSE), (0.05, 0.05, NOT_SHOWN)],
)  # fmt: skip
def test_words_follow_interval_and_margin(gain: float, margin: float | None, code: int) -> None:
    from dataworth.proof.contrast import Contrast

    found = Contrast(np.array(gain), np.array(0.1), np.array(8.0))
    assert int(decide(found, 0.05, margin)) == code


def test_identical_trials_have_no_interval_to_trip_over() -> None:
    same = np.full(3, 2.0)
    assert int(decide(contrast(same, same, "means"), 0.05)) == NOT_SHOWN
    assert int(decide(contrast(same - 1e-9, same, "means"), 0.05)) == BETTER
    assert int(decide(contrast(same, same, "means"), 0.05, margin=1e-6)) == AS_GOOD


def test_too_few_trials_are_refused() -> None:
    with pytest.raises(RequestError, match="run more seeds"):
        contrast(np.zeros(1), np.zeros(5), "means")
    with pytest.raises(RequestError, match="run more seeds"):
        contrast(np.zeros(5), np.zeros(1), "prediction")
    with pytest.raises(RequestError, match="run more seeds"):
        detectable(1, 1, 1, 5, "means")


def test_item_bootstraps_would_lie_and_trials_do_not() -> None:
    """Equal arms whose trials differ: judged items say 'different' most of the time, trials about 5 % of it."""
    rng, proofs, items = np.random.default_rng(0), 2000, 400
    x, y = (rng.normal(0, 1.0, (proofs, 5)) for _ in range(2))
    by_trial = decide(contrast(x, y, "means"), 0.05) != NOT_SHOWN
    first = stats.ttest_ind(
        x[:, :1] + rng.normal(0, 2.0, (proofs, items)), y[:, :1] + rng.normal(0, 2.0, (proofs, items)), axis=1
    )
    assert by_trial.mean() < 0.06
    assert (first.pvalue < 0.05).mean() > 0.7


@pytest.mark.parametrize(
    ("sd_x", "trials", "claim"),
    [
        (sd, n, claim)
        for sd, n in ((1.0, 2), (0.3, 3), (2.0, 3), (1.0, 5), (0.3, 5), (1.0, 8))
        for claim in ("means", "prediction")
    ],
)
def test_the_detectable_effect_is_found_in_eight_of_ten_proofs(sd_x: float, trials: int, claim: str) -> None:
    shift = detectable(sd_x, 1.0, trials, trials, claim)
    rng = np.random.default_rng(1)
    x, y = rng.normal(-shift, sd_x, (20000, trials)), rng.normal(0, 1.0, (20000, trials))
    found = (decide(contrast(x, y, claim), 0.05) == BETTER).mean()
    assert found == pytest.approx(0.8, abs=0.015)


def test_without_noise_everything_is_detectable() -> None:
    assert detectable(0.0, 0.0, 3, 3, "means") == 0.0
    assert detectable(0.0, 1.0, 3, 3, "means", alpha=0.01) > detectable(0.0, 1.0, 3, 3, "means") > 0


def test_a_subject_noisier_than_random_rows_is_not_called_better_by_its_noise() -> None:
    rng = np.random.default_rng(2)
    for ratio in (1.0, 2.0, 4.0):
        x, y = rng.normal(0, ratio, (40000, 5)), rng.normal(0, 1.0, (40000, 5))
        assert (decide(contrast(x, y, "prediction"), 0.05) != NOT_SHOWN).mean() < 0.055
