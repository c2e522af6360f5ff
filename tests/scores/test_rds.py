import numpy as np
import pytest

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.scores import rds
from dataworth.scores.rds import RDS


def case(n=40, seed=0):
    rng = np.random.default_rng(seed)
    goals = {"a": rng.normal(size=(3, 16)), "b": rng.normal(size=(5, 16))}
    return {"ids": [f"{i:032x}" for i in range(n)], "vectors": rng.normal(size=(n, 16)), "goal_vectors": goals}


def cosine(x, y):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (y / np.linalg.norm(y, axis=1, keepdims=True)).T


def test_mean_in_a_subtask_and_max_over_subtasks():
    inputs = case()
    expected = np.stack([cosine(inputs["vectors"], g).mean(axis=1) for g in inputs["goal_vectors"].values()], 1).max(1)
    np.testing.assert_allclose(RDS()(inputs).values_N, expected, atol=1e-11)


def test_round_robin_is_the_order_in_which_goal_rows_offer_their_nearest(monkeypatch):
    monkeypatch.setattr(rds, "_GOALS", 3)
    monkeypatch.setattr(rds, "_ROWS", 7)
    inputs = case()
    cos = cosine(inputs["vectors"], np.concatenate(list(inputs["goal_vectors"].values())))
    lists = np.argsort(-cos, axis=0)
    expected, seen = [], set()
    for offers in lists:
        fresh = sorted(set(offers.tolist()) - seen, key=lambda i: -cos[i].max())
        expected += fresh
        seen |= set(fresh)
    got = RDS()(inputs, reduce="round_robin").values_N
    assert np.argsort(-got, kind="stable").tolist() == expected


@pytest.mark.parametrize("reduce", ["mean_max", "round_robin"])
def test_rows_without_direction_are_unscored(reduce):
    inputs = case()
    inputs["vectors"][3] = 0
    inputs["vectors"][5, 2] = np.nan
    inputs["unscored"] = {inputs["ids"][5]: "it was too long"}
    got = RDS()(inputs, reduce=reduce)
    assert got.unscored == {inputs["ids"][3]: "it has no usable vector", inputs["ids"][5]: "it was too long"}
    whole = RDS()(
        {**inputs, "vectors": np.delete(inputs["vectors"], [3, 5], 0), "ids": inputs["ids"][:38]}, reduce=reduce
    )
    np.testing.assert_allclose(np.delete(got.values_N, [3, 5]), whole.values_N)


def test_goals_without_direction_and_unknown_reductions_are_refused():
    inputs = case()
    with pytest.raises(RequestError, match="mean_max or round_robin"):
        RDS()(inputs, reduce="max")
    inputs["goal_vectors"]["a"][0] = 0
    with pytest.raises(NonsenseRefused, match="'a'"):
        RDS()(inputs)
