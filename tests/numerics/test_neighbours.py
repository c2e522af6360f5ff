"""Blocked neighbours against all pairs in float64, whatever the blocks, copies and gaps."""

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.numerics import neighbours
from dataworth.numerics.neighbours import nearest


def naive(vectors, order, k):
    """All pairs in float64, a Python sort a row."""
    rank = np.argsort(order)
    usable = [i for i in range(len(vectors)) if np.isfinite(vectors[i]).all() and vectors[i].any()]
    unit = {i: np.float64(vectors[i]) / np.linalg.norm(np.float64(vectors[i])) for i in usable}
    index = np.full((len(vectors), k), -1)
    cosine = np.full((len(vectors), k), np.nan)
    for i in usable:
        others = [(-round(float(unit[i] @ unit[j]), 6), rank[j], j) for j in usable if j != i]
        for c, (value, _, j) in enumerate(sorted(others)[:k]):
            index[i, c], cosine[i, c] = j, -value
    return index, cosine


def pool(n=90, width=12, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, width)).astype(np.float32)
    vectors[5] = np.nan
    vectors[17] = 0
    vectors[40:48] = vectors[40]
    vectors[60] = 4 * vectors[61]
    return vectors, rng.permutation(n)


@pytest.mark.parametrize("block", [1, 7, 32, 4096])
@pytest.mark.parametrize("k", [1, 4, 88, 120])
def test_equal_to_all_pairs_in_any_blocks(block, k):
    vectors, order = pool()
    got = nearest(vectors, order, k, block=block)
    index, cosine = naive(vectors, order, k)
    np.testing.assert_array_equal(got.index_Nk, index)
    np.testing.assert_allclose(got.cosine_Nk, cosine, atol=2e-6)
    assert got.index_Nk.dtype == np.int64 and got.cosine_Nk.dtype == np.float32


def test_more_copies_than_candidates_come_in_order_of_rows():
    rng = np.random.default_rng(1)
    vectors = np.repeat(rng.normal(size=(4, 8)), 50, axis=0).astype(np.float32)
    order = rng.permutation(200)
    one = nearest(vectors, order, 6, block=16)
    index, _ = naive(vectors, order, 6)
    np.testing.assert_array_equal(one.index_Nk, index)
    assert (one.cosine_Nk == 1).all()


def test_row_order_plays_no_part():
    vectors, order = pool(70)
    shuffle = np.random.default_rng(3).permutation(70)
    back = np.argsort(shuffle)
    one, two = nearest(vectors, order, 5, block=9), nearest(vectors[shuffle], back[order], 5, block=9)
    known = one.index_Nk[shuffle] >= 0
    np.testing.assert_array_equal(np.where(known, back[one.index_Nk[shuffle]], -1), two.index_Nk)
    np.testing.assert_array_equal(one.cosine_Nk[shuffle], two.cosine_Nk)


def test_noise_below_float32_is_settled_in_float64(monkeypatch):
    """Hundreds of rows within float32's error of one another: no slate of candidates can be trusted."""
    rng = np.random.default_rng(4)
    base = rng.normal(size=32)
    vectors = (base + 1e-5 * rng.normal(size=(150, 32))).astype(np.float32)
    order = np.arange(150)
    monkeypatch.setattr(neighbours, "_DECIDED_AT_ONCE", 5_000)
    got = [nearest(vectors, order, 3, block=b).index_Nk for b in (5, 64, 4096)]
    np.testing.assert_array_equal(got[0], got[1])
    np.testing.assert_array_equal(got[0], got[2])


def test_rows_sorted_by_likeness_fill_the_candidates_in_one_block():
    angle = np.linspace(0, 3, 400)
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    got = nearest(vectors, np.arange(400), 2, block=64)
    assert got.index_Nk[200].tolist() in ([199, 201], [201, 199])
    assert set(got.index_Nk[0]) == {1, 2}


def test_one_row_has_no_neighbour_and_wrong_numbers_are_refused():
    got = nearest(np.ones((1, 3)), np.array([0]), 2)
    assert (got.index_Nk == -1).all() and np.isnan(got.cosine_Nk).all()
    for wrong in ({"k": 0}, {"block": 0}):
        with pytest.raises(RequestError, match="at least 1"):
            nearest(np.ones((2, 3)), np.arange(2), **wrong)
