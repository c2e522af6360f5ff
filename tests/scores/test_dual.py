import numpy as np
import pytest
from tests.scores.made_training import dynamics, inputs, of

from dataworth.errors import RequestError
from dataworth.scores.dual import DUAL


def naive(p_EN, window):
    windows = [p_EN[a : a + window] for a in range(len(p_EN) - window + 1)]
    return np.mean([w.std(axis=0, ddof=1) * (1 - w.mean(axis=0)) for w in windows], axis=0)


def test_windows_against_a_loop():
    found, _ = dynamics(20, nets=2, epochs=40)
    p = found.p_SEN.astype(np.float64)
    for options, epochs, window in (({}, 30, 10), ({"epochs": 40, "window": 7}, 40, 7), ({"window": 30}, 30, 30)):
        expected = np.mean([naive(p_EN[:epochs], window) for p_EN in p], axis=0)
        np.testing.assert_allclose(DUAL()(inputs(found), **options).values_N, expected, rtol=1e-6)


def test_epochs_after_the_thirtieth_play_no_part():
    found, _ = dynamics(20, epochs=40)
    before = DUAL()(inputs(found)).values_N
    found.p_SEN[:, 30:] = 0.0
    np.testing.assert_array_equal(DUAL()(inputs(found)).values_N, before)


def test_moving_rows_come_first_and_low_ones_before_high_ones():
    wave = np.tile([-0.1, 0.1], 6)
    got = DUAL()(inputs(of(p=np.stack([0.5 + 0 * wave, 0.8 + wave, 0.2 + wave], axis=1)))).values_N
    assert got[0] == pytest.approx(0, abs=1e-12)
    assert np.argsort(-got).tolist() == [2, 1, 0]


def test_a_row_that_never_moves_scores_nothing():
    assert not DUAL()(inputs(of(p=np.full((12, 3), 0.25)))).values_N.any()


def test_windows_that_did_not_see_a_row_are_left_out_for_it():
    found, _ = dynamics(6, nets=1, epochs=12)
    found.p_SEN[0, 0, 1] = np.nan
    found.p_SEN[0, 5, 2] = np.nan
    got = DUAL()(inputs(found))
    assert got.values_N[1] == pytest.approx(naive(found.p_SEN[0, 1:].astype(np.float64), 10)[1], rel=1e-6)
    assert list(got.unscored) == [inputs(found)["ids"][2]]


def test_fewer_epochs_than_a_window_are_refused():
    with pytest.raises(RequestError, match="window=10 in 9 epochs"):
        DUAL()(inputs(dynamics(5, epochs=9)[0]))
    with pytest.raises(RequestError, match="window=1 "):
        DUAL()(inputs(dynamics(5)[0]), window=1)
