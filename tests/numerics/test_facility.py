"""Facility location: lazy, stochastic, partitioned and dense against naive greedy and brute force."""

import itertools
import sys

import numpy as np
import pytest
from scipy import sparse

from dataworth.errors import RequestError
from dataworth.numerics import facility
from dataworth.numerics.neighbours import nearest


def naive(similarity, k, candidates=None):
    """Every gain at every step; the first of the largest."""
    rows = len(similarity)
    left = list(range(rows)) if candidates is None else sorted(candidates)
    cover, picked, gains = np.zeros(rows), [], []
    while left and len(picked) < k:
        gain = [float(np.maximum(similarity[j] - cover, 0).sum()) for j in left]
        at = int(np.argmax(gain))
        gains.append(gain[at])
        picked.append(left.pop(at))
        cover = np.maximum(cover, similarity[picked[-1]])
    return picked, gains


def value(similarity, picked):
    return float(similarity[list(picked)].max(axis=0).sum()) if len(picked) else 0.0


def points(n, width=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def knn(unit, k):
    found = nearest(unit, np.arange(len(unit)), k)
    return facility.graph(found.index_Nk, found.cosine_Nk)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_is_within_its_bound_of_the_best_of_all_subsets(seed):
    similarity = np.maximum(points(14, seed=seed) @ points(14, seed=seed).T, 0)
    best = max(value(similarity, s) for s in itertools.combinations(range(14), 4))
    picked, gain = facility.greedy_dense(similarity, 4)
    assert value(similarity, picked) >= (1 - 1 / np.e) * best
    assert gain.sum() == pytest.approx(value(similarity, picked))


@pytest.mark.parametrize("k", [1, 9, 40, 99])
def test_lazy_is_naive_on_a_graph_and_dense(k):
    unit = points(40)
    near = knn(unit, 5)
    dense = near.toarray().astype(np.float64)
    expected, gains = naive(dense, k)
    for picked, gain in (facility.greedy(near, k), facility.greedy_dense(dense, k)):
        assert picked.tolist() == expected
        np.testing.assert_allclose(gain, gains)


def test_candidates_are_chosen_for_all_rows():
    near = knn(points(30), 4)
    some = np.array([29, 3, 8, 14, 20])
    assert facility.greedy(near, 3, some)[0].tolist() == naive(near.toarray(), 3, some.tolist())[0]


def test_the_graph_is_symmetric_clipped_and_knows_itself():
    index = np.array([[1, 2], [2, -1], [-1, -1]])
    cosine = np.array([[0.5, -0.25], [0.75, np.nan], [np.nan, np.nan]])
    expected = np.array([[1, 0.5, 0], [0.5, 1, 0.75], [0, 0.75, 1]])
    np.testing.assert_array_equal(facility.graph(index, cosine).toarray(), expected)


def test_equal_gains_go_to_the_first_row():
    assert facility.greedy(sparse.eye_array(6, format="csr"), 4)[0].tolist() == [0, 1, 2, 3]
    assert facility.greedy_dense(np.eye(6), 4)[0].tolist() == [0, 1, 2, 3]


def test_twins_come_last():
    """Every row twice: no pair of twins until all distinct rows are used, since a twin gains exactly 0."""
    unit = np.repeat(points(12), 2, axis=0)
    similarity = np.maximum(unit @ unit.T, 0)
    picked, gain = facility.greedy_dense(similarity, 24)
    assert len({p // 2 for p in picked[:12]}) == 12
    assert (gain[:12] > 0).all() and not gain[12:].any()


def test_compiled_and_interpreted_kernels_agree(monkeypatch):
    near = knn(points(60), 6)
    uniform = np.random.default_rng(0).random(facility.draws(60, 20, 0.05))
    fast = facility.greedy(near, 30), facility.stochastic(near, 20, uniform, epsilon=0.05)
    monkeypatch.setattr(facility, "compiled", lambda kernel: kernel)
    slow = facility.greedy(near, 30), facility.stochastic(near, 20, uniform, epsilon=0.05)
    for (one, gain), (two, same) in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(gain, same)


def test_without_numba_the_kernel_itself_runs(monkeypatch):
    from dataworth.numerics.compiled import compiled

    def kernel(x):
        return x + 1

    monkeypatch.setitem(sys.modules, "numba", None)
    assert compiled(kernel) is kernel


def test_stochastic_tries_enough_rows_and_is_near_greedy():
    unit = points(400, 4)
    similarity = np.maximum(unit @ unit.T, 0)
    near, k = sparse.csr_array(similarity), 40
    assert facility.draws(400, k, 0.01) == k * 47  # ceil(10 ln 100)
    found = []
    for seed in range(5):
        picked, gain = facility.stochastic(near, k, np.random.default_rng(seed).random(facility.draws(400, k, 0.01)))
        assert len(set(picked.tolist())) == k
        assert gain.sum() == pytest.approx(value(similarity, picked), rel=1e-6)
        found.append(gain.sum())
    assert np.mean(found) > 0.99 * facility.greedy(near, k)[1].sum()
    assert len(set(found)) > 1


@pytest.mark.parametrize("epsilon", [0, 0.009, 0.2, 0.9, float("nan")])
def test_an_epsilon_that_guarantees_nothing_is_refused(epsilon):
    with pytest.raises(RequestError, match="guarantee nothing"):
        facility.stochastic(knn(points(9), 2), 3, np.zeros(999), epsilon=epsilon)


def test_stochastic_takes_all_rows_when_asked_to():
    near = knn(points(20), 3)
    picked, _ = facility.stochastic(near, 50, np.random.default_rng(0).random(facility.draws(20, 50, 0.1)), epsilon=0.1)
    assert sorted(picked.tolist()) == list(range(20))


def test_two_rounds_over_shuffled_parts_are_near_one():
    """Rows sorted by cluster: parts by position would hold one cluster each; shuffled ones hold all of them."""
    rng = np.random.default_rng(0)
    unit = np.repeat(points(8), 50, axis=0) + 0.1 * rng.normal(size=(400, 6))
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)
    near = sparse.csr_array(np.maximum(unit @ unit.T, 0))
    whole = facility.greedy(near, 16)[1].sum()
    picked, gain = facility.partitioned(near, 16, 8, rng.random(400))
    assert len(set(picked.tolist())) == 16 and gain.sum() >= 0.97 * whole
    assert facility.partitioned(near, 16, 1, rng.random(400))[1].sum() == pytest.approx(whole)
    with pytest.raises(RequestError, match="parts"):
        facility.partitioned(near, 16, 0, rng.random(400))


def test_first_round_parts_are_shuffled_not_cut_as_they_lie(monkeypatch):
    parts, greedy = [], facility.greedy
    monkeypatch.setattr(
        facility, "greedy", lambda s, k, some: (parts.append(sorted(some.tolist())), greedy(s, k, some))[1]
    )
    near = sparse.csr_array(np.diag(np.arange(8, 0, -1.0)))
    picked, _ = facility.partitioned(near, 2, 2, np.array([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6]))
    assert parts == [[0, 2, 4, 6], [1, 3, 5, 7], [0, 1, 2, 3]]
    assert picked.tolist() == [0, 1]


def test_coverage_is_the_dense_objective(monkeypatch):
    unit = points(50)
    monkeypatch.setattr(facility, "_ROWS", 7)
    similarity = np.maximum(unit @ unit.T, 0)
    assert facility.coverage(unit, np.array([3, 9, 30])) == pytest.approx(value(similarity, [3, 9, 30]), rel=1e-6)
    assert facility.coverage(unit, np.empty(0, np.int64)) == 0


def test_the_sparse_graph_reaches_the_dense_objective():
    rng = np.random.default_rng(0)
    unit = points(40, 16)[rng.integers(0, 40, 1500)] + 0.15 * rng.normal(size=(1500, 16))
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)
    dense = facility.greedy_dense(np.maximum(unit @ unit.T, 0), 150)[0]
    sparse_ = facility.greedy(knn(unit, 32), 150)[0]
    assert facility.coverage(unit, sparse_) >= 0.99 * facility.coverage(unit, dense)


def test_negative_similarities_are_refused():
    with pytest.raises(RequestError, match="negative"):
        facility.greedy_dense(np.array([[1.0, -0.1], [-0.1, 1.0]]), 1)
