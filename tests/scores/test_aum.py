import numpy as np
import pytest
from tests.scores.made_training import dynamics, inputs, of

from dataworth.scores.aum import AUM


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
