from itertools import pairwise

import numpy as np
import pytest
from tests.scores.made_training import dynamics, inputs, of

from dataworth.errors import RequestError
from dataworth.scores.forgetting import Forgetting

SEQUENCES = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 0, 1, 0, 1]]).T


def test_events_are_counted_and_never_learned_rows_are_no_easy_ones():
    got = Forgetting()(inputs(of(correct=SEQUENCES))).values_N
    assert got[[0, 2, 3, 4]].tolist() == [2, 0, 0, 2]
    assert got[1] > 4


def test_never_learned_rows_can_be_left_out():
    got = Forgetting()(inputs(of(correct=SEQUENCES)), never="unscored")
    assert got.values_N[[0, 2, 3, 4]].tolist() == [2, 0, 0, 2]
    assert list(got.unscored.values()) == ["no net ever got it right"]


def test_never_learned_rows_are_ordered_by_their_error():
    correct, error = np.zeros((6, 4)), np.tile([1.2, 1.4, 1.0, 0.3], (6, 1))
    correct[::2, 3] = 1
    got = Forgetting()(inputs(of(correct=correct, error=error))).values_N
    assert np.argsort(-got).tolist() == [1, 0, 2, 3] and np.isfinite(got).all()


def test_what_no_net_learned_is_above_what_most_nets_did_not():
    correct, error = np.zeros((10, 2, 2)), np.full((10, 2, 2), 1.41)
    error[:, :, 1] = 0.0
    correct[0, :, 0] = [1, 0]
    for nets in (2, 10):
        got = Forgetting()(inputs(of(correct=correct[:nets], error=error[:nets]))).values_N
        assert got[1] > got[0]


def test_mean_over_nets_against_a_loop():
    found, _ = dynamics(60, nets=4, epochs=9)
    expected = []
    for i in range(60):
        per_net = []
        for s in range(4):
            row = found.correct_SEN[s, :, i].tolist()
            per_net.append(sum(a > b for a, b in pairwise(row)) if any(row) else 9)
        never = not found.correct_SEN[:, :, i].any()
        expected.append(np.mean(per_net) + (found.error_SEN[:, :, i].mean() / 2 if never else 0))
    np.testing.assert_allclose(Forgetting()(inputs(found)).values_N, expected, rtol=1e-6)


def test_wrong_requests():
    found, _ = dynamics(5, epochs=1)
    with pytest.raises(RequestError, match="two or more"):
        Forgetting()(inputs(found))
    with pytest.raises(RequestError, match="hardest, unscored"):
        Forgetting()(inputs(dynamics(5)[0]), never="inf")
