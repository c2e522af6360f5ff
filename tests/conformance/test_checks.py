"""Every check, under everything a pool or its pilots may throw at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest

from dataworth import plugins
from dataworth.errors import NotApplicable
from dataworth.laws.capacity import fill
from dataworth.laws.curve import Curve, fit_curve
from dataworth.laws.regime import Pilots
from dataworth.results import Finding

CHECKS = sorted(plugins.CHECKS)
QUESTION = "why do people carry umbrellas in the rain"
SIZES = np.array([25.0, 50.0, 100.0, 200.0, 400.0])


def texts(near: tuple[int, ...] = (3, 11), n: int = 30) -> dict[str, Any]:
    """Prompts of a pool and a goal; rows `near` ask the goal's question."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(200)])
    told = [QUESTION if i in near else " ".join(rng.choice(words, size=12)) for i in range(n)]
    return {
        "prompts:pool": [(f"{i:032x}", "ab"[i % 2], t) for i, t in enumerate(told)],
        "prompts:goal": [("g0", QUESTION), ("g1", "something else entirely happens over there")],
    }


@cache
def curve(E: float, B: float, beta: float, noise: float) -> Curve:
    """A curve of three chains."""
    rng = np.random.default_rng(1)
    apart_C1 = 1.0 + noise * np.array([[-1.0], [0.0], [1.0]])
    return fit_curve(SIZES, (E + B * SIZES**-beta) * (1 + 1e-3 * rng.normal(size=(3, 5))) * apart_C1)


def pilots(test: list[float], train: list[float] | None = None) -> Pilots:
    """Three chains that hardly differ."""
    spread_C1 = 1.0 + 1e-3 * np.arange(3)[:, None]
    return Pilots(SIZES, np.array(test) * spread_C1, None if train is None else np.array(train) * spread_C1)


@dataclass(frozen=True)
class Case:
    """Inputs that a check finds something in, that it passes, and that it can't look at; `rows` it must name."""

    finds: Mapping[str, Any]
    passes: tuple[Mapping[str, Any], ...]
    none: Mapping[str, Any]
    rows: frozenset[str] = field(default_factory=frozenset)


def cases() -> dict[str, Case]:
    """One a check."""
    falling = [2.0, 1.8, 1.6, 1.5, 1.45]
    return {
        "DW001": Case(
            texts(),
            (texts(near=()), {**texts(), "prompts:pool": []}),
            {**texts(), "prompts:goal": []},
            frozenset(f"{i:032x}" for i in (3, 11)),
        ),
        "DW101": Case(
            {"curve": curve(1.0, 8.0, 1.0, 0.0), "scale": 0.1},  # of what a language model learnt it is much
            ({"curve": curve(1.0, 8.0, 1.0, 0.0), "scale": None}, {"curve": curve(1.0, 8.0, 1.0, 0.0)}),
            {"curve": None},
        ),
        "DW102": Case(
            {"pilots": pilots([1.0, 1.4, 1.1, 0.8, 0.7]), "curve": None},
            (
                {"pilots": pilots(falling, falling), "curve": None},
                {"pilots": pilots(falling, [0.0] * 5), "curve": curve(1.0, 8.0, 0.5, 0.0)},
                {"pilots": pilots(falling), "curve": None},
            ),
            {"pilots": None, "curve": None},
        ),
        "DW103": Case(
            {"stop": {100: {1: 1.0, 2: 0.995}, 200: {1: 0.8, 2: 0.81}}, "stop_scale": 0.1},
            ({"stop": {100: {1: 1.0, 2: 1.1}}}, {"stop": {100: {1: 1.0, 2: 0.995}}, "stop_scale": None}),
            {"stop": None},
        ),
        "DW104": Case({"curve": curve(1.0, 8.0, 0.5, 0.4)}, ({"curve": curve(1.0, 8.0, 0.5, 0.0)},), {"curve": None}),
        "DW105": Case(
            {"fill": fill(1e9, 10**6)}, ({"fill": fill(1e5, 10**6)}, {"fill": fill(3e6, 10**6)}), {"fill": None}
        ),
        "DW106": Case({"near_trained": 7}, ({"near_trained": 0},), {"near_trained": None}),
    }


@pytest.mark.parametrize("code", CHECKS)
class TestChecks:
    def test_declares_itself(self, code):
        check = plugins.load("checks", code)
        assert check.code == code and code.startswith("DW") and len(code) == 5
        assert check.severity in ("issue", "tip") and check.cost in ("free", "text", "model")
        assert check.title and check.needs == set(cases()[code].finds)

    def test_a_finding_explains_itself_and_names_rows_of_the_pool(self, code):
        found = plugins.load("checks", code)(cases()[code].finds)
        assert isinstance(found, Finding) and found.code == code
        assert found.text.endswith(".") and found.advice.endswith(".") and "\n" not in found.text
        assert set(found.rows) == cases()[code].rows
        assert all(len(evidence) > 10 for evidence in found.rows.values())
        assert found.evidence or found.rows

    def test_is_pure(self, code):
        check, given = plugins.load("checks", code), cases()[code].finds
        assert check(given) == check(given)

    def test_what_is_in_order_passes(self, code):
        for given in cases()[code].passes:
            assert plugins.load("checks", code)(given) is None

    def test_nothing_to_look_at_is_not_applicable(self, code):
        with pytest.raises(NotApplicable):
            plugins.load("checks", code)(cases()[code].none)


def test_the_gate_ignores_row_order():
    check, given = plugins.load("checks", "DW001"), texts()
    backwards = {name: rows[::-1] for name, rows in given.items()}
    assert dict(check(given).rows) == dict(check(backwards).rows)


def test_a_train_loss_that_leaves_its_floor_is_the_peak_too():
    found = plugins.load("checks", "DW102")(
        {"curve": None, "pilots": pilots([2.0, 1.8, 1.6, 1.5, 1.45], [0.0, 0.0, 0.2, 0.6, 1.0])}
    )
    assert "Train loss goes from 0% to 69%" in found.text


def test_a_rise_of_the_goal_s_curve_is_the_peak_too():
    rising = fit_curve(SIZES, np.array([[3.0, 2.0, 1.2, 1.0, 1.15], [3.1, 2.1, 1.21, 1.01, 1.16]]))
    found = plugins.load("checks", "DW102")({"curve": rising, "pilots": None})
    assert found.text == "The loss rises between 200 and 400 rows."


def test_chains_without_a_fall_have_nothing_to_be_compared_with():
    flat = fit_curve(SIZES, np.array([[1.0, 1.01, 0.99, 1.0, 1.01], [1.01, 0.99, 1.0, 1.01, 1.0]]))
    with pytest.raises(NotApplicable, match="fall"):
        plugins.load("checks", "DW104")({"curve": flat})
