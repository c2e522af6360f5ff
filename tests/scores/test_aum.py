import numpy as np
import pytest
from tests.scores.made_training import dynamics, inputs, of, row_ids

from dataworth.errors import RequestError
from dataworth.scores.aum import AUM
from dataworth.scores.threshold_classes import cut_off, mislabelled, relabelled, threshold_sets


def test_the_mean_of_two_updates():
    assert AUM()(inputs(of(margin=[[-3.20], [-4.37]]))).values_N[0] == pytest.approx(-3.785)


def test_every_epoch_counts_not_the_last_alone():
    margin = np.random.default_rng(0).normal(size=(2, 8, 5)).astype(np.float32)
    np.testing.assert_allclose(AUM()(inputs(of(margin=margin))).values_N, margin.mean(axis=(0, 1)), rtol=1e-5)


def test_rows_with_a_wrong_label_are_at_the_end_that_is_kept():
    found, _ = dynamics(400, seed=1)
    wrong = dynamics(400, seed=1)[0].margin_SEN.mean(axis=(0, 1)) < 0
    values = AUM()(inputs(found)).values_N
    assert AUM.higher == "drop" and values[wrong].max() < values[~wrong].min()


def test_threshold_sets_are_disjoint_of_the_stated_size_and_know_no_row_order():
    ids = row_ids(110)
    a, b = threshold_sets(ids, 10)
    assert len(a) == len(b) == 10 and not set(a) & set(b)
    order = np.random.default_rng(0).permutation(110)
    again = threshold_sets([ids[i] for i in order], 10)
    assert {ids[i] for i in a} == {ids[order[i]] for i in again[0]}
    assert set(threshold_sets(ids, 10, seed=1)[0]) != set(a)
    labels = np.arange(110) % 10
    changed = relabelled(labels, a, 10)
    assert (changed[a] == 10).all() and (np.delete(changed, a) == np.delete(labels, a)).all()
    for few in ((5, 5), (9, 1)):
        with pytest.raises(RequestError, match="classes"):
            threshold_sets(ids[: few[0]], few[1])


def test_planted_wrong_labels_are_found_and_threshold_rows_judged_by_the_other_run():
    rng = np.random.default_rng(0)
    wrong = rng.random(1100) < 0.1
    sets = threshold_sets(row_ids(1100), 10)
    aum = np.where(wrong, -3.0, 3.0) + rng.normal(scale=0.5, size=(2, 1100))
    for run, rows in enumerate(sets):
        aum[run, rows] = -2 + rng.normal(scale=0.5, size=len(rows))  # what is mislabelled on purpose looks so
    got = mislabelled(aum, sets)
    assert got[wrong].mean() > 0.95 and got[~wrong].mean() < 0.01
    assert not got[np.setdiff1d(sets[0], np.flatnonzero(wrong))].any()


def test_the_cut_off_is_a_percentile_of_the_threshold_rows():
    aum = np.arange(200.0)
    assert cut_off(aum, np.arange(101)) == pytest.approx(99)
    assert cut_off(aum, np.arange(101), 50) == pytest.approx(50)
    with pytest.raises(RequestError, match="no threshold row"):
        cut_off(np.full(4, np.nan), np.arange(2))
    holed = aum.copy()
    holed[7] = np.nan
    assert not mislabelled(np.stack([holed, holed]), (np.arange(100, 120), np.arange(150, 180)))[7]
