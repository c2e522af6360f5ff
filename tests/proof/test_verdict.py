"""Words: only at planned looks, never rounded up, with reasons where numbers can't mean anything; shares kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from dataworth.errors import RequestError
from dataworth.proof.looks import looks_at
from dataworth.proof.verdict import Arm, Rules, claim_of, judge, retained

FIVE = Rules(looks_at((5,)))
RNG = np.random.default_rng(3)


def arm(mean: float, sd: float = 0.01, trials: int = 5, redrawn: bool = False, name: str = "a") -> Arm:
    noise = np.linspace(-1, 1, trials)
    return Arm(name, mean + sd * (noise - noise.mean()) / (noise.std(ddof=1) or 1), redrawn)


def test_claims_are_named_by_what_was_redrawn() -> None:
    fixed, redrawn = arm(1), arm(1, redrawn=True)
    assert claim_of(fixed, redrawn) == "prediction"
    assert claim_of(redrawn, redrawn) == claim_of(fixed, fixed) == claim_of(redrawn, fixed) == "means"


def test_a_clear_gain_is_better_and_says_how_much() -> None:
    found = judge(arm(1.0, name="mine"), arm(1.2, redrawn=True, name="random"), FIVE, untouched=2.0)
    assert found.word == "better"
    assert found.gain.value == pytest.approx(0.2)
    assert found.gain.low > 0
    assert found.text.startswith("better than random (gain 0.200 [")
    assert judge(arm(1.2), arm(1.0, redrawn=True), FIVE, untouched=2.0).word == "worse"


def test_improvement_on_the_untouched_model_is_students_one_sided_t() -> None:
    shown = 0
    for shift in np.linspace(0, 0.02, 41):
        mine = arm(2.0 - shift)
        pvalue = stats.ttest_1samp(mine.cost_R, 2.0, alternative="less").pvalue
        found = judge(mine, arm(2.5, name="random", redrawn=True), FIVE, untouched=2.0)
        assert ("neither arm is shown" in found.reason) == (pvalue >= 0.05)
        shown += pvalue < 0.05
    assert 10 < shown < 35


def test_between_looks_everything_is_interim() -> None:
    found = judge(arm(1.0, trials=4), arm(1.2, trials=4, redrawn=True), FIVE, untouched=2.0)
    assert found.word is None
    assert found.to_dict()["interim"]
    assert found.text.startswith("interim against")
    three = Rules(looks_at((3, 5, 8)))
    spoken = [judge(arm(1.0, trials=n), arm(1.2, trials=n), three).word for n in range(2, 9)]
    assert [n for n, word in zip(range(2, 9), spoken, strict=True) if word] == [3, 5, 8]


def test_nothing_shown_is_not_a_win_and_a_margin_makes_a_claim() -> None:
    near = arm(1.0), arm(1.001)
    assert judge(*near, FIVE, untouched=2.0).word == "no difference shown"
    within = judge(*near, Rules(looks_at((5,)), margin=0.05), untouched=2.0)
    assert within.word == "as good as"
    assert "(within 0.05)" in within.text
    assert judge(*near, Rules(looks_at((5,)), margin=0.001), untouched=2.0).word == "no difference shown"


def test_nothing_learned_and_too_noisy_cannot_tell() -> None:
    lost = judge(arm(2.1), arm(2.2, redrawn=True), FIVE, untouched=2.0)
    assert lost.word == "cannot tell"
    assert "untouched" in lost.reason
    noisy = judge(arm(1.9, sd=0.08), arm(1.91, sd=0.08, redrawn=True), FIVE, untouched=2.0)
    assert noisy.word == "cannot tell"
    assert "too noisy" in noisy.reason


def test_more_comparisons_and_more_looks_ask_for_more() -> None:
    widths = [
        judge(arm(1.0), arm(1.1), rules).gain
        for rules in (FIVE, Rules(looks_at((5,)), comparisons=4), Rules(looks_at((3, 5, 8)), comparisons=4))
    ]
    sizes = [w.high - w.low for w in widths]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1] < sizes[2]
    assert widths[1].level == pytest.approx(1 - 0.05 / 4)


def test_verdicts_are_plain_json() -> None:
    found = judge(arm(1.0, name="mine"), arm(1.2, redrawn=True, name="random"), FIVE).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["claim"] == "prediction"


@pytest.mark.parametrize(
    ("seeds", "flag"), [((2,), "--seeds 2"), ((3, 5), "--looks"), ((5, 3, 8), "--looks"), ((), "--looks")]
)
def test_unknown_looks_are_refused(seeds: tuple[int, ...], flag: str) -> None:
    with pytest.raises(RequestError, match=flag):
        looks_at(seeds)


def test_looks_keep_the_level_of_the_whole_proof() -> None:
    """Three looks at the level of one would err twice as often; with the share they stay below 5 %."""
    from dataworth.proof.contrast import NOT_SHOWN, contrast, decide

    rng = np.random.default_rng(5)
    for ratio in (1.0, 0.5, 2.0):
        x, y = rng.normal(0, ratio, (20000, 8)), rng.normal(0, 1.0, (20000, 8))
        rates = {}
        for share in (1.0, looks_at((3, 5, 8)).share):
            spoken = [decide(contrast(x[:, :n], y[:, :n], "means"), 0.05 * share) != NOT_SHOWN for n in (3, 5, 8)]
            rates[share] = np.any(spoken, axis=0).mean()
        assert rates[1.0] > 0.085
        assert rates[looks_at((3, 5, 8)).share] < 0.05


def test_retained_is_the_share_of_what_training_gains() -> None:
    found = retained(arm(1.5, 0.001), arm(1.0, 0.001), 2.0)
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < found.high
    assert retained(arm(0.9, 0.001), arm(1.0, 0.001), 2.0).value > 1
    with pytest.raises(RequestError, match="full pool"):
        retained(arm(1.5), arm(2.1), 2.0)
    with pytest.raises(RequestError, match="within its noise"):
        retained(arm(1.5), arm(1.9, 0.5), 2.0)


def test_retained_intervals_cover() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(2000):
        subset, full = 1.2 + 0.05 * rng.standard_normal(5), 1.0 + 0.05 * rng.standard_normal(5)
        found = retained(Arm("s", subset, False), Arm("f", full, False), 2.0)
        hits += found.low <= 0.8 <= found.high
    assert 0.87 <= hits / 2000 <= 0.93


def test_an_unfinished_round_is_interim_and_an_arm_without_a_spread_is_not_hidden() -> None:
    assert judge(arm(1.0), arm(1.2, redrawn=True), FIVE, look=False).word is None
    alone = judge(arm(1.0), Arm("full", np.array([1.2]), False), FIVE)
    assert (alone.word, alone.gain, alone.detectable) == (None, None, None)
    assert "full" in alone.text
    assert json.loads(json.dumps(alone.to_dict()))["gain"] is None


def test_a_margin_of_half_of_what_training_gained_tells_nothing() -> None:
    rules = Rules(looks_at((5,)), margin=0.1)
    mine, full = arm(1.0, 0.01), arm(1.003, 0.01)
    assert judge(mine, full, rules, untouched=1.3).word == "as good as"
    found = judge(mine, full, rules, untouched=1.2)
    assert found.word == "cannot tell"
    assert "half or more of all that training gained (0.2)" in found.reason


def test_as_good_as_is_printed_with_the_interval_that_lies_within_its_margin() -> None:
    found = judge(arm(1.0, 0.01), arm(1.003, 0.01), Rules(looks_at((5,)), margin=0.016))
    assert found.word == "as good as"
    assert found.gain is not None
    assert -0.016 < found.gain.low
    assert found.gain.high < 0.016
    assert found.gain.level == pytest.approx(0.9)


def test_trainings_whose_seed_changes_nothing_tell_nothing() -> None:
    same, other = Arm("mine", np.full(5, 1.0), False), Arm("full", np.full(5, 1.0001), False)
    found = judge(same, other, FIVE, untouched=2.0)
    assert found.word == "cannot tell" and "seeds change nothing" in found.reason
    with pytest.raises(RequestError, match="seeds change nothing"):
        retained(same, other, 2.0)


@pytest.mark.parametrize("trials", [3, 5, 8])
def test_equal_numbers_tell_nothing_whatever_their_rounded_variance_is(trials: int) -> None:
    rules = Rules(looks_at((trials,)), margin=0.05)
    for mine, other in ((-0.8, -0.75), (-0.8, -0.8), (0.882, 1.947), (0.1, 0.3)):
        same, full = Arm("mine", np.full(trials, mine), False), Arm("full", np.full(trials, other), False)
        assert judge(same, full, rules).word == "cannot tell"
        with pytest.raises(RequestError, match="seeds change nothing"):
            retained(same, full, 4.0)


def test_a_worse_that_is_shown_isn_t_hidden_by_a_margin() -> None:
    mine, full = arm(1.5, 0.01), arm(1.0, 0.01)
    assert judge(mine, full, Rules(looks_at((5,)), margin=2.0), untouched=2.0).word == "worse"
    assert judge(arm(1.003, 0.01), full, Rules(looks_at((5,)), margin=2.0), untouched=2.0).word == "cannot tell"
