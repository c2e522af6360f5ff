"""LESS checks C2 (scale), C4 (weights) and C5 (max over subtasks) where they concern the score."""

import numpy as np
import pytest
from tests.naive_cosines import cosines

from dataworth.errors import RequestError
from dataworth.numerics.quantize import quantize
from dataworth.numerics.schedules import learning_rates, lr_weights
from dataworth.numerics.similarity import goal_directions, unit_rows
from dataworth.results import Similarity
from dataworth.scores.less import Less


def best(values, k):
    return np.argsort(-values, kind="stable")[:k].tolist()


def similarity(pools, goals, subtask, names, weights=None):
    """A `Similarity` through the numpy reference, from raw feature rows per checkpoint."""
    means, centroids = [], []
    for pool, goal in zip(pools, goals, strict=True):
        stored = quantize(pool)
        mean, centroid = goal_directions(unit_rows(goal), np.linalg.norm(goal, axis=1), subtask, names)
        blocks = [(np.arange(len(pool)), stored.codes_NP)]
        means.append(cosines(blocks, stored.scale_N, mean))
        centroids.append(cosines(blocks, stored.scale_N, centroid))
    weights = np.ones(len(pools)) / len(pools) if weights is None else weights
    return Similarity(np.stack(means), np.stack(centroids), weights, tuple(names))


def ids(n):
    return [f"{i:032x}" for i in range(n)]


def test_checkpoints_are_weighted_by_learning_rate_and_rows_averaged_as_in_the_repository():
    rng = np.random.default_rng(0)
    pools, goals = rng.normal(size=(2, 30, 256)), rng.normal(size=(2, 6, 256))
    subtask = np.array([0, 0, 0, 0, 1, 1])
    weights = lr_weights(learning_rates(20, 2, 1e-4), [10, 20])
    found = similarity(pools, goals, subtask, ["a", "b"], weights)
    influence = sum(w * unit_rows(p) @ unit_rows(g).T for w, p, g in zip(weights, pools, goals, strict=True))
    expected = np.stack([influence[:, :4].mean(1), influence[:, 4:].mean(1)], 1).max(1)
    np.testing.assert_allclose(Less()({"ids": ids(30), "similarity": found}).values_N, expected, atol=1e-3)
    paper = Less()({"ids": ids(30), "similarity": found}, variant="centroid").values_N
    assert np.corrcoef(paper, expected)[0, 1] > 0.9
    assert not np.allclose(paper, expected, atol=1e-3)


def test_c2_a_rows_length_does_not_change_its_score():
    rng = np.random.default_rng(1)
    pool, goal = rng.normal(size=(1, 20, 512)), rng.normal(size=(1, 4, 512))
    scaled = pool * np.where(np.arange(20) % 3 == 0, 7.0, 1.0)[None, :, None]
    one, two = (
        Less()({"ids": ids(20), "similarity": similarity(p, goal, np.zeros(4, int), ["a"])}).values_N
        for p in (pool, scaled)
    )
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_c5_the_top_holds_rows_of_both_subtasks():
    rng = np.random.default_rng(2)
    axis = np.eye(2, 64)
    pool = np.concatenate([axis[[0] * 10], axis[[1] * 10], np.zeros((20, 64))]) + 0.1 * rng.normal(size=(40, 64))
    goal = np.concatenate([axis[[0] * 3], axis[[1] * 5]]) + 0.05 * rng.normal(size=(8, 64))
    found = similarity([pool], [goal], np.array([0] * 3 + [1] * 5), ["a", "b"])
    values = Less()({"ids": ids(40), "similarity": found}).values_N
    assert set(best(values, 20)) == set(range(20))


def test_zmax_keeps_a_wide_noisy_subtask_from_taking_the_whole_top():
    rng = np.random.default_rng(3)
    table = np.zeros((1, 400, 2), dtype=np.float32)
    table[0, :, 0] = rng.normal(size=400) * 0.3
    table[0, :, 1] = rng.normal(size=400) * 0.01 + 0.02
    found = Similarity(table, table, np.ones(1), ("noisy", "real"))
    best_real = set(np.argsort(-table[0, :, 1])[:10].tolist())
    plain = set(best(Less()({"ids": ids(400), "similarity": found}).values_N, 40))
    z = Less()({"ids": ids(400), "similarity": found}, reduce="zmax").values_N
    assert len(best_real & plain) <= 3
    assert len(best_real & set(best(z, 40))) == 10


def test_unscored_rows_keep_their_reason_and_bad_options_are_refused():
    table = np.array([[[0.1], [np.nan], [0.3]]], dtype=np.float32)
    found = Similarity(table, table, np.ones(1), ("a",), {"b": "no supervised token"})
    got = Less()({"ids": ["a", "b", "c"], "similarity": found})
    assert got.unscored == {"b": "no supervised token"}
    with pytest.raises(RequestError, match="mean or centroid"):
        Less()({"ids": ["a", "b", "c"], "similarity": found}, variant="median")
    with pytest.raises(RequestError, match="max, zmax, mean"):
        Less()({"ids": ["a", "b", "c"], "similarity": found}, reduce="min")
