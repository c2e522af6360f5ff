import numpy as np
import pytest

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics.quantize import directions, pack_int4, quantize, refusals, unpack_int4

WIDTH = 513


def rows(n=20, width=WIDTH, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


@pytest.mark.parametrize("fmt", ["int8", "fp16", "int4"])
def test_directions_are_unit_and_within_the_stated_angle(fmt):
    x = rows()
    stored = quantize(x, fmt)
    got = directions(stored.codes_NP, stored.scale_N, WIDTH)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(stored.norm_N, np.linalg.norm(x, axis=1), rtol=1e-6)
    if fmt == "fp16":
        assert np.abs(got - unit).max() < 2e-4
        return
    step = np.abs(unit).max(axis=1) / {"int8": 127, "int4": 7}[fmt]
    angle = np.arccos(np.clip((got * unit).sum(axis=1), -1, 1))
    assert (angle <= np.arcsin(np.minimum(1, step * np.sqrt(WIDTH) / 2)) + 1e-3).all()
    goal = np.random.default_rng(9).normal(size=(200, WIDTH))
    goal /= np.linalg.norm(goal, axis=1, keepdims=True)
    error = (got - unit) @ goal.T
    assert error.std() == pytest.approx(step.mean() / np.sqrt(12), rel=0.15)


def test_int8_equals_fp16_to_a_thousandth_at_the_default_width():
    x, goal = rows(16, 8192), rows(16, 8192, seed=1)
    goal /= np.linalg.norm(goal, axis=1, keepdims=True)
    a, b = quantize(x, "int8"), quantize(x, "fp16")
    gap = (directions(*a[:2], 8192) - directions(*b[:2], 8192)) @ goal.T
    assert np.abs(gap).max() < 1e-3


@pytest.mark.parametrize("factor", [1e-30, 1e-6, 7.0, 1e30])
def test_codes_ignore_the_length_of_a_row(factor):
    x = rows()
    a, b = quantize(x), quantize((x * np.float32(factor)).astype(np.float32))
    assert np.abs(a.codes_NP.astype(int) - b.codes_NP.astype(int)).max() <= 1
    np.testing.assert_allclose(b.norm_N, a.norm_N * factor, rtol=1e-4)


def test_a_row_does_not_depend_on_its_batch():
    x = rows()
    whole, alone = quantize(x), quantize(x[3:4])
    np.testing.assert_array_equal(whole.codes_NP[3], alone.codes_NP[0])
    assert whole.scale_N[3] == alone.scale_N[0]


def test_bad_rows_are_named_and_refused():
    x = rows(4)
    x[1] = 0
    x[2, 5] = np.nan
    x[3, 0] = np.inf
    assert refusals(x) == {
        1: "its features are all zero",
        2: "its features are not finite",
        3: "its features are not finite",
    }
    with pytest.raises(NonsenseRefused, match="row 1"):
        quantize(x)
    with pytest.raises(RequestError, match="int8"):
        quantize(rows(), "int7")


@pytest.mark.parametrize("width", [1, 2, 7, 8])
def test_int4_packs_and_unpacks(width):
    q = np.random.default_rng(width).integers(-7, 8, size=(5, width)).astype(np.int8)
    assert pack_int4(q).shape == (5, (width + 1) // 2)
    np.testing.assert_array_equal(unpack_int4(pack_int4(q), width), q)
