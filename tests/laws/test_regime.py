"""What pilots show of their regime."""

from dataclasses import replace

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.laws.regime import Pilots, regime

SIZES = 50.0 * 2.0 ** np.arange(6)


def pilots(test_K, train_K, larger_gain=None, *, noise=0.003, chains=5):
    """Chains around given curves; a larger model gains so much at the two largest sizes."""
    rng = np.random.default_rng(3)
    test_CK = np.asarray(test_K) * (1 + noise * rng.normal(size=(chains, 6)))
    train_CK = np.asarray(train_K) * (1 + noise * rng.normal(size=(chains, 6)))
    if larger_gain is None:
        return Pilots(SIZES, test_CK, train_CK)
    larger_CK = np.full((chains, 6), np.nan)
    larger_CK[:, -2:] = test_CK[:, -2:] - larger_gain * (1 + noise * rng.normal(size=(chains, 2)))
    return Pilots(SIZES, test_CK, train_CK, larger_CK)


def variance(P=10.0, floor=0.5):
    """Least squares with D >> P: test floor (1 + P / D), train floor (1 - P / D)."""
    return floor * (1 + P / SIZES), floor * (1 - P / SIZES)


def resolution(beta=0.4):
    return 3.0 * SIZES**-beta, np.full(6, 1e-9)


def test_a_floor_of_the_model_s_size():
    found = regime(pilots(*variance(), larger_gain=0.1))
    assert found.word == "variance-limited in data" and found.in_model == "resolution-limited in the model"
    assert found.beta.low < 1.0 < found.beta.high and found.floor == pytest.approx(0.5, rel=0.02)
    assert "a larger model will" in str(found)


def test_an_under_trained_model_isn_t_called_the_bottleneck():
    found = regime(pilots(*variance(), larger_gain=0.1), settled=False)
    assert found.word == "undetermined" and "under-trained" in found.reasons[0]
    assert regime(pilots(*resolution(), larger_gain=1e-3), settled=False).word == "resolution-limited in data"


def test_a_model_that_fits_every_row_wants_rows():
    test, train = resolution()
    found = regime(pilots(test, train, larger_gain=1e-3))
    assert found.word == "resolution-limited in data" and found.in_model == "variance-limited in the model"
    assert found.beta.value == pytest.approx(0.4, abs=0.03)
    assert "rows^-0.4" in str(found) and "a larger model little" in str(found)


def test_both_where_a_larger_model_gains_more_than_twice_the_rows():
    test, train = 1.0 + 3.0 * SIZES**-0.4, 0.6 * (1.0 + 3.0 * SIZES**-0.4)
    found = regime(pilots(test, train, larger_gain=0.3))
    assert found.word == "both" and found.in_model == "both"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (pilots(*variance()), "no larger model was trained"),
        (pilots(*variance(), larger_gain=0.0), "a larger model isn't shown to be better"),
        (Pilots(SIZES, pilots(*variance()).test_CK), "the train loss isn't known"),
        (pilots(np.full(6, 1.0), np.full(6, 0.9), larger_gain=0.1), "no fall of the loss"),
        (pilots(variance()[0], [0.0, 0.0, 0.1, 0.3, 0.4, 0.45], larger_gain=0.1), "interpolation threshold"),
        (pilots([1.0, 2.0, 1.5, 1.0, 0.8, 0.7], [0.1] * 6, larger_gain=0.1), "rises between 50 and 100 rows"),
        (pilots(resolution()[0], 0.95 * resolution()[0], larger_gain=1e-3), "is below 1, where a model"),
    ],
)
def test_anything_else_is_undetermined_with_its_reason(given, why):
    found = regime(given)
    assert found.word == "undetermined" and any(why in reason for reason in found.reasons), found.reasons
    assert str(found).startswith("cannot tell whether the data or the model is the bottleneck, because ")


def test_a_gain_that_may_be_that_of_twice_the_rows_or_more_decides_nothing():
    given = pilots(*resolution(), larger_gain=1.0)
    apart_C = np.linspace(-0.5, 0.5, 5)[:, None]
    larger_CK = given.test_CK - regime(given).doubling * (1 + apart_C) * np.isfinite(given.larger_CK)
    found = regime(Pilots(SIZES, given.test_CK, given.train_CK, np.where(np.isnan(given.larger_CK), np.nan, larger_CK)))
    assert found.word == "undetermined" and "isn't shown to be far less, or more" in found.reasons[0]


def test_order_of_chains_and_sizes_and_the_unit_change_nothing():
    given = pilots(*variance(), larger_gain=0.1)
    arrays = (given.sizes_K, given.test_CK, given.train_CK, given.larger_CK)
    turned = Pilots(*(x[::-1] if x.ndim == 1 else x[::-1, ::-1] for x in arrays))
    scaled = Pilots(given.sizes_K, 7 * given.test_CK, 7 * given.train_CK, 7 * given.larger_CK)
    for other in (turned, scaled):
        assert regime(other).word == regime(given).word
        assert regime(other).beta.value == pytest.approx(regime(given).beta.value, rel=1e-3)


def test_losses_that_have_hardly_moved_have_not_met():
    given = pilots(*variance(), larger_gain=0.1)
    assert regime(given).word == "variance-limited in data"
    largest = float(given.test_CK[:, -1].mean())
    assert regime(replace(given, untouched=10 * largest)).word == "variance-limited in data"
    # As of a language model: training took away no more than twice the gap between train and test loss.
    gap = largest - float(given.train_CK[:, -1].mean())
    found = regime(replace(given, untouched=largest + 2 * gap))
    assert found.word == "undetermined"
    assert "of what training took away: they haven't met, they have hardly moved" in found.reasons[0]
    assert regime(replace(given, untouched=largest / 2)).word == "undetermined", "it was better before"


def test_a_gap_that_is_only_uncertain_is_not_called_large():
    given = pilots(*variance(), larger_gain=0.1)
    largest = float(given.test_CK[:, -1].mean())
    train_CK = given.train_CK.copy()
    train_CK[:, -1] = given.test_CK[:, -1] - 0.01 * largest * np.linspace(0.2, 1.8, len(train_CK))
    found = regime(replace(given, train_CK=train_CK, untouched=largest * 1.055))
    assert found.word == "undetermined"
    assert "too uncertain to say whether they have met" in found.reasons[0] and "by 18%" in found.reasons[0]
    assert not any("hardly moved" in reason for reason in found.reasons)


def test_a_wide_exponent_says_nothing_of_one():
    found = regime(pilots(*variance(), larger_gain=0.01, noise=0.03))
    assert found.word == "undetermined" and found.beta.low < 0.5
    assert any("is too uncertain" in reason for reason in found.reasons)
    # Beside a larger model that gains ten times what twice the rows would, it needn't say anything.
    assert regime(pilots(*variance(), larger_gain=0.1, noise=0.03)).word == "variance-limited in data"


def test_shapes_must_agree():
    with pytest.raises(RequestError, match="expected that of the test loss"):
        Pilots(SIZES, np.ones((3, 6)), np.ones((3, 5)))
