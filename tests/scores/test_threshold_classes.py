import numpy as np
import pytest
from tests.scores.made_training import row_ids

from dataworth.dynamics import ThresholdDynamics
from dataworth.errors import RequestError
from dataworth.scores.threshold_classes import AUMThreshold, beyond_cut_off, cut_off, threshold_sets


def mislabelled(aum_2N, own_2N, percentile):
    """The paper's rule: at or below the cut-off in every training on the row's own label."""
    flagged = np.ones(aum_2N.shape[1], dtype=bool)
    for aum, own in zip(aum_2N, own_2N, strict=True):
        threshold = np.percentile(aum[~own & ~np.isnan(aum)], percentile)
        for i in range(len(aum)):
            if own[i] and not aum[i] <= threshold:
                flagged[i] = False
    return flagged & own_2N.any(axis=0)


def own_but(n, sets):
    own = np.ones((2, n), dtype=bool)
    for r, rows in enumerate(sets):
        own[r, rows] = False
    return own


def scored(aum_2N, own_2N, **options):
    """A training of one epoch."""
    margins = np.asarray(aum_2N, dtype=np.float32)[:, None]
    given = {"ids": row_ids(margins.shape[2]), "threshold_dynamics": ThresholdDynamics(margins, own_2N)}
    return AUMThreshold()(given, **options)


def test_threshold_sets_are_disjoint_of_the_stated_size_and_know_no_row_order():
    ids = row_ids(110)
    a, b = threshold_sets(ids, 10)
    assert len(a) == len(b) == 10 and not set(a) & set(b)
    order = np.random.default_rng(0).permutation(110)
    again = threshold_sets([ids[i] for i in order], 10)
    assert {ids[i] for i in a} == {ids[order[i]] for i in again[0]}
    assert set(threshold_sets(ids, 10, seed=1)[0]) != set(a)
    for few in ((5, 5), (9, 1)):
        with pytest.raises(RequestError, match="classes"):
            threshold_sets(ids[: few[0]], few[1])


@pytest.mark.parametrize("percentile", [0, 37.5, 90, 99, 100])
def test_zero_and_below_is_exactly_what_the_paper_s_rule_flags(percentile):
    rng = np.random.default_rng(0)
    for seed in range(20):
        sets = threshold_sets(row_ids(60), 3, seed)
        aum, own = rng.normal(size=(2, 60)).round(1).astype(np.float32), own_but(60, sets)
        aum[:, rng.integers(0, 60, size=4)] = np.nan
        aum[0, 7] = np.nan
        got = scored(aum, own, percentile=percentile)
        flagged = mislabelled(aum.astype(np.float64), own, percentile)
        np.testing.assert_array_equal(got.values_N <= 0, flagged)
        assert f"{flagged.sum()} of 60" in got.notes[0]
        np.testing.assert_array_equal(np.isnan(got.values_N), (np.isnan(aum) & own).any(axis=0))


def test_planted_wrong_labels_are_found_and_threshold_rows_judged_by_the_other_training():
    rng = np.random.default_rng(0)
    wrong = rng.random(1100) < 0.1
    sets = threshold_sets(row_ids(1100), 10)
    aum = np.where(wrong, -3.0, 3.0) + rng.normal(scale=0.5, size=(2, 1100))
    for run, rows in enumerate(sets):
        aum[run, rows] = -2 + rng.normal(scale=0.5, size=len(rows))  # what is mislabelled on purpose looks so
    flagged = scored(aum, own_but(1100, sets)).values_N <= 0
    assert flagged[wrong].mean() > 0.95 and flagged[~wrong].mean() < 0.01
    assert not flagged[np.setdiff1d(sets[0], np.flatnonzero(wrong))].any()
    assert AUMThreshold.higher == "keep"


def test_epochs_are_averaged_and_the_larger_difference_counts():
    margins = np.array([[[2.0, 5.0, -1.0, 0.0], [4.0, 7.0, -3.0, 0.0]], [[1.0, 9.0, 0.0, -4.0]] * 2])
    own = np.array([[True, True, False, True], [True, True, True, False]])
    given = {"ids": row_ids(4), "threshold_dynamics": ThresholdDynamics(margins.astype(np.float32), own)}
    np.testing.assert_allclose(AUMThreshold()(given).values_N, [3 + 2, 9 + 4, 0 + 4, 0 + 2])


def test_the_cut_off_is_a_percentile_of_the_threshold_rows():
    aum, own = np.arange(200.0), np.arange(200) > 100
    assert cut_off(aum, own) == pytest.approx(99)
    assert cut_off(aum, own, 50) == pytest.approx(50)
    with pytest.raises(RequestError, match="no threshold row"):
        cut_off(np.full(4, np.nan), np.arange(4) > 1)
    holed = np.stack([np.where(np.arange(200) == 150, np.nan, aum)] * 2)
    assert np.isnan(beyond_cut_off(holed, np.stack([own, own])))[150]


def test_wrong_requests():
    with pytest.raises(RequestError, match="percentile=101"):
        scored(np.zeros((2, 4)), own_but(4, ([0], [1])), percentile=101.0)
    with pytest.raises(RequestError, match="expected \\[2, epochs, rows\\]"):
        ThresholdDynamics(np.zeros((3, 1, 4), np.float32), np.ones((3, 4), dtype=bool))
