"""Codes within the stated bounds for any row, and cosines against naive loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.naive_cosines import cosines

from dataworth.errors import NonsenseRefused
from dataworth.numerics.quantize import directions, pack_int4, quantize, refusals, unpack_int4
from dataworth.numerics.similarity import goal_directions, unit_rows

LEVELS = {"int8": 127, "int4": 7}  # as the docs of `quantize` state them
FINITE = st.floats(-(2.0**50), 2.0**50, width=32).map(lambda v: v if abs(v) > 1e-12 else 0.0)
ROWS = hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 24)), elements=FINITE)


def usable(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[np.abs(x).max(axis=1) == 0, 0] = 1
    return x


@settings(max_examples=150)
@given(ROWS, st.sampled_from(["int8", "int4", "fp16"]))
def test_every_entry_is_within_half_a_step_and_every_direction_within_its_angle(x, fmt):
    x = usable(x)
    width = x.shape[1]
    stored = quantize(x, fmt)
    got = directions(stored.codes_NP, stored.scale_N, width).astype(np.float64)
    assert got.shape == x.shape
    exact = x.astype(np.float64)
    length = np.sqrt((exact**2).sum(axis=1))
    unit = exact / length[:, None]
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(stored.norm_N, length, rtol=1e-5)
    assert not np.any((got * unit < 0) & (np.abs(unit) > 1e-3))  # no sign is turned
    if fmt == "fp16":
        np.testing.assert_allclose(got, unit, rtol=2e-3, atol=1e-6)
        return
    codes = stored.codes_NP if fmt == "int8" else unpack_int4(stored.codes_NP, width)
    assert np.abs(codes).max(axis=1).tolist() == [LEVELS[fmt]] * len(x)
    step = np.abs(unit).max(axis=1) / LEVELS[fmt]
    assert (np.abs(codes * step[:, None] - unit) <= step[:, None] / 2 * (1 + 1e-4)).all()
    bound = np.arcsin(np.minimum(1, step * math.sqrt(width) / 2))
    angle = 2 * np.arcsin(np.minimum(1, np.linalg.norm(got - unit, axis=1) / 2))
    assert (angle <= bound + 1e-3).all()


@settings(max_examples=60)
@given(ROWS, st.sampled_from(["int8", "int4", "fp16"]), st.sampled_from([2.0**-20, 0.5, 4.0, 2.0**20]))
def test_turning_round_and_stretching_by_a_power_of_two_change_no_code(x, fmt, factor):
    x = usable(x)
    one, stretched, turned = quantize(x, fmt), quantize(x * np.float32(factor), fmt), quantize(-x, fmt)
    np.testing.assert_array_equal(one.codes_NP, stretched.codes_NP)
    np.testing.assert_array_equal(one.scale_N, stretched.scale_N)
    np.testing.assert_array_equal(directions(*one[:2], x.shape[1]) + 0.0, -directions(*turned[:2], x.shape[1]) + 0.0)


@settings(max_examples=80)
@given(hnp.arrays(np.int8, st.tuples(st.integers(0, 4), st.integers(1, 17)), elements=st.integers(-7, 7)))
def test_nibbles_are_lossless_and_laid_out_as_stated(q):
    packed = pack_int4(q)
    assert packed.dtype == np.uint8 and packed.shape == (len(q), -(-q.shape[1] // 2))
    np.testing.assert_array_equal(unpack_int4(packed, q.shape[1]), q)
    for row, codes in zip(packed, q, strict=True):
        for k, byte in enumerate(row.tolist()):
            high = int(codes[2 * k + 1]) if 2 * k + 1 < len(codes) else 0
            assert byte == (int(codes[2 * k]) + 8) | ((high + 8) << 4)


@settings(max_examples=60)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 5)),
        elements=st.sampled_from([0, 1, -2, np.nan, np.inf, -np.inf]),
    )
)
def test_refusals_name_exactly_the_rows_without_a_direction(x):
    naive = {}
    for i, row in enumerate(x.tolist()):
        if not all(map(math.isfinite, row)):
            naive[i] = "its features are not finite"
        elif not any(row):
            naive[i] = "its features are all zero"
    assert refusals(x) == naive
    if naive:
        with pytest.raises(NonsenseRefused, match=f"row {min(naive)}: {naive[min(naive)]}"):
            quantize(x)
    else:
        assert quantize(x).codes_NP.shape == x.shape


@settings(max_examples=80)
@given(
    st.integers(1, 12),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 10**6),
    st.sampled_from(["int8", "int4", "fp16"]),
    st.integers(1, 5),
)
def test_cosines_equal_loops_over_rows_and_goals(rows, width, goals, seed, fmt, block):
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=(rows, width)).astype(np.float32), rng.normal(size=(goals, width))
    stored = quantize(x, fmt)
    order = rng.permutation(rows)
    left_out = set(order[: rows // 3].tolist())
    come = np.array([i for i in order.tolist() if i not in left_out], dtype=np.int64)
    blocks = [(come[a : a + block], stored.codes_NP[come[a : a + block]]) for a in range(0, len(come), block)]
    got = cosines(iter(blocks), stored.scale_N, g)
    assert got.shape == (rows, goals) and got.dtype == np.float32
    rebuilt = directions(stored.codes_NP, stored.scale_N, width)
    for i in range(rows):
        for k in range(goals):
            if i in left_out:
                assert np.isnan(got[i, k])
            else:
                naive = sum(float(a) * float(b) for a, b in zip(rebuilt[i], g[k], strict=True))
                assert got[i, k] == pytest.approx(naive, abs=1e-5)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 2), min_size=3, max_size=12), st.integers(0, 10**6), st.floats(1e-20, 1e20))
def test_goal_directions_equal_loops_for_any_length_of_gradients(subtask, seed, length):
    subtask = [0, 1, 2, *subtask]
    rng = np.random.default_rng(seed)
    unit = unit_rows(rng.normal(size=(len(subtask), 5)))
    norm = rng.uniform(0.5, 2, size=len(subtask)) * length
    mean, centroid = goal_directions(unit, norm, np.array(subtask), ["a", "b", "c"])
    for g in range(3):
        rows = [i for i, s in enumerate(subtask) if s == g]
        np.testing.assert_allclose(mean[g], sum(unit[i] for i in rows) / len(rows), atol=1e-12)
        raw = sum(unit[i] * (norm[i] / length) for i in rows)
        np.testing.assert_allclose(centroid[g], raw / np.linalg.norm(raw), atol=1e-9)


@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(1, 4)), elements=st.floats(-1e3, 1e3)))
def test_unit_rows_keep_zero_rows(x):
    for row, unit in zip(x, unit_rows(x), strict=True):
        size = math.sqrt(float(row @ row))
        np.testing.assert_allclose(unit, row / size if size else row, atol=1e-9)
