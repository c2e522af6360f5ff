import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.scores.assemble import assemble, over_subtasks
from dataworth.scores.length import Length
from dataworth.scores.loss import Loss
from dataworth.scores.random import Random


def test_every_number_that_is_none_gets_a_reason():
    got = assemble([1.0, np.nan, np.inf, -np.inf], {"ids": list("abcd"), "unscored": {"c": "known"}}, "missing")
    assert got.unscored == {"b": "missing", "c": "known", "d": "missing"}
    with pytest.raises(RequestError, match="one number per row"):
        assemble([1.0], {"ids": list("ab")}, "missing")


def test_reductions():
    values = np.array([[1.0, 10.0], [3.0, 0.0], [np.nan, 1.0]])
    assert over_subtasks(values, "max").tolist()[:2] == [10.0, 3.0]
    assert over_subtasks(values, "mean").tolist()[:2] == [5.5, 1.5]
    np.testing.assert_allclose(over_subtasks(values, "zmax")[:2], [1.0, 1.0])
    assert np.isnan(over_subtasks(values, "zmax")[2])
    constant = np.array([[0.1, 5.0], [0.1, 7.0]])
    np.testing.assert_allclose(over_subtasks(constant, "zmax"), [0.0, 1.0])


def test_length_counts_characters_and_lists_empty_rows():
    got = Length()({"ids": list("abc"), "text:pool": iter(["four", "", "é"])})
    assert got.values_N[[0, 2]].tolist() == [4, 1]
    assert got.unscored == {"b": "it is empty"}


def test_loss_has_a_direction():
    losses = np.array([2.0, np.nan, 1.0])
    inputs = {"ids": list("abc"), "losses": losses, "unscored": {"b": "empty mask"}}
    assert Loss()(inputs).values_N[0] == 2.0
    low = Loss()(inputs, direction="low")
    assert (low.values_N[0], low.higher, Loss()(inputs).higher) == (2.0, "drop", None)
    assert Loss()(inputs).unscored == {"b": "empty mask"}
    with pytest.raises(RequestError, match="high or low"):
        Loss()(inputs, direction="up")


def test_random_is_uniform_and_belongs_to_the_id():
    ids = [f"{i:032x}" for i in range(4000)]
    values = Random()({"ids": ids}).values_N
    assert abs(values.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(values, Random()({"ids": ids}, seed=1).values_N)[0, 1]) < 0.06
    assert Random()({"ids": ids[7:9]}).values_N.tolist() == values[7:9].tolist()
