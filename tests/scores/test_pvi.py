import sys

import numpy as np
import pytest
from tests.scores.made_training import row_ids

from dataworth.errors import MissingExtra, RequestError
from dataworth.scores.pvi import PVI, _folds


def gaussians(n=400, classes=4, width=8, apart=8.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = rng.normal(size=(classes, width))
    centres *= apart / np.linalg.norm(centres, axis=1, keepdims=True)
    return {"ids": row_ids(n), "vectors": centres[labels] + rng.normal(size=(n, width)), "labels": labels}


@pytest.fixture(autouse=True)
def _needs_sklearn():
    pytest.importorskip("sklearn")


def test_separable_classes_are_told_in_all_their_bits():
    values = PVI()(gaussians()).values_N
    assert 1.9 < values.mean() <= 2.0 + 1e-6


def test_shuffled_labels_tell_nothing():
    inputs = gaussians()
    inputs["labels"] = np.random.default_rng(1).permutation(inputs["labels"])
    assert PVI()(inputs).values_N.mean() <= 0.02


def test_a_row_is_never_scored_by_a_model_that_saw_it():
    """In-sample, 300 random rows of 100 numbers seem to be told by 0.2 bits and more."""
    rng = np.random.default_rng(0)
    inputs = {"ids": row_ids(300), "vectors": rng.normal(size=(300, 100)), "labels": rng.integers(0, 2, size=300)}
    assert PVI()(inputs).values_N.mean() <= 0
    copied = {"ids": [*inputs["ids"], *(f"{i}#1" for i in inputs["ids"])]}
    copied["vectors"] = np.concatenate([inputs["vectors"]] * 2)
    copied["labels"] = np.concatenate([inputs["labels"]] * 2)
    assert PVI()(copied).values_N.mean() <= 0


def test_bits_against_the_prior_and_the_prediction():
    """Vectors without a direction: g is the share of the class among the other folds, hardly more than the prior."""
    n = 500
    inputs = {"ids": row_ids(n), "vectors": np.zeros((n, 3)), "labels": (np.arange(n) % 4 == 0).astype(int)}
    np.testing.assert_allclose(PVI()(inputs).values_N, 0, atol=0.01)


def test_the_bits_told_are_the_prior_s_entropy_less_the_prediction_s():
    """Mean PVI = H_b(Y) - H(Y | X), the prior's shares counted with one row more a class; few rows show it."""
    ids, labels = row_ids(20), (np.arange(20) % 4 == 0).astype(int)
    folds, bits_prior, bits_given = _folds(ids, labels, 5, seed=0), [], []
    for label, fold in zip(labels, folds, strict=True):
        others = labels[folds != fold]
        bits_prior.append(-np.log2(((others == label).sum() + 1) / (len(others) + 2)))
        bits_given.append(-np.log2((others == label).mean()))  # vectors without a direction tell the share alone
    got = PVI()({"ids": ids, "vectors": np.zeros((20, 3)), "labels": labels}).values_N
    np.testing.assert_allclose(got + bits_given, bits_prior, atol=1e-3)
    assert got.mean() + np.mean(bits_given) == pytest.approx(np.mean(bits_prior), abs=1e-3)


def test_flipped_rows_are_the_negative_ones():
    inputs = gaussians(classes=2)
    flipped = np.zeros(400, dtype=bool)
    flipped[::20] = True
    inputs["labels"] = np.where(flipped, 1 - inputs["labels"], inputs["labels"])
    values = PVI()(inputs).values_N
    assert PVI.higher == "drop"
    assert set(np.argsort(values)[:20]) == set(np.flatnonzero(flipped))
    assert (values[flipped] < 0).all() and (values[~flipped] > 0).mean() > 0.99


def test_clipped_rows_are_told():
    inputs = gaussians()
    inputs["vectors"][0] *= 1000  # so far on its own side that g is sure of it
    inputs["labels"][0] = 1
    got = PVI()(inputs)
    assert got.values_N.argmin() == 0
    assert got.values_N[0] == pytest.approx(np.log2(1e-6) + 2, abs=0.05)
    assert got.notes == ("pvi: the probability of the label was below 1e-06, and clipped there, for 1 rows",)
    assert PVI()(gaussians(apart=1.0)).notes == ()


def test_folds_hold_their_share_of_every_class_and_all_copies_of_a_row():
    ids = row_ids(103)
    labels = np.array([0] * 60 + [1] * 40 + [2] * 3)
    folds = _folds(ids, labels, 5, seed=0)
    for label, count in ((0, 60), (1, 40), (2, 3)):
        shares = np.bincount(folds[labels == label], minlength=5)
        assert shares.max() - shares.min() <= 1 and shares.sum() == count
    assert (_folds(ids, labels, 5, seed=1) != folds).any()
    order = np.random.default_rng(0).permutation(103)
    np.testing.assert_array_equal(_folds([ids[i] for i in order], labels[order], 5, seed=0), folds[order])
    copies = [*ids, *(f"{ids[i]}#{k}" for i in range(3) for k in (1, 2))]
    copied = _folds(copies, np.concatenate([labels, np.repeat(labels[:3], 2)]), 5, seed=0)
    np.testing.assert_array_equal(copied[103:], np.repeat(copied[:3], 2))


def test_a_class_of_one_row_and_a_pool_of_one_class():
    inputs = gaussians(n=60, classes=3)
    inputs["labels"] = np.where(np.arange(60) == 7, 9, inputs["labels"])
    got = PVI()(inputs)
    assert dict(got.unscored) == {inputs["ids"][7]: "no other row has its class"}
    inputs["labels"] = np.zeros(60, dtype=int)
    assert not PVI()(inputs).values_N.any()


def test_few_rows_and_wrong_requests(monkeypatch):
    pair = {"ids": row_ids(2), "vectors": np.eye(2), "labels": np.array([0, 1])}
    assert len(PVI()(pair).unscored) == 2
    few = gaussians(n=6, classes=2)
    assert np.isfinite(PVI()(few, folds=4).values_N).all()
    for options in ({"folds": 1}, {"c": 0.0}):
        with pytest.raises(RequestError, match="2 or more folds"):
            PVI()(few, **options)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtra, match="scikit-learn"):
        PVI()(few)
