"""Exact kNN-Shapley against every subset and, for ties, every order."""

import itertools
import math

import numpy as np
import pytest

from dataworth.numerics.knn_shapley import knn_shapley


def utility(nearest_first, right, k):
    return sum(right[i] for i in nearest_first[:k]) / k


def by_subsets(order, right, k):
    """Shapley values of one goal row by the definition, rows nearest first in `order`."""
    n = len(order)
    values = np.zeros(n)
    for i in order:
        rest = [j for j in order if j != i]
        for size in range(n):
            share = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for some in itertools.combinations(rest, size):
                with_i = [j for j in order if j in some or j == i]
                gain = utility(with_i, right, k) - utility([j for j in with_i if j != i], right, k)
                values[i] += share * gain
    return values


def naive(unit, label, goals, goal_label, k):
    """The mean over goal rows and over all orders of equally near rows."""
    total = np.zeros(len(unit))
    for g, y in zip(goals, goal_label, strict=True):
        cosine = np.round(unit @ g, 9)
        groups = [np.flatnonzero(cosine == c).tolist() for c in np.unique(cosine)[::-1]]
        orders = [list(itertools.chain(*p)) for p in itertools.product(*(itertools.permutations(t) for t in groups))]
        total += np.mean([by_subsets(o, label == y, k) for o in orders], axis=0)
    return total / len(goals)


def case(n, seed=0):
    rng = np.random.default_rng(seed)
    x, g = rng.normal(size=(n, 3)), rng.normal(size=(3, 3))
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, g)]
    return unit[0], rng.integers(0, 2, n), unit[1], rng.integers(0, 2, 3)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6, 9])
def test_equal_to_all_subsets_even_with_more_neighbours_than_rows(k):
    inputs = case(6, seed=k)
    np.testing.assert_allclose(knn_shapley(*inputs, k), naive(*inputs, k), atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_ties_are_averaged_over_their_orders(k):
    unit, label, goals, goal_label = case(6, seed=9)
    unit = unit[[0, 0, 0, 1, 2, 2]]
    label = np.array([0, 1, 1, 0, 1, 0])
    got = knn_shapley(unit, label, goals, goal_label, k)
    np.testing.assert_allclose(got, naive(unit, label, goals, goal_label, k), atol=1e-12)
    assert got[1] == got[2]


def test_values_sum_to_the_accuracy_of_all_rows():
    unit, label, goals, goal_label = case(50)
    share = [np.mean(label[np.argsort(-(unit @ g))[:5]] == y) for g, y in zip(goals, goal_label, strict=True)]
    assert knn_shapley(unit, label, goals, goal_label, 5).sum() == pytest.approx(np.mean(share))


def test_wrong_labels_among_clusters_are_worth_less_than_nothing():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 60)
    x = np.stack([np.where(label == 0, 3.0, -3.0), np.ones(120)], 1) + rng.normal(size=(120, 2)) * 0.5
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    given = label.copy()
    given[:6] = 1
    got = knn_shapley(unit[20:], np.concatenate([1 - label[20:26], label[26:]]), unit[:20], label[:20], 5)
    assert (got[:6] < 0).all() and got[6:].mean() > 0
