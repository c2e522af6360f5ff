"""What a budget pays for, in the order that matters, and never less than a proof needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dataworth.errors import RequestError
from dataworth.proof.budget import ArmPrice, Plan, fit, wall_seconds

PRICES = [
    ArmPrice("mine", "subject", 10),
    ArmPrice("random", "random", 10),
    ArmPrice("full", "full", 100),
    ArmPrice("longest", "baseline", 10),
    *(ArmPrice(f"random {n}", "curve", float(s)) for n, s in ((10, 1), (20, 2), (40, 4), (80, 8))),
    ArmPrice("random 160", "curve", 100.0, shares="full"),
]


def test_what_all_trials_share_is_paid_for_first() -> None:
    assert fit(PRICES, 5, 155, 1).arms == ("mine", "random", "longest")

    def once(arms: Sequence[ArmPrice]) -> float:
        return 40.0 if any(a.name == "full" for a in arms) else 10.0

    less = fit(PRICES, 5, 155, 1, once=once)
    assert less.arms == ("mine", "random", "random 10", "random 20", "random 40") and less.seconds == 145
    assert fit(PRICES, 5, 55, 2, once=once).seconds == 55
    # Only arms that run are paid for: without the full pool what it would share costs nothing.
    assert "full" not in fit(PRICES, 5, 650, 1, once=once).arms
    assert fit(PRICES, 5, 690, 1, once=once).arms == ("mine", "random", "full", "longest")
    with pytest.raises(RequestError, match=r"take about 70\.0 s"):
        fit(PRICES, 5, 69, 1, once=once)


def test_what_is_only_shown_is_paid_for_last_and_never_in_a_comparison_s_place() -> None:
    shown = [ArmPrice(name, "baseline", 10, shown=True) for name in ("longest", "bm25")]
    prices = [p for p in PRICES if p.name != "longest"] + shown
    assert fit(prices, 5, 155, 1).arms == ("mine", "random", "random 10", "random 20", "random 40")
    assert fit(prices, 5, 620, 1).arms[:3] == ("mine", "random", "full")
    assert fit(prices, 5, 10_000, 1).arms == tuple(p.name for p in prices)
    beside = [PRICES[0], PRICES[2], ArmPrice("random", "random", 10, shown=True)]
    assert fit(beside, 5, 560, 1).arms == ("mine", "full"), "the comparison asked for stays"
    assert fit(beside, 5, 600, 1).arms == ("mine", "full", "random")


def test_wall_time_is_shared_but_no_shorter_than_the_longest_trial() -> None:
    assert wall_seconds(PRICES[:2], 5, 1) == 100
    assert wall_seconds(PRICES[:2], 5, 2) == 50
    assert wall_seconds(PRICES[2:3], 1, 8) == 100
    assert wall_seconds([], 5, 2) == 0


def test_random_rows_drawn_twice_a_seed_cost_twice() -> None:
    drawn = [PRICES[0], replace(PRICES[1], per_seed=2)]
    assert wall_seconds(drawn, 5, 1) == 50 + 100
    assert fit(drawn, 5, 140, 1).seeds == 4 and fit(drawn, 5, 210, 1, more=2).seeds == 5
    with pytest.raises(RequestError, match=r"take about 1\.5 min"):
        fit(drawn, 5, 80, 1)


@pytest.mark.parametrize(
    ("budget", "arms", "seeds"),
    [
        (60, ["mine", "random"], 3),
        (100, ["mine", "random"], 5),
        (155, ["mine", "random", "longest"], 5),
        (190, ["mine", "random", "longest", "random 10", "random 20", "random 40"], 5),
        (649, ["mine", "random", "longest", "random 10", "random 20", "random 40", "random 80"], 5),
        (650, ["mine", "random", "full", "longest"], 5),
        (725, [p.name for p in PRICES], 5),
    ],
)
def test_the_comparison_comes_first_then_controls_then_the_curve(budget: float, arms: list[str], seeds: int) -> None:
    plan = fit(PRICES, 5, budget, 1)
    assert (list(plan.arms), plan.seeds) == (arms, seeds)
    assert plan.seconds <= budget


def test_more_workers_pay_for_more() -> None:
    assert len(fit(PRICES, 5, 400, 2).arms) > len(fit(PRICES, 5, 400, 1).arms)


def test_too_little_is_refused_with_what_it_takes() -> None:
    with pytest.raises(RequestError, match=r"3 seeds of mine and of random, and nothing else, take about 60.0 s"):
        fit(PRICES, 5, 59, 1)


def test_without_random_rows_the_cheapest_control_stays() -> None:
    assert fit([PRICES[0], PRICES[2], PRICES[3]], 5, 100, 1).arms == ("mine", "longest")


def test_a_search_is_paid_for() -> None:
    assert fit(PRICES, 5, 100, 1, more=2).seeds == 3


@pytest.mark.parametrize(("budget", "more"), [(80, 0), (99.9, 0), (100, 1), (119.9, 1), (120, 2), (1000, 2)])
def test_what_a_budget_leaves_over_pays_for_a_further_search(budget: float, more: int) -> None:
    assert Plan(("mine", "random"), 4, 80.0, 20.0).spares(budget, 2) == more


def test_without_controls_the_curve_is_what_is_paid_for() -> None:
    two = [ArmPrice("a", "subject", 10), ArmPrice("b", "subject", 10), *PRICES[4:8]]
    assert fit(two, 5, 200, 1).arms == tuple(p.name for p in two)
    assert fit(two, 5, 110, 1).seeds == 3
    curve = [ArmPrice(f"random {n}", "curve", n / 10, rows=n) for n in (10, 20, 40, 80, 160, 320)]
    long = [ArmPrice("a", "subject", 1, rows=40), *curve]  # 4 s for 40 random rows: the subset's are short
    for budget, sizes, seeds in (
        (320, 6, 5),
        (319, 5, 5),
        (160, 5, 5),
        (159, 4, 5),
        (80, 4, 5),
        (79, 4, 4),
        (48, 4, 3),
    ):
        plan = fit(long, 5, budget, 1)
        assert (len(plan.arms) - 1, plan.seeds) == (sizes, seeds), "the next size above the subject goes after seeds"
    assert fit(long, 5, 47, 1).arms == ("a", "random 10", "random 20", "random 40")
    with pytest.raises(
        RequestError, match="3 seeds of a and of random 10 and of random 20 and of random 40, and nothing"
    ):
        fit([ArmPrice("a", "subject", 1, rows=400), *curve[:3]], 5, 20, 1)
    with pytest.raises(RequestError, match="3 seeds of a and of b and of random 10"):
        fit(two, 5, 90, 1)
