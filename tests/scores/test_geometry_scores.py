"""Prototypes, density and kNN-Shapley: formulas, the digests' checks, and what every score owes a pool."""

import numpy as np
import pytest

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.geometry import Clusters, Neighbours
from dataworth.numerics.neighbours import nearest
from dataworth.records import id_order
from dataworth.scores.density import Density
from dataworth.scores.knn_shapley import KnnShapley
from dataworth.scores.prototypes import Prototypes


def row_ids(n):
    return [f"{(i * 2654435761) % 2**64:032x}" for i in range(n)]


def clusters_of(cosine):
    return Clusters(np.where(np.isnan(cosine), -1, 0), np.eye(1, 3, dtype=np.float32), np.asarray(cosine, np.float32))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_prototypes_are_one_minus_the_cosine_and_far_is_high():
    inputs = {"ids": row_ids(3), "clusters": clusters_of([1.0, 0.25, np.nan]), "unscored": {row_ids(3)[2]: "too long"}}
    got = Prototypes()(inputs)
    np.testing.assert_allclose(got.values_N, [0, 0.75, np.nan])
    assert got.unscored == {row_ids(3)[2]: "too long"} and Prototypes().higher == "keep"
    low = Prototypes()(inputs, direction="low")
    np.testing.assert_allclose(low.values_N, [0, 0.75, np.nan])
    assert low.higher == "drop"
    with pytest.raises(RequestError, match="direction"):
        Prototypes()(inputs, direction="far")


def with_a_bridge(copies=1):
    """Two tight clusters, and a point between them `copies` times; the bridge is row 40 on."""
    rng = np.random.default_rng(0)
    ends = np.repeat([[1.0, 0, 0], [0, 1, 0]], 20, axis=0) + 0.02 * rng.normal(size=(40, 3))
    x = np.concatenate([ends, np.repeat([[1.0, 1.05, 0]], copies, axis=0)])
    return [f"{i:032x}" for i in range(40)] + [f"{40:032x}" + (f"#{c}" if c else "") for c in range(copies)], x


def prototypes(copies):
    pytest.importorskip("sklearn")
    from dataworth.numerics.clusters import kmeans

    ids, x = with_a_bridge(copies)
    return Prototypes()({"ids": ids, "clusters": kmeans(x, id_order(ids), 2)}).values_N


def test_the_bridge_is_the_hardest_row_and_copying_it_does_not_raise_it():
    one, three = prototypes(1), prototypes(3)
    assert one.argmax() == 40 and one[40] > 10 * np.sort(one)[-2]
    assert three[40] == three[41] == three[42] <= one[40]


def test_prototypes_say_whose_labels_they_may_hold():
    assert "label-free given the encoder" in Prototypes.__doc__.lower()


def test_density_is_the_mean_distance_to_the_nearest():
    cosine = np.array([[0.9, 0.5, 0.1], [0.8, 0.6, np.nan], [np.nan] * 3], np.float32)
    inputs = {"ids": row_ids(3), "neighbours": Neighbours(np.zeros((3, 3), np.int64), cosine)}
    got = Density()(inputs, nearest=2)
    np.testing.assert_allclose(got.values_N, [0.3, 0.3, np.nan], atol=1e-7)
    assert got.unscored == {row_ids(3)[2]: "it has no neighbours"}
    np.testing.assert_allclose(Density()(inputs, nearest=3).values_N, [0.5, 0.3, np.nan], atol=1e-7)
    low = Density()(inputs, nearest=1, direction="low")
    np.testing.assert_allclose(low.values_N, [0.1, 0.2, np.nan], atol=1e-7)
    assert low.higher == "drop"
    for wrong in ({"nearest": 0}, {"nearest": 4}, {"nearest": 2, "direction": "up"}):
        with pytest.raises(RequestError, match="expected"):
            Density()(inputs, **wrong)


def test_an_isolated_row_has_the_highest_density_score_and_copies_none():
    x = np.concatenate([np.eye(3)[[0] * 7], [[0, 1.0, 0]], np.eye(3)[[0] * 4]])
    got = Density()({"ids": row_ids(12), "neighbours": nearest(x, id_order(row_ids(12)), 5)})
    assert got.values_N[7] == 1 and not np.delete(got.values_N, 7).any()


