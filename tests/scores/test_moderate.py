import numpy as np
import pytest
from tests.scores.made_training import row_ids

from dataworth.scores import moderate
from dataworth.scores.moderate import Moderate


def test_distances_to_the_median_of_the_class(monkeypatch):
    monkeypatch.setattr(moderate, "_NUMBERS", 50)
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(60, 7)).astype(np.float32), rng.integers(0, 4, size=60)
    got = Moderate()({"ids": row_ids(60), "vectors": vectors, "labels": labels}).values_N
    for i in range(60):
        middle = np.median(vectors[labels == labels[i]].astype(np.float64), axis=0)
        assert got[i] == pytest.approx(np.linalg.norm(vectors[i] - middle))


def test_the_median_and_not_the_mean_is_the_middle():
    vectors, labels = np.array([[0.0], [1.0], [100.0], [7.0]]), np.array([0, 0, 0, 1])
    got = Moderate()({"ids": row_ids(4), "vectors": vectors, "labels": labels}).values_N
    assert got.tolist() == [1, 0, 99, 0]


def test_rows_without_a_vector_or_a_label_move_no_median():
    rng = np.random.default_rng(1)
    vectors, labels = rng.normal(size=(30, 3)), np.arange(30) % 3
    vectors[4], labels[8] = np.nan, -1
    got = Moderate()({"ids": row_ids(30), "vectors": vectors, "labels": labels})
    rest = [i for i in range(30) if i not in (4, 8)]
    alone = Moderate()({"ids": [row_ids(30)[i] for i in rest], "vectors": vectors[rest], "labels": labels[rest]})
    np.testing.assert_array_equal(got.values_N[rest], alone.values_N)
    assert len(got.unscored) == 2
