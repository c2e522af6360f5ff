import numpy as np
import pytest
from tests.naive_cosines import cosines

from dataworth.errors import NonsenseRefused
from dataworth.numerics.quantize import quantize
from dataworth.numerics.similarity import goal_directions, unit_rows


def test_mean_of_cosines_over_subtasks_of_any_size():
    rng = np.random.default_rng(0)
    pool, goal = rng.normal(size=(30, 64)), rng.normal(size=(7, 64)) * rng.uniform(0.1, 9, size=(7, 1))
    subtask = np.array([0, 1, 1, 0, 2, 1, 1])
    stored = quantize(pool, "fp16")
    norm = np.linalg.norm(goal, axis=1)
    mean, centroid = goal_directions(unit_rows(goal), norm, subtask, ["a", "b", "c"])
    blocks = [(np.arange(a, min(a + 8, 30)), stored.codes_NP[a : a + 8]) for a in (16, 0, 8, 24)]
    got = cosines(blocks, stored.scale_N, np.concatenate([mean, centroid]))
    naive = unit_rows(pool) @ unit_rows(goal).T
    for g in range(3):
        np.testing.assert_allclose(got[:, g], naive[:, subtask == g].mean(axis=1), atol=1e-3)
        raw = goal[subtask == g].mean(axis=0, keepdims=True)
        np.testing.assert_allclose(got[:, 3 + g], (unit_rows(pool) @ unit_rows(raw).T)[:, 0], atol=1e-3)


def test_rows_that_never_come_stay_nan():
    stored = quantize(np.eye(4, 8), "int8")
    got = cosines([(np.array([2]), stored.codes_NP[2:3])], stored.scale_N, np.eye(1, 8))
    assert np.isnan(got[[0, 1, 3]]).all()
    assert got[2, 0] == 0


@pytest.mark.parametrize(
    ("unit", "norm", "subtask", "names"),
    [
        (np.zeros((2, 4)), np.ones(2), [0, 0], ["a"]),
        (np.eye(2, 4), np.ones(2), [0, 0], ["a", "empty"]),
        (np.full((1, 4), np.nan), np.ones(1), [0], ["a"]),
        (np.array([[1.0, 0], [-1.0, 0]]), np.ones(2), [0, 0], ["a"]),
    ],
)
def test_goals_without_a_direction_are_refused(unit, norm, subtask, names):
    with pytest.raises(NonsenseRefused):
        goal_directions(unit, norm, np.array(subtask), names)
