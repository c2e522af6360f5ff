"""k-center, herding, CRAIG and sampled coresets against naive twins, bounds and known expectations."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dataworth.numerics import craig, sampling
from dataworth.numerics.herding import herd
from dataworth.numerics.kcenter import farthest_first


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def radius(distance, centers):
    return distance[:, list(centers)].min(axis=1).max()


def naive_k_center(x, k, first):
    picked = [first]
    while len(picked) < k:
        near = [min(np.linalg.norm(x[i] - x[j]) for j in picked) if i not in picked else -1 for i in range(len(x))]
        picked.append(int(np.argmax(near)))
    return picked


@pytest.mark.parametrize("seed", range(4))
def test_k_center_is_naive_and_within_twice_the_best_radius(seed):
    x = unit(np.random.default_rng(seed).normal(size=(13, 3)))
    centers, radii, near = farthest_first(x, 4, 5)
    assert centers.tolist() == naive_k_center(x, 4, 5)
    distance = cdist(x, x)
    best = min(radius(distance, s) for s in itertools.combinations(range(13), 4))
    assert radii[-1] == pytest.approx(radius(distance, centers), abs=2e-3)
    assert radii[-1] <= 2 * best + 2e-3
    assert near.max() == pytest.approx(radii[-1]) and (np.diff(radii) <= 0).all()


def test_k_center_takes_copies_last_and_every_row_once():
    x = np.repeat(unit(np.random.default_rng(0).normal(size=(6, 9))), 3, axis=0)
    centers, radii, _ = farthest_first(x, 40, 2)
    assert sorted(centers.tolist()) == list(range(18))
    assert len({c // 3 for c in centers[:6].tolist()}) == 6 and radii[5] == 0


def naive_herding(x, k):
    mean, total, picked = x.mean(axis=0), np.zeros(x.shape[1]), []
    for t in range(1, k + 1):
        gaps = [np.linalg.norm(t * mean - (total + x[i])) if i not in picked else np.inf for i in range(len(x))]
        picked.append(int(np.argmin(gaps)))
        total = total + x[picked[-1]]
    return picked


def test_herding_is_naive():
    x = np.random.default_rng(0).normal(size=(40, 5)) + 1
    assert herd(x, 40).tolist() == naive_herding(x, 40)


def test_herding_beats_random_and_the_wrong_sign_is_a_disaster():
    """The digest's check: n=2000, d=16, k=100; DeepCore's argmax gave 2.26, random 0.37, argmin 0.025."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 16))

    def error(rows):
        return np.linalg.norm(x[rows].mean(axis=0) - x.mean(axis=0))

    random = np.mean([error(rng.permutation(2000)[:100]) for _ in range(20)])
    assert error(herd(x, 100)) < 0.05 < 0.3 < random


def test_craig_weights_sum_to_the_rows_not_to_rows_and_picks():
    """DeepCore starts weights at 1 and adds 1 a point: its sum is n + k."""
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    kept = craig.chosen(x, craig.strata(label, rng.random(60)), 12)
    got = craig.weights(x, label, kept)
    assert len(set(kept.tolist())) == 12 and got.sum() == 60 and (got >= 1).all()
    distance = cdist(x, x)
    for c in range(3):
        mine = [j for j in kept.tolist() if label[j] == c]
        near = [min(mine, key=lambda j: (distance[i, j], j)) for i in np.flatnonzero(label == c)]
        assert {j: near.count(j) for j in mine} == {j: got[kept.tolist().index(j)] for j in mine}


def test_of_copies_that_are_all_kept_none_is_without_weight():
    x = np.repeat([[0.0], [5.0]], 4, axis=0)
    got = craig.weights(x, np.zeros(8, dtype=int), np.array([6, 0, 1, 4]))
    assert got.tolist() == [1, 3, 1, 3]


def test_craig_of_one_class_is_greedy_on_distances():
    x = np.random.default_rng(1).normal(size=(25, 3))
    distance = cdist(x, x)
    s, cover, picked = distance.max() - distance, np.zeros(25), []
    for _ in range(6):
        gain = [-1 if j in picked else np.maximum(s[j] - cover, 0).sum() for j in range(25)]
        picked.append(int(np.argmax(gain)))
        cover = np.maximum(cover, s[picked[-1]])
    assert craig.chosen(x, [np.arange(25)], 6).tolist() == picked


