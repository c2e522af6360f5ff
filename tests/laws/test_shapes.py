import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.laws.objective import huber
from dataworth.laws.power import PowerLaw, fit_power
from dataworth.laws.shapes import Shape, fit_shape

SIZES = 125 * 2.0 ** np.arange(6)
NAMES = ("pow4", "mmf4")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("D0, beta", [(60.0, 0.45), (300.0, 0.45), (1000.0, 0.9)])
def test_a_shape_is_recovered_from_points_without_noise(name, D0, beta):
    truth = Shape(name, 0.3, 8.0, beta, D0, 0.0)
    found = fit_shape(name, SIZES, truth.at(SIZES), fit_power(SIZES, truth.at(SIZES)))
    assert (found.E, found.B, found.beta, found.D0) == pytest.approx((0.3, 8.0, beta, D0), rel=1e-5)


def test_the_formulas():
    D = 700.0
    assert Shape("pow4", 0.3, 8.0, 0.5, 90.0, 0.0).at(D) == pytest.approx(0.3 + 8.0 * (D + 90.0) ** -0.5)
    assert Shape("mmf4", 0.3, 8.0, 0.5, 90.0, 0.0).at(D) == pytest.approx(0.3 + 8.0 / (90.0**0.5 + D**0.5))


@pytest.mark.parametrize("name", NAMES)
def test_a_power_law_is_the_case_without_a_bend(name):
    truth = PowerLaw(0.3, 8.0, 0.45)
    assert Shape(name, 0.3, 8.0, 0.45, 0.0, 0.0).at(SIZES) == pytest.approx(truth.at(SIZES))
    found = fit_shape(name, SIZES, truth.at(SIZES), fit_power(SIZES, truth.at(SIZES)))
    assert found.at(40_000) == pytest.approx(truth.at(40_000), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["law", "flat", "rising", "exponential", "steps", "huge", "tiny"])
def test_a_shape_fits_no_worse_than_the_law_it_contains(name, kind):
    rng = np.random.default_rng(0)
    D_R = np.tile(SIZES, 3)
    curve = {
        "law": PowerLaw(0.3, 8.0, 0.45).at(D_R),
        "flat": np.full_like(D_R, 1.5),
        "rising": (D_R / 1000) ** 0.2,
        "exponential": 0.5 + 1.5 * np.exp(-D_R / 1000),
        "steps": np.where(D_R < 600, 2.0, 1.0),
        "huge": 1e8 * PowerLaw(0.3, 8.0, 0.45).at(D_R),
        "tiny": 1e-8 * PowerLaw(0.3, 8.0, 0.45).at(D_R),
    }[kind]
    loss_R = curve * np.exp(0.01 * rng.standard_normal(len(D_R)))
    law = fit_power(D_R, loss_R)
    found = fit_shape(name, D_R, loss_R, law)
    assert found.objective <= law.objective * 1.001 + 1e-9
    assert found.objective == pytest.approx(float(huber(np.log(found.at(D_R)) - np.log(loss_R)).sum()), rel=1e-3)
    assert np.isfinite(found.at(np.array([1.0, 1e9]))).all()


@pytest.mark.parametrize("name", NAMES)
def test_order_and_scale(name):
    rng = np.random.default_rng(0)
    loss_R = Shape("pow4", 0.3, 8.0, 0.45, 300.0, 0.0).at(SIZES) * np.exp(0.01 * rng.standard_normal(6))
    law, order = fit_power(SIZES, loss_R), [3, 1, 0, 5, 4, 2]
    found = fit_shape(name, SIZES, loss_R, law)
    assert fit_shape(name, SIZES[order], loss_R[order], law) == found
    scaled = fit_shape(name, 10 * SIZES, 5 * loss_R, fit_power(10 * SIZES, 5 * loss_R))
    assert scaled.objective == pytest.approx(found.objective, rel=0.01)
    assert scaled.at(80_000) == pytest.approx(5 * found.at(8_000), rel=1e-3)


def test_an_unknown_shape_is_refused():
    with pytest.raises(RequestError, match="pow4 or mmf4"):
        fit_shape("wbl4", SIZES, SIZES, PowerLaw(0.3, 8.0, 0.45))
