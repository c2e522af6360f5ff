import numpy as np
import pytest

from dataworth.dynamics import mean_of
from dataworth.errors import RequestError
from dataworth.scores.over_epochs import first_epochs, forgotten, mean_and_spread, one_of


def holed(shape=(7, 30), seed=0):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=shape)
    table[rng.random(shape) < 0.3] = np.nan
    table[:, 4] = np.nan
    return table


def test_means_and_spreads_are_those_of_what_was_seen():
    table = holed()
    mean, spread = mean_and_spread(table)
    for i in range(table.shape[1]):
        seen = table[~np.isnan(table[:, i]), i]
        if not len(seen):
            assert np.isnan(mean[i]) and np.isnan(spread[i])
            continue
        assert mean[i] == pytest.approx(seen.mean())
        assert np.isnan(spread[i]) if len(seen) < 2 else spread[i] == pytest.approx(seen.std())
    sample = mean_and_spread(table, sample=True)[1]
    assert sample[0] == pytest.approx(np.nanstd(table[:, 0], ddof=1))


def test_a_row_alone_has_the_very_number_it_has_among_others():
    table = holed((40, 30)).astype(np.float32)
    for i in range(30):
        for whole, alone in zip(mean_and_spread(table), mean_and_spread(table[:, [i]]), strict=True):
            np.testing.assert_array_equal(whole[[i]], alone)


def test_forgotten_passes_over_epochs_that_did_not_see_the_row():
    n = np.nan
    correct = np.array([[1, 0, 1, 1, 0], [0, 0, 0, n, n], [1, n, 0, n, 1], [n, n, n, n, n], [n, 1, 1, 1, 1]]).T
    count, learned = forgotten(correct)
    np.testing.assert_array_equal(count, [2, 0, 1, np.nan, 0])
    assert learned.tolist() == [True, False, True, False, True]


def test_epochs_asked_for_must_have_been_recorded():
    assert (first_epochs(12, 0, 20), first_epochs(30, 0, 20), first_epochs(30, 25, 20)) == (12, 20, 25)
    for wanted in (13, -1):
        with pytest.raises(RequestError, match="12 recorded"):
            first_epochs(12, wanted, 20)
    with pytest.raises(RequestError, match="nothing was recorded"):
        mean_of(np.empty((0, 3)))
    with pytest.raises(RequestError, match="expected a, b"):
        one_of("which", "c", ("a", "b"))
