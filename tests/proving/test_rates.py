"""The search for learning rates, on costs that are known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from dataworth.proving.rates import best_factor, beyond, search_factors

GRID = (0.5, 1.0, 2.0)


@pytest.mark.parametrize(
    ("cost", "next_one"),
    [
        ({0.5: 3.0, 1.0: 2.0, 2.0: 1.0}, 4.0),
        ({0.5: 1.0, 1.0: 2.0, 2.0: 3.0}, 0.25),
        ({0.5: 3.0, 1.0: 1.0, 2.0: 2.0}, None),
        ({0.5: 3.0, 1.0: 2.0, 2.0: 1.0, 4.0: 1.5}, None),
        ({0.5: 3.0, 1.0: 2.0, 2.0: None}, None),
        ({0.5: None, 1.0: 2.0, 2.0: 2.5}, None),
        ({0.5: 1.0, 1.0: 1.0, 2.0: 1.0}, None),
        ({0.5: None, 1.0: None, 2.0: None}, None),
    ],
)
def test_only_from_an_end_it_goes_on_and_what_failed_is_an_end(cost, next_one):
    assert beyond(cost) == next_one


def test_of_equal_factors_the_one_nearest_to_the_recipe_is_the_best():
    assert best_factor({0.5: 1.0, 1.0: 1.0, 2.0: 1.0}) == 1.0
    assert best_factor({0.5: 1.0, 1.0: None, 2.0: 1.0}) == 0.5
    assert best_factor({1.0: None}) is None


def test_each_arm_finds_its_own_optimum_or_is_said_to_be_at_an_end():
    # The best exponent of two that each arm would find on an endless grid; breaks: no rate above 1 trains.
    optimum = {"few": 3, "some": 1, "full": 0, "huge": -3, "farther": 9, "breaks": 5}
    asked: list[tuple[str, float]] = []

    def measure(pairs: Sequence[tuple[str, float]]) -> dict[tuple[str, float], float]:
        asked.extend(pairs)
        return {(n, f): (math.log2(f) - optimum[n]) ** 2 for n, f in pairs if n != "breaks" or f <= 1}

    found, at_end = search_factors(optimum, GRID, 2, measure)
    assert {n: best_factor(c) for n, c in found.items()} == {
        "few": 8.0, "some": 2.0, "full": 1.0, "huge": 0.125, "farther": 8.0, "breaks": 1.0
    }  # fmt: skip
    assert at_end == ["few", "huge", "farther"], "nothing beyond 8 or below an eighth was tried"
    assert len(asked) == len(set(asked)), "nothing is trained twice"
    assert [f for n, f in asked if n == "some"] == [0.5, 1.0, 2.0, 4.0]
    assert [f for n, f in asked if n == "full"] == [0.5, 1.0, 2.0]
    assert search_factors(optimum, GRID, 0, measure)[1] == ["few", "some", "huge", "farther"]
