"""The fold as mathematics: linear, unbiased with the stated variance, wrapping around, the same for any cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataworth.errors import FingerprintMismatch, RequestError
from dataworth.numerics.projection import Projection, dense, fold, mix32, sign_words, signs

LENGTHS = st.integers(1, 90)
WIDTHS = st.integers(1, 40)
SEEDS = st.integers(0, 2**31)


def integers(rows: int, length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9, 10, size=(rows, length))


@settings(max_examples=80)
@given(LENGTHS, WIDTHS, SEEDS, st.integers(0, 200), st.integers(-5, 5), st.sampled_from([fold, dense]))
def test_projections_are_linear_exactly_in_integers(length, width, seed, offset, factor, kind):
    x, y = integers(2, length, seed), integers(2, length, seed + 1)
    more = {"offset": offset} if kind is fold else {}

    def p(v):
        return kind(v, width, seed=seed, module="m", **more)

    assert p(x).dtype == np.int64 and p(x).shape == (2, width)
    np.testing.assert_array_equal(p(x + factor * y), p(x) + factor * p(y))
    np.testing.assert_array_equal(p(np.zeros_like(x)), 0)
    np.testing.assert_array_equal(p(x[0]), p(x)[:1])


@settings(max_examples=60)
@given(LENGTHS, WIDTHS, SEEDS, st.integers(0, 500))
def test_offsets_wrap_around_and_only_turn_the_columns(length, width, seed, offset):
    x = integers(3, length, seed)
    at_zero = fold(x, width, seed=seed, module="m")
    turned = fold(x, width, seed=seed, module="m", offset=offset)
    np.testing.assert_array_equal(turned, np.roll(at_zero, offset, axis=1))
    np.testing.assert_array_equal(turned, fold(x, width, seed=seed, module="m", offset=offset % width))


@settings(max_examples=60)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), WIDTHS, SEEDS)
def test_a_projection_is_the_fold_of_the_signed_concatenation(sizes, width, seed):
    modules = tuple((f"m{n}", size) for n, size in enumerate(sizes))
    projection = Projection(modules, width=width, seed=seed)
    parts = {name: integers(2, size, seed + n) for n, (name, size) in enumerate(modules)}
    signed = np.concatenate([parts[n] * signs(seed, n, 0, s).astype(np.int64) for n, s in modules], axis=1)
    naive = np.zeros((2, width), dtype=np.int64)
    for j in range(signed.shape[1]):
        naive[:, j % width] += signed[:, j]
    np.testing.assert_array_equal(projection.project(parts), naive)
    assert projection.entries == sum(sizes) == signed.shape[1]
    if projection.entries <= width:
        np.testing.assert_array_equal((projection.project(parts) ** 2).sum(1), (signed**2).sum(1))


@pytest.mark.parametrize("kind", ["fold", "dense"])
def test_dot_products_are_unbiased_with_the_variance_of_a_random_sign_sketch(kind):
    """Over seeds: the mean is x.y; the fold's variance is the collisions' sum, the dense one's that over all pairs."""
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(2, 48))
    width, draws = 8, 4000
    rows = np.stack([x, y])
    found = np.empty(draws)
    for seed in range(draws):
        px, py = Projection((("m", 48),), width=width, seed=seed, kind=kind).project({"m": rows})
        found[seed] = px @ py
    column = np.arange(48) % width
    pairs = np.outer(x, y)
    collide = (column[:, None] == column[None, :]) & ~np.eye(48, dtype=bool)
    weight = collide if kind == "fold" else ~np.eye(48, dtype=bool) / width
    variance = ((pairs**2 + pairs * pairs.T) * weight).sum()
    assert abs(found.mean() - x @ y) < 4 * np.sqrt(variance / draws)
    assert found.var() == pytest.approx(variance, rel=0.15)


@settings(max_examples=50)
@given(st.integers(0, 2**33), st.integers(0, 70), st.integers(0, 70))
def test_a_stream_of_signs_may_be_cut_anywhere(start, first, second):
    whole = signs(3, "m", start, start + first + second)
    cut = np.concatenate([signs(3, "m", start, start + first), signs(3, "m", start + first, start + first + second)])
    np.testing.assert_array_equal(whole, cut)
    assert set(np.unique(whole)) <= {-1, 1} and len(whole) == first + second


def test_counters_wrap_at_32_bits_and_words_repeat_only_then():
    np.testing.assert_array_equal(sign_words(0, "m", 2**32 - 2, 4)[2:], sign_words(0, "m", 0, 2))
    words = sign_words(0, "m", 0, 50_000)
    assert len(np.unique(words)) == 50_000  # two bijections of distinct counters
    assert len(np.unique(mix32(np.arange(50_000, dtype=np.uint32)))) == 50_000


def test_float32_rows_stay_near_their_float64_twins():
    x = np.random.default_rng(1).normal(size=(4, 3000))
    for kind in (fold, dense):
        single, double = (kind(x.astype(t), 64, seed=0, module="m") for t in (np.float32, np.float64))
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, double, atol=1e-3)


@pytest.mark.parametrize(
    ("modules", "options"),
    [
        ((), {}),
        ((("a", 0),), {}),
        ((("a", -1),), {}),
        ((("a", 1), ("a", 1)), {}),
        ((("a", 1),), {"width": 0}),
        ((("a", 1),), {"kind": "sparse"}),
    ],
)
def test_projections_that_mean_nothing_are_refused(modules, options):
    with pytest.raises(RequestError, match="expected"):
        Projection(modules, **options)


@pytest.mark.parametrize("parts", [{}, {"a": 3}, {"a": 3, "b": 5}, {"a": 3, "b": 4, "c": 1}])
def test_parts_must_be_exactly_the_modules(parts):
    projection = Projection((("a", 3), ("b", 4)), width=2)
    with pytest.raises(RequestError, match="same names and sizes"):
        projection.project({name: np.ones((1, size)) for name, size in parts.items()})


def test_one_flipped_sign_or_column_is_noticed():
    projection = Projection((("a", 300), ("b", 20)), width=64)
    image = projection.image_P
    projection.verify(image.astype(np.float64).reshape(1, -1), "cpu")
    for changed in (np.roll(image, 1), -image, image[:-1], image + (np.arange(64) == 7)):
        with pytest.raises(FingerprintMismatch, match="on device x differs"):
            projection.verify(changed, "device x")
