import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataworth.errors import FingerprintMismatch, RequestError
from dataworth.numerics.projection import Projection, dense, fold, require_same, sign_keys, signs


def naive_mix(x: int) -> int:
    x ^= x >> 16
    x = x * 0x85EBCA6B % 2**32
    x ^= x >> 13
    x = x * 0xC2B2AE35 % 2**32
    return x ^ (x >> 16)


def naive_sign(seed: int, module: str, j: int) -> int:
    raw = hashlib.sha256(f"{seed}:{module}".encode()).digest()
    k1, k2 = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:8], "little")
    word = naive_mix(naive_mix((j // 32 + k1) % 2**32) ^ k2)
    return 1 if word >> (j % 32) & 1 else -1


def naive_fold(x, width, seed, module, offset=0):
    out = np.zeros((x.shape[0], width))
    for j in range(x.shape[1]):
        out[:, (offset + j) % width] += naive_sign(seed, module, j) * x[:, j]
    return out


@settings(max_examples=30)
@given(st.integers(0, 2**40), st.integers(0, 500), st.integers(1, 200), st.integers(0, 3))
def test_signs_equal_the_scalar_definition(start, skip, length, seed):
    start = start + skip
    got = signs(seed, "layers.0.q_proj.A", start, start + length)
    assert got.dtype == np.int8
    assert got.tolist() == [naive_sign(seed, "layers.0.q_proj.A", j) for j in range(start, start + length)]


def test_signs_are_balanced_and_modules_independent():
    a, b = signs(0, "a", 0, 100_000).astype(int), signs(0, "b", 0, 100_000).astype(int)
    limit = 5 / np.sqrt(100_000)
    assert abs(a.mean()) < limit
    assert abs((a * b).mean()) < limit
    assert abs((a[:-1] * a[1:]).mean()) < limit
    assert abs((a[:-32] * a[32:]).mean()) < limit
    assert sign_keys(0, "a") != sign_keys(1, "a")


@pytest.mark.parametrize(
    ("length", "width", "offset"), [(7, 5, 0), (64, 16, 3), (3, 50, 48), (33, 33, 33), (100, 7, 1000)]
)
def test_fold_equals_the_definition(length, width, offset):
    x = np.random.default_rng(length).normal(size=(4, length))
    np.testing.assert_allclose(
        fold(x, width, seed=2, module="m", offset=offset), naive_fold(x, width, 2, "m", offset), atol=1e-12
    )


def test_a_row_does_not_depend_on_its_batch():
    x = np.random.default_rng(0).normal(size=(9, 1000)).astype(np.float32)
    whole = fold(x, 64, seed=0, module="m")
    assert all(np.array_equal(whole[i : i + 1], fold(x[i : i + 1], 64, seed=0, module="m")) for i in range(9))
    assert whole.dtype == np.float32


def test_module_order_does_not_matter_and_parts_add_up():
    rng = np.random.default_rng(1)
    sizes = {"b": 70, "a": 33, "c": 5}
    parts = {n: rng.normal(size=(3, s)) for n, s in sizes.items()}
    one = Projection(tuple(sizes.items()), width=32)
    two = Projection(tuple(sorted(sizes.items(), reverse=True)), width=32)
    assert one.offsets == {"a": 0, "b": 33 % 32, "c": 103 % 32}
    assert one.fingerprint == two.fingerprint
    np.testing.assert_array_equal(one.project(parts), two.project(dict(reversed(parts.items()))))
    expected = sum(naive_fold(parts[n], 32, 0, n, one.offsets[n]) for n in sizes)
    np.testing.assert_allclose(one.project(parts), expected, atol=1e-12)


def test_short_gradients_are_kept_exactly():
    x = np.random.default_rng(3).normal(size=(5, 40))
    projected = Projection((("a", 25), ("b", 15)), width=64).project({"a": x[:, :25], "b": x[:, 25:]})
    np.testing.assert_allclose(projected @ projected.T, x @ x.T, atol=1e-12)


@pytest.mark.parametrize("kind", ["fold", "dense"])
def test_cosines_survive_to_the_johnson_lindenstrauss_limit(kind):
    rng = np.random.default_rng(4)
    shared = rng.normal(size=6000)
    x = rng.normal(size=(40, 6000)) + 0.5 * shared
    width = 512
    f = Projection((("a", 4000), ("b", 2000)), width=width, kind=kind).project({"a": x[:, :4000], "b": x[:, 4000:]})

    def cosines(v):
        v = v / np.linalg.norm(v, axis=1, keepdims=True)
        return (v @ v.T)[np.triu_indices(40, 1)]

    error = cosines(f) - cosines(x)
    assert error.std() < 1.2 / np.sqrt(width)
    assert np.linalg.norm(f, axis=1).mean() == pytest.approx(np.linalg.norm(x, axis=1).mean(), rel=0.05)


def test_dense_equals_an_explicit_matrix():
    x = np.random.default_rng(5).normal(size=(2, 600))
    matrix = np.array([[naive_sign(1, "m|dense", j * 8 + p) for p in range(8)] for j in range(600)])
    np.testing.assert_allclose(dense(x, 8, seed=1, module="m"), x @ matrix, atol=1e-10)


def test_fingerprint_sees_everything_that_changes_the_numbers():
    base = Projection((("a", 50), ("b", 7)), width=16)
    others = [
        Projection((("a", 50), ("b", 7)), width=16, seed=1),
        Projection((("a", 50), ("b", 7)), width=17),
        Projection((("a", 50), ("c", 7)), width=16),
        Projection((("a", 51), ("b", 7)), width=16),
        Projection((("a", 50), ("b", 7)), width=16, kind="dense"),
    ]
    prints = {p.fingerprint for p in [base, *others]}
    assert len(prints) == 6
    # Pinned: stored features depend on it. A change of the signs needs a new SIGN_VERSION.
    assert base.fingerprint == "cdff0cbfe82b12c95882fb08551478d210b9a14e649435dd4f84473961aedb58"
    base.verify(base.image_P.astype(np.float32), "cpu")
    with pytest.raises(FingerprintMismatch, match="cuda:0"):
        base.verify(base.image_P + 1, "cuda:0")
    with pytest.raises(FingerprintMismatch, match="one projection"):
        require_same(base.fingerprint, others[0].fingerprint)


def test_image_is_the_projection_of_the_probe():
    p = Projection((("a", 5000), ("b", 7)), width=16)
    padded = {n: np.pad(p.probe(n, s), (0, max(0, s - 4096))) for n, s in p.modules}
    np.testing.assert_array_equal(p.project(padded).reshape(-1), p.image_P)


def test_wrong_modules_are_refused():
    with pytest.raises(RequestError, match="unique names"):
        Projection((("a", 5), ("a", 6)))
    with pytest.raises(RequestError, match="same names and sizes"):
        Projection((("a", 5),), width=4).project({"a": np.ones((1, 6))})
