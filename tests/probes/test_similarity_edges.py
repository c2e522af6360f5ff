"""Streamed cosines for any shape of pool and goal, against float64 products one row at a time."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from dataworth.errors import NonsenseRefused, RequestError  # noqa: E402
from dataworth.numerics.quantize import directions, quantize  # noqa: E402
from dataworth.probes.similarity import FeatureRows, GoalProduct, goal_rows, joined, similarity  # noqa: E402

pytestmark = pytest.mark.lm


def features(x, fmt="int8", missing=(), projection="p"):
    have = np.array([i for i in range(len(x)) if i not in missing], dtype=np.int64)
    scale, norm = np.full((2, len(x)), np.nan, dtype=np.float32)
    if not len(have):
        return FeatureRows(
            lambda rows: iter(()), scale, norm, x.shape[1], projection, dict.fromkeys(map(str, missing), "x")
        )
    stored = quantize(x[have], fmt)
    scale[have], norm[have] = stored.scale_N, stored.norm_N

    def blocks(rows):
        for a in range(0, len(have), rows):
            yield have[a : a + rows], stored.codes_NP[a : a + rows]

    return FeatureRows(blocks, scale, norm, x.shape[1], projection, {str(i): "spoiled" for i in missing})


def naive(pool, goal, subtask, count, fmt):
    """[N, 2, G]: the mean of cosines with a subtask's rows, and the cosine with the sum of its unquantised rows."""

    def unit(x, f):
        stored = quantize(x.astype(np.float32), f)
        return directions(stored.codes_NP, stored.scale_N, x.shape[1]).astype(np.float64), stored.norm_N

    rows, _ = unit(pool, fmt)
    goals, norms = unit(goal, "fp16")
    out = np.zeros((len(pool), 2, count))
    for g in range(count):
        mine = subtask == g
        out[:, 0, g] = (rows @ goals[mine].T).mean(1)
        centre = (goals[mine] * norms[mine, None]).sum(0)
        out[:, 1, g] = rows @ (centre / np.linalg.norm(centre))
    return out


@settings(max_examples=60, derandomize=True)
@given(
    st.integers(1, 20),
    st.integers(1, 12),
    st.sampled_from([1, 2, 7, 8, 9, 16, 40, 257]),
    st.integers(1, 5),
    st.sampled_from(["int8", "fp16", "int4"]),
    st.integers(1, 25),
    st.integers(0, 1000),
)
def test_any_shape_equals_the_sum_by_hand(rows, goals, width, count, fmt, block, seed):
    count = min(count, goals)
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(rows, width)) * 10.0 ** rng.uniform(-5, 5, (rows, 1))
    goal = rng.normal(size=(goals, width)) * rng.uniform(0.1, 9, (goals, 1)) + 0.3
    subtask = np.arange(goals) % count
    got = similarity(
        [features(pool.astype(np.float32), fmt)],
        [features(goal.astype(np.float32), "fp16")],
        subtask,
        [f"t{g}" for g in range(count)],
        np.ones(1),
        block_rows=block,
    )
    wanted = naive(pool, goal, subtask, count, fmt)
    np.testing.assert_allclose(got.mean_CNG[0], wanted[:, 0], atol=2e-4)
    np.testing.assert_allclose(got.centroid_CNG[0], wanted[:, 1], atol=2e-3)
    assert np.abs(got.mean_CNG).max() <= 1 + 1e-3 and np.abs(got.centroid_CNG).max() <= 1 + 1e-3


def test_the_widest_exact_sum_does_not_overflow():
    width = 2**17
    rows = np.full((2, width), 127, np.int8)
    rows[1] = -127
    goal = np.full((1, width), 1.0)
    product = GoalProduct(goal / np.sqrt(width))
    scale = np.full(2, 1 / (127 * np.sqrt(width)), np.float32)
    np.testing.assert_allclose(product(rows, scale)[:, 0], [1, -1], atol=1e-4)
    assert not GoalProduct(np.ones((1, 2**18))).integer, "beyond that int32 is too narrow"


