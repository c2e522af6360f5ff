import math

import numpy as np
import pytest
from scipy.optimize import check_grad

from dataworth.errors import RequestError
from dataworth.laws import joint, power, repeated, shapes
from dataworth.laws.objective import DELTA, fit_log_law, huber, logs_of, natural

X = np.linspace(-2.0, 2.0, 7)
LAWS = {
    "power": (power._log_law(X), [0.3, -0.5, -0.8]),
    "pow4": (shapes._log_pow4(X), [0.3, -0.5, -0.8, -0.4]),
    "mmf4": (shapes._log_mmf4(X), [0.3, -0.5, -0.8, -0.4]),
    "joint": (joint._log_law(X, X[::-1] ** 2), [0.3, -0.2, -0.5, 0.4, 0.7]),
    "repeated": (repeated._log_law(X, np.arange(7.0)), [0.3, -0.5, -0.8, 1.2]),
}


def test_huber_is_quadratic_then_linear_and_smooth_between():
    r = np.array([-0.5, -1e-3, -5e-4, 0.0, 5e-4, 1e-3, 0.5])
    found = huber(r)
    assert found[[1, 2, 3, 4, 5]] == pytest.approx(r[[1, 2, 3, 4, 5]] ** 2 / 2)
    assert found[[0, 6]] == pytest.approx(DELTA * (0.5 - DELTA / 2))
    assert huber(np.array([DELTA * 1.0000001])) == pytest.approx(DELTA**2 / 2, rel=1e-6)


@pytest.mark.parametrize("name", LAWS)
def test_analytic_jacobians_are_those_of_finite_differences(name):
    law, p = LAWS[name]
    for k in range(len(X)):
        error = check_grad(lambda q, k=k: law(q)[0][k], lambda q, k=k: law(q)[1][k], np.array(p))
        assert error < 1e-6


def test_the_best_of_many_starts_wins():
    """One start sits where the slope is nil: alone it stays, beside a good one it loses."""
    law, truth = LAWS["power"]
    log_loss_R = law(np.array(truth))[0]
    stuck, good = [0.0, -900.0, 40.0], [0.0, 0.0, 0.0]
    alone = fit_log_law(law, log_loss_R, np.array([stuck]))
    both = fit_log_law(law, log_loss_R, np.array([stuck, good]))
    assert alone.objective > 1e-4
    assert both.objective < 1e-20 and both.p == pytest.approx(truth, abs=1e-6)


def test_natural_numbers_stay_finite():
    assert natural(0.7) == math.exp(0.7)
    assert 0 < natural(-1e9) < natural(1e9) < math.inf


def test_logs_refuse_what_has_none():
    assert logs_of("sizes", [1.0, math.e]).tolist() == pytest.approx([0.0, 1.0])
    for bad in ([1.0, 0.0], [[1.0]], [math.nan]):
        with pytest.raises(RequestError, match="sizes"):
            logs_of("sizes", bad)
