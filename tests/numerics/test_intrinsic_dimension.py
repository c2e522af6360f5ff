"""TwoNN on cubes of known dimension, and what near-copies would do to it."""

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.numerics.intrinsic_dimension import intrinsic_dimension


def cube(dimension: int, points: int = 4000, seed: int = 0) -> np.ndarray:
    """A uniform cube turned into 64 dimensions without stretching."""
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.normal(size=(64, dimension)))[0]
    return rng.uniform(size=(points, dimension)) @ turned.T


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_cubes_of_few_dimensions_are_told_within_a_twelfth(dimension):
    found = intrinsic_dimension(cube(dimension), np.arange(4000))
    assert found.at[0] == (4000, pytest.approx(dimension, rel=0.08))
    assert [n for n, _ in found.at] == [4000, 2000, 1000] and not found.moves and found.copies == 0
    assert f"about {found.at[0][1]:.1f} dimensions" in str(found)


def test_many_dimensions_come_out_low_as_said():
    assert 11 < intrinsic_dimension(cube(16), np.arange(4000)).at[0][1] < 14.5


def test_near_copies_are_left_out_and_told_where_they_would_destroy_the_estimate():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4000, 8))
    copies = points[:200] + 1e-9 * rng.normal(size=(200, 8))
    both = np.concatenate([points, copies, copies + 1e-10])
    alone, found = intrinsic_dimension(points, np.arange(4000)), intrinsic_dimension(both, np.arange(4400))
    assert found.at[0] == alone.at[0]
    assert found.copies == pytest.approx(400 / 4400) and "9.1% of the points were near-copies" in str(found)


def test_exact_copies_too_and_the_order_given_decides_nothing_but_the_halves():
    points = cube(3, 600)
    thrice = np.concatenate([points] * 3)
    found = intrinsic_dimension(thrice, np.random.default_rng(1).permutation(1800))
    assert found.at[0][0] == 600 and found.copies == pytest.approx(2 / 3)
    assert found.at[0][1] == pytest.approx(intrinsic_dimension(points, np.arange(600)).at[0][1])


def test_an_estimate_that_depends_on_the_number_of_points_is_a_range():
    """A line with fine noise: one dimension from afar, two from near."""
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(0, 1, 4000), rng.normal(0, 2e-4, 4000)], axis=1)
    found = intrinsic_dimension(points, np.arange(4000))
    assert found.moves and " to " in str(found)


def test_too_few_points_are_refused():
    with pytest.raises(RequestError, match="99 different points of 198: expected at least 100"):
        intrinsic_dimension(np.concatenate([cube(2, 99)] * 2), np.arange(198))
