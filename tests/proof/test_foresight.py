"""What a proof will be able to see: from trials that are there, else by what training gains, else as a share of it."""

from __future__ import annotations

import numpy as np
import pytest

from dataworth.proof.contrast import AS_GOOD, contrast, decide, detectable, passable
from dataworth.proof.foresight import SCATTER, foresee
from dataworth.proof.verdict import Arm
from dataworth.results import duration


def arm(name: str, costs: object = (), redrawn: bool = False) -> Arm:
    return Arm(name, np.asarray(costs, dtype=np.float64), redrawn)


def test_trials_that_are_there_replace_the_guess() -> None:
    mine, full = arm("mine", [1.0, 1.2, 0.9]), arm("full", [0.5, 0.6, 0.7, 0.4])
    found = foresee(mine, full, 5, 0.05, gain=9.0)
    sds = float(np.std(mine.cost_R, ddof=1)), float(np.std(full.cost_R, ddof=1))
    assert found.low == found.high == detectable(*sds, 5, 5, "means", alpha=0.05)
    assert "3 trials in the cache" in found.explain("nats/token")


def test_before_any_trial_the_spread_is_a_share_of_what_training_gains() -> None:
    found = foresee(arm("mine"), arm("random", redrawn=True), 5, 0.025, gain=0.5)
    sd_low, sd_high = (0.5 * share for share in SCATTER)
    assert found.low == detectable(sd_low, sd_low, 5, 5, "prediction", alpha=0.025)
    assert found.high == detectable(sd_high, sd_high, 5, 5, "prediction", alpha=0.025)
    told = found.explain("nats/token", seconds=lambda n: 60.0 * n)
    assert (
        told.startswith("5 seeds: a gain of mine over random is found in 8 of 10 proofs if it is at least ")
        and "here 0.5 on tune rows" in told
    )
    for gain in (None, 0.0, -0.1):
        share = foresee(arm("mine"), arm("random", redrawn=True), 5, 0.025, gain=gain)
        assert share.shares and (share.low, share.high) == pytest.approx((found.low / 0.5, found.high / 0.5))
        assert (
            f"if it is at least {share.low:.0%} of what training gains where trials scatter little, and "
            in share.explain("nats/token")
        )


def test_more_draws_a_seed_see_less_of_a_gain() -> None:
    once, twice = (
        foresee(arm("mine"), arm("random", redrawn=True), 5, 0.025, 0.5, (0.1, 0.025), per_seed) for per_seed in (1, 2)
    )
    sd_low, sd_high = (0.5 * share for share in SCATTER)
    assert twice.low == detectable(sd_low, sd_low, 5, 10, "prediction", alpha=0.025)
    assert twice.high < 0.75 * once.high, "t of 4 degrees of freedom is wide"
    assert twice.margin[2] == passable(sd_high, sd_high, 5, 10, "prediction", alpha=0.025)


def test_how_many_seeds_find_half_of_it_and_that_luck_in_the_draw_has_a_floor() -> None:
    found = foresee(arm("mine", [1.0, 1.1, 0.9]), arm("full", [1.0, 1.1, 0.9]), 5, 0.05)
    assert found.half is not None and found.half > 10
    sees = [detectable(0.1, 0.1, n, n, "means") for n in (found.half - 1, found.half)]
    assert sees[0] > found.high / 2 >= sees[1]
    assert f"half of that takes {found.half} seeds, about {duration(10.0 * found.half + 100)}" in found.explain(
        "accuracy", seconds=lambda n: 10.0 * n + 100
    )
    fixed = foresee(arm("mine", [1.0, 1.1, 0.9]), arm("random", [1.0, 1.1, 0.9], redrawn=True), 8, 0.05)
    assert fixed.half is None and "no number of seeds up to 50" in fixed.explain("nats/token")


@pytest.mark.parametrize("redrawn", [False, True])
def test_what_is_foretold_is_found_in_8_of_10_proofs(redrawn: bool) -> None:
    rng, sd, proofs = np.random.default_rng(0), 0.01, 4000
    known = 1.0 + sd * np.array([-1.0, 0.0, 1.0])  # whose standard deviation is sd
    found = foresee(arm("mine", known), arm("other", known, redrawn=redrawn), 5, 0.05)
    mine = 1.0 - found.high + sd * rng.standard_normal((proofs, 5))
    other = 1.0 + sd * rng.standard_normal((proofs, 5))
    claim = "prediction" if redrawn else "means"
    got = contrast(mine, other, claim)
    assert np.mean(got.gain > got.half_width(0.05)) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("redrawn", [False, True])
def test_a_margin_that_equal_arms_are_said_to_pass_lets_8_of_10_pass(redrawn: bool) -> None:
    rng, sd, proofs = np.random.default_rng(1), 0.01, 4000
    known = 1.0 + sd * np.array([-1.0, 0.0, 1.0])
    claim = "prediction" if redrawn else "means"
    least = passable(sd, sd, 5, 5, claim, alpha=0.025)
    got = contrast(*(1.0 + sd * rng.standard_normal((proofs, 5)) for _ in range(2)), claim)
    assert np.mean(decide(got, 0.025, least, 0.025) == AS_GOOD) == pytest.approx(0.8, abs=0.03)
    for margin, words in ((0.5 * least, "is too small"), (1.001 * least, "lets equal arms pass in 8 of 10 proofs")):
        told = foresee(arm("mine", known), arm("other", known, redrawn=redrawn), 5, 0.05, margin=(margin, 0.025))
        assert words in told.explain("nats/token")


def test_spreads_as_wide_as_all_that_training_gains_are_said_in_words() -> None:
    told = foresee(arm("mine"), arm("random", redrawn=True), 5, 0.025, gain=0.5, margin=(0.05, 0.025))
    assert told.high > 0.5
    said = told.explain("accuracy")
    assert "scatter little, and in fewer even if it is all that training gains where they scatter" in said
    assert f"{told.high:.2g}" not in said and "lets equal arms pass only if trials scatter little" in said
    tiny = foresee(arm("mine"), arm("full"), 5, 0.025)
    assert tiny.shares and tiny.margin is None


@pytest.mark.parametrize("seeds", [2, 3])
def test_few_seeds_take_the_margin_that_their_own_spreads_ask_for(seeds: int) -> None:
    rng = np.random.default_rng(2)
    least = passable(0.01, 0.01, seeds, seeds, "means", alpha=0.05)
    got = contrast(*(1.0 + 0.01 * rng.standard_normal((8000, seeds)) for _ in range(2)), "means")
    assert np.mean(decide(got, 0.05, least, 0.05) == AS_GOOD) == pytest.approx(0.8, abs=0.03)