def test_craig_shares_itself_out_over_classes_of_any_size():
    x, label = np.random.default_rng(2).normal(size=(100, 3)), np.repeat([0, 1, 2], [80, 15, 5])
    groups = craig.strata(label, np.zeros(100))
    kept = craig.chosen(x, groups, 20)
    assert label[kept[:3]].tolist() == [0, 1, 2]  # every class has one first, the largest first
    assert np.bincount(label[kept]).tolist() == [16, 3, 1]
    assert craig.chosen(x, groups, 7).tolist() == kept[:7].tolist()
    assert sorted(craig.chosen(x, groups, 100).tolist()) == list(range(100))


def test_craig_cuts_large_classes_into_shuffled_parts(monkeypatch):
    monkeypatch.setattr(craig, "_PART", 10)
    monkeypatch.setattr(craig, "_PAIRS", 20)
    rng = np.random.default_rng(3)
    x, label = rng.normal(size=(37, 3)), np.array([0] * 35 + [4] * 2)
    groups = craig.strata(label, rng.random(37))
    assert [len(g) for g in groups] == [9, 9, 9, 8, 2]
    assert groups[0].tolist() != list(range(9))
    assert sorted(np.concatenate(groups).tolist()) == list(range(37))
    assert craig.weights(x, label, craig.chosen(x, groups, 9)).sum() == 37


def test_lightweight_and_sensitivity_by_their_formulas():
    x = np.array([[0.0, 0], [1, 0], [0, 1], [7, 7]])
    square = ((x - x.mean(axis=0)) ** 2).sum(axis=1)
    np.testing.assert_allclose(sampling.lightweight(x), 1 / 8 + square / (2 * square.sum()))
    cost, label = np.array([0.0, 1, 2, 5]), np.array([3, 3, 8, 8])
    a = 16 * (np.log2(2) + 2)
    by_hand = [a * c / 2 + 2 * a * m / 2 + 4 * 4 / 2 for c, m in zip(cost, [0.5, 0.5, 3.5, 3.5], strict=True)]
    np.testing.assert_allclose(sampling.sensitivity(cost, label), np.array(by_hand) / sum(by_hand))
    for q in (sampling.lightweight(np.ones((5, 3)) * 0.1), sampling.sensitivity(np.zeros(5), np.zeros(5, int))):
        np.testing.assert_allclose(q, 0.2)


def test_inclusion_adds_up_and_stops_at_one():
    q = np.array([0.7, 0.2, 0.05, 0.05])
    np.testing.assert_allclose(sampling.inclusion(q, 1), q)
    np.testing.assert_allclose(sampling.inclusion(q, 2), [1, 2 / 3, 1 / 6, 1 / 6])
    np.testing.assert_allclose(sampling.inclusion(q, 3), [1, 1, 0.5, 0.5])
    np.testing.assert_allclose(sampling.inclusion(q, 4), 1)


def test_draws_have_the_size_and_probabilities_they_should():
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.ones(12))
    pi, met, sums = sampling.inclusion(q, 5), np.zeros(12), []
    for _ in range(4000):
        picked, weight = sampling.drawn(q, 5, rng.random(12))
        assert len(picked) == 5 and (np.diff(picked) > 0).all()
        np.testing.assert_allclose(weight, 1 / pi[picked])
        met[picked] += 1
        sums.append(weight.sum())
    np.testing.assert_allclose(met / 4000, pi, atol=0.03)
    assert np.mean(sums) == pytest.approx(12, rel=0.03)
    picked, weight = sampling.drawn(q, 12, rng.random(12))
    assert picked.tolist() == list(range(12)) and (weight == 1).all()


def test_a_lightweight_coreset_estimates_k_means_cost_where_uniform_rows_do_not():
    """The digest's check: m=300 of 20,000 heavy-tailed rows; relative error 0.025 against 0.140, both unbiased."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 3)) * rng.pareto(2.5, size=(5000, 1))
    centers = rng.normal(size=(3, 3))
    cost = (cdist(x, centers) ** 2).min(axis=1)
    errors = {"light": [], "uniform": []}
    q = sampling.lightweight(x)
    for _ in range(60):
        for name, p in (("light", q), ("uniform", np.full(5000, 1 / 5000))):
            picked, weight = sampling.drawn(p, 300, rng.random(5000))
            errors[name].append((weight * cost[picked]).sum() / cost.sum() - 1)
    assert np.std(errors["light"]) < 0.4 * np.std(errors["uniform"])
    assert abs(np.mean(errors["light"])) < 4 * np.std(errors["light"]) / np.sqrt(60)