def test_copies_tie_to_the_bit_and_opposites_cancel():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 64)).astype(np.float32)
    pool = np.concatenate([x, 7 * x, -x, 1e-20 * x])
    got = similarity(
        [features(pool)], [features(rng.normal(size=(3, 64)).astype(np.float32))], np.zeros(3, int), ["a"], np.ones(1)
    )
    one = got.mean_CNG[0, :, 0]
    assert one[0] == one[1] == -one[2] == one[3]


def test_a_subtask_with_opposed_goal_rows_has_no_centroid():
    x = np.eye(2, 16, dtype=np.float32)[:1]
    with pytest.raises(NonsenseRefused):
        similarity([features(x)], [features(np.concatenate([x, -x]))], np.zeros(2, int), ["a"], np.ones(1))


def test_a_pool_without_a_scored_row_is_all_nan_with_reasons():
    x = np.ones((3, 16), np.float32)
    got = similarity([features(x, missing=(0, 1, 2))], [features(x[:1])], np.zeros(1, int), ["a"], np.ones(1))
    assert np.isnan(got.mean_CNG).all() and sorted(got.unscored) == ["0", "1", "2"]


def test_a_goal_without_a_scored_row_is_refused():
    x = np.ones((3, 16), np.float32)
    with pytest.raises(NonsenseRefused, match="'a' has no usable row"):
        similarity([features(x)], [features(x[:1], missing=(0,))], np.zeros(1, int), ["a"], np.ones(1))


def test_no_checkpoint_is_a_wrong_request():
    with pytest.raises(RequestError, match="0 pool, 0 goal"):
        similarity([], [], np.zeros(0, int), ["a"], np.ones(0))


def test_the_reasons_of_every_checkpoint_are_kept():
    rng = np.random.default_rng(1)
    pool, goal = rng.normal(size=(2, 5, 16)).astype(np.float32), rng.normal(size=(1, 2, 16)).astype(np.float32)[0]
    got = similarity(
        [features(pool[0], missing=(0,)), features(pool[1], missing=(3,))],
        [features(goal)] * 2,
        np.zeros(2, int),
        ["a"],
        np.array([0.5, 0.5]),
    )
    assert sorted(got.unscored) == ["0", "3"] and np.isnan(got.mean_CNG[:, [0, 3]]).all()
    assert np.isfinite(got.mean_CNG[:, [1, 2, 4]]).all()


def test_goal_rows_are_unit_vectors_and_nan_where_missing():
    x = np.random.default_rng(2).normal(size=(4, 11)).astype(np.float32)
    for fmt in ("int8", "fp16", "int4"):
        rows = goal_rows(features(x, fmt, missing=(2,)))
        np.testing.assert_allclose(np.linalg.norm(rows[[0, 1, 3]], axis=1), 1, rtol=1e-3)
        assert np.isnan(rows[2]).all()


@settings(max_examples=20, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.randoms(use_true_random=False))
def test_parts_joined_in_any_way_are_the_whole(rows, parts, block, shuffler):
    x = np.random.default_rng(rows).normal(size=(rows, 16)).astype(np.float32)
    owner = [shuffler.randrange(parts) for _ in range(rows)]
    missing = [i for i in range(rows) if shuffler.random() < 0.2]
    places = [np.array([i for i in range(rows) if owner[i] == k], dtype=np.int64) for k in range(parts)]
    pieces = [(features(x[at], missing=[n for n, i in enumerate(at) if i in missing]), at) for at in places if len(at)]
    whole, got = features(x, missing=missing), joined(pieces)
    np.testing.assert_array_equal(got.scale_N, whole.scale_N)
    np.testing.assert_array_equal(got.norm_N, whole.norm_N)
    np.testing.assert_array_equal(goal_rows(got), goal_rows(whole))
    seen = [i for at, _ in got.blocks(block) for i in at.tolist()]
    assert sorted(seen) == [i for i in range(rows) if i not in missing]
