"""Clusters of unit rows: the nearest centroid, gaps, copies, and no part for row order."""

import sys

import numpy as np
import pytest

from dataworth.errors import MissingExtra, RequestError

pytest.importorskip("sklearn")

from dataworth.numerics.clusters import kmeans


def blobs(n=120, seed=0):
    rng = np.random.default_rng(seed)
    centers = np.eye(4, 6) * 5
    return centers[np.arange(n) % 4] + rng.normal(size=(n, 6)) * 0.4


def test_finds_the_blobs_and_measures_cosines_with_the_nearest_unit_centroid():
    x = blobs()
    got = kmeans(x, np.arange(120), 4)
    assert all(len(set(got.label_N[np.arange(120) % 4 == c].tolist())) == 1 for c in range(4))
    np.testing.assert_allclose(np.linalg.norm(got.centroid_KD, axis=1), 1, atol=1e-6)
    cosine = x / np.linalg.norm(x, axis=1, keepdims=True) @ got.centroid_KD.T
    assert got.label_N.tolist() == cosine.argmax(axis=1).tolist()
    np.testing.assert_allclose(got.cosine_N, cosine.max(axis=1), atol=2e-6)


def test_row_order_plays_no_part():
    x, order = blobs(), np.random.default_rng(1).permutation(120)
    shuffle = np.random.default_rng(2).permutation(120)
    one, two = kmeans(x, order, 5, seed=3), kmeans(x[shuffle], np.argsort(shuffle)[order], 5, seed=3)
    np.testing.assert_array_equal(one.label_N[shuffle], two.label_N)
    np.testing.assert_array_equal(one.cosine_N[shuffle], two.cosine_N)


def test_rows_without_a_direction_are_in_no_cluster():
    x = blobs()
    x[3], x[7, 2] = 0, np.nan
    got = kmeans(x, np.arange(120), 4)
    assert got.label_N[[3, 7]].tolist() == [-1, -1] and np.isnan(got.cosine_N[[3, 7]]).all()
    rest = np.delete(np.arange(120), [3, 7])
    alone = kmeans(x[rest], np.arange(118), 4)
    np.testing.assert_array_equal(got.label_N[rest], alone.label_N)


@pytest.mark.filterwarnings("error")
def test_fewer_rows_than_clusters_and_copies():
    assert len(kmeans(blobs(3), np.arange(3), 10).centroid_KD) == 3
    same = kmeans(np.ones((20, 3)), np.arange(20), 4)
    assert len(set(same.label_N.tolist())) == 1 and (same.cosine_N == 1).all()


def test_refusals(monkeypatch):
    with pytest.raises(RequestError, match="at least 1"):
        kmeans(blobs(), np.arange(120), 0)
    with pytest.raises(RequestError, match="no row has a usable vector"):
        kmeans(np.zeros((4, 3)), np.arange(4), 2)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingExtra, match="scikit-learn"):
        kmeans(blobs(), np.arange(120), 2)
