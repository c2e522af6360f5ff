"""k-center beside the loop that takes every product of a row and a center: the same to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataworth.numerics import kcenter
from dataworth.numerics.kcenter import farthest_first


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def clusters(rng, rows, width):
    return unit(rng.normal(size=(max(2, rows // 20), width))[rng.integers(0, max(2, rows // 20), rows)]
                + 0.3 * rng.normal(size=(rows, width)))  # fmt: skip


def chain(rng, rows, width):
    """Rows along a curve: each new center is between two of those before it."""
    t = np.sort(rng.random(rows))[:, None] * 3
    return unit(np.concatenate([np.cos(t * n) for n in range(1, width + 1)], axis=1) + 2)


ROWS = {
    "clusters": clusters,
    "alike": lambda rng, rows, width: unit(rng.normal(size=(rows, width))),
    "chain": chain,
    "copies": lambda rng, rows, width: unit(rng.normal(size=(rows, width)))[rng.integers(0, max(1, rows // 5), rows)],
    "one": lambda rng, rows, width: unit(np.ones((rows, width))),
    "level": lambda rng, rows, width: np.eye(max(width, 2), dtype=np.float32)[rng.integers(0, max(width, 2), rows)],
    "signs": lambda rng, rows, width: unit(rng.choice([-1.0, 1.0], size=(rows, width))),
    "near": lambda rng, rows, width: unit(1 + 1e-3 * rng.normal(size=(rows, width))),
    "nearer": lambda rng, rows, width: unit(clusters(rng, rows, width) + 3e-6 * rng.normal(size=(rows, width))),
    "narrow": lambda rng, rows, width: unit(1 + 0.2 * rng.normal(size=(rows, width))),
    "no unit": lambda rng, rows, width: (rng.normal(size=(rows, width)) * rng.random((rows, 1))).astype(np.float32),
    "long": lambda rng, rows, width: (3 * clusters(rng, rows, width)).astype(np.float32),
    "float64": lambda rng, rows, width: unit(rng.normal(size=(rows, width))).astype(np.float64) / 1.0000003,
}


def loop(x, k, first):
    """What `farthest_first` did before it left out products; a product is of four rows, the last of up to seven."""
    tail = max(0, 4 * (len(x) // 4 - 1))
    centers, radii = [first], []
    square = np.full(len(x), np.inf)
    chosen = np.zeros(len(x), dtype=bool)
    while True:
        center = x[centers[-1]]
        product = np.concatenate([*(x[a : a + 4] @ center for a in range(0, tail, 4)), x[tail:] @ center])
        np.minimum(square, np.maximum(2.0 - 2.0 * np.round(product, 6), 0.0), out=square)
        chosen[centers[-1]] = True
        radii.append(float(np.sqrt(square.max())))
        if len(centers) >= min(k, len(x)):
            return np.array(centers), np.array(radii), np.sqrt(square)
        centers.append(int(np.argmax(np.where(chosen, -1.0, square))))


def assert_same(x, k, first):
    for ours, theirs in zip(farthest_first(x, k, first), loop(x, k, first), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize(("rows", "width", "k"), [(701, 24, 90), (402, 130, 402), (803, 3, 200)])
def test_leaving_out_products_changes_nothing(kind, rows, width, k):
    assert_same(ROWS[kind](np.random.default_rng(rows), rows, width), k, rows // 3)


@given(
    st.sampled_from(sorted(ROWS)),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(0, 70),
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(2, 9), st.integers(1, 3), st.integers(1, 9), st.integers(0, 2)),
)
def test_nor_do_the_sizes_of_blocks(kind, rows, width, k, seed, sizes):
    x = ROWS[kind](np.random.default_rng(seed), rows, width)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("_FIRST_AHEAD", "_FEWEST", "_ROWS", "_PAUSE"), sizes, strict=True):
            patch.setattr(kcenter, name, size)
        patch.setattr(kcenter, "_MOST_AHEAD", 2 * sizes[0])
        patch.setattr(kcenter, "_MOST", 2 * sizes[1])
        assert_same(x, k, seed % rows)


@pytest.mark.parametrize("rows", range(1, 14))
def test_few_rows_are_all_taken_and_an_order_of_columns_plays_no_part(rows):
    x = ROWS["alike"](np.random.default_rng(rows), rows, 5)
    for k in (0, 1, rows - 1, rows, rows + 3):
        assert_same(x, k, rows - 1)
    for ours, theirs in zip(farthest_first(np.asfortranarray(x), rows, 0), farthest_first(x, rows, 0), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_whole_numbers_give_what_one_product_for_all_rows_gives():
    """Products that are exact don't depend on how BLAS sums: also ties fall as in the plain formula."""
    x = np.random.default_rng(3).choice([-0.25, 0.25], size=(501, 16)).astype(np.float32)
    centers, radii, near = farthest_first(x, 120, 7)
    least, picked, radius = np.full(501, np.inf), [7], []
    while True:
        least = np.minimum(least, 2 - 2 * np.round((x @ x[picked[-1]]).astype(float), 6))
        radius.append(least.max())
        if len(picked) == 120:
            break
        picked.append(next(i for i in np.argsort(-least, kind="stable").tolist() if i not in picked))
    assert centers.tolist() == picked
    np.testing.assert_allclose(radii**2, radius, atol=1e-6)
    np.testing.assert_allclose(near**2, least, atol=1e-6)


def test_rows_far_from_new_centers_are_not_looked_at(monkeypatch):
    """In clusters, once each has a center, new ones concern few rows: the bulk of the products is left out."""
    rng = np.random.default_rng(0)
    x = unit(rng.normal(size=(40, 64))[rng.integers(0, 40, 4000)] + 0.2 * rng.normal(size=(4000, 64)))
    seen, compare = [], kcenter._Cover._compare

    def counted(self, a, b, among, open_N):
        seen.append(len(among) * (b - a))
        compare(self, a, b, among, open_N)

    monkeypatch.setattr(kcenter._Cover, "_compare", counted)
    assert_same(x, 400, 0)
    assert sum(seen) < 0.35 * 4000 * 400