def labelled(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "ids": row_ids(n),
        "vectors": rng.normal(size=(n, 6)).astype(np.float32),
        "labels": rng.integers(0, 3, n),
        "goal_vectors": {"a": rng.normal(size=(4, 6)), "b": rng.normal(size=(7, 6))},
        "goal_labels": {"a": rng.integers(0, 3, 4), "b": rng.integers(0, 3, 7)},
    }


def test_knn_shapley_sums_to_the_share_of_right_neighbours():
    inputs = labelled()
    x = unit(inputs["vectors"].astype(float))
    shares = []
    for name, goals in inputs["goal_vectors"].items():
        near = np.argsort(-(unit(goals) @ x.T), axis=1)[:, :5]
        shares.append((inputs["labels"][near] == inputs["goal_labels"][name][:, None]).mean())
    assert KnnShapley()(inputs).values_N.sum() == pytest.approx(np.mean(shares))


def test_knn_shapley_in_any_order_with_copies_and_gaps():
    inputs = labelled()
    one = KnnShapley()(inputs).values_N
    order = np.random.default_rng(1).permutation(40)
    moved = {**inputs, "vectors": inputs["vectors"][order], "labels": inputs["labels"][order]}
    np.testing.assert_array_equal(KnnShapley()(moved).values_N, one[order])
    copies = np.array([*range(40), 7, 7, 12])
    more = {**inputs, "ids": row_ids(43), "vectors": inputs["vectors"][copies], "labels": inputs["labels"][copies]}
    got = KnnShapley()(more).values_N
    assert got[7] == got[40] == got[41] and got[12] == got[42]
    gaps = {**inputs, "vectors": inputs["vectors"].copy()}
    gaps["vectors"][[3, 11]] = [np.full(6, np.nan), np.zeros(6)]
    rest = np.delete(np.arange(40), [3, 11])
    alone = {**inputs, "ids": row_ids(38), "vectors": inputs["vectors"][rest], "labels": inputs["labels"][rest]}
    got = KnnShapley()(gaps)
    np.testing.assert_array_equal(got.values_N[rest], KnnShapley()(alone).values_N)
    assert set(got.unscored.values()) == {"it has no usable vector"} and len(got.unscored) == 2


def test_knn_shapley_finds_wrong_labels():
    rng = np.random.default_rng(0)
    label = np.arange(200) % 2
    x = np.stack([np.where(label, 1.0, -1.0), np.ones(200)], 1) + 0.2 * rng.normal(size=(200, 2))
    given = label[:150].copy()
    given[:30] = 1 - given[:30]
    got = KnnShapley()(
        {
            "ids": row_ids(150),
            "vectors": x[:150],
            "labels": given,
            "goal_vectors": {"g": x[150:]},
            "goal_labels": {"g": label[150:]},
        }
    ).values_N
    assert (np.argsort(got)[:30] < 30).mean() > 0.95 and KnnShapley().higher == "keep"


def test_knn_shapley_refuses_what_it_cannot_read():
    inputs = labelled()
    with pytest.raises(RequestError, match="nearest=0"):
        KnnShapley()(inputs, nearest=0)
    with pytest.raises(RequestError, match="4 vectors and 7 labels"):
        KnnShapley()({**inputs, "goal_labels": {**inputs["goal_labels"], "a": inputs["goal_labels"]["b"]}})
    with pytest.raises(RequestError, match="4 vectors and 0 labels"):
        KnnShapley()({**inputs, "goal_labels": {}})
    with pytest.raises(NonsenseRefused, match="non-finite"):
        KnnShapley()({**inputs, "goal_vectors": {"a": np.zeros((4, 6))}})


@pytest.mark.parametrize("n", [1, 2])
def test_tiny_pools(n):
    inputs = labelled(n)
    assert not KnnShapley()(inputs).unscored
    neighbours = nearest(inputs["vectors"], id_order(inputs["ids"]), 5)
    assert len(Density()({"ids": inputs["ids"], "neighbours": neighbours}).unscored) == (n == 1)
