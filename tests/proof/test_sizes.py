"""What sizes say: the curve's chains, the fewest rows that do, and worth beyond the curve by its law."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.laws.curve import Prediction
from dataworth.laws.worth import RandomCurve, worth
from dataworth.proof.result import Sizes
from dataworth.proof.sizes import Smallest, apart, beyond, random_curve, smallest_keeping, uneven, worth_more_each
from dataworth.proof.verdict import Arm, retained

SIZES = np.array([88.0, 175.0, 350.0, 700.0, 1400.0])
UNTOUCHED = 3.0


def law(size: np.ndarray | float) -> np.ndarray:
    return np.asarray(1.0 + 6.0 * np.asarray(size) ** -0.4)


def curve(noise: float = 0.002, chains: int = 5, seed: int = 0) -> RandomCurve:
    rng = np.random.default_rng(seed)
    return RandomCurve(SIZES, law(SIZES) + noise * rng.standard_normal((chains, len(SIZES))))


def trials(cost: float, noise: float = 0.002, count: int = 5, seed: int = 1) -> np.ndarray:
    return cost + noise * np.random.default_rng(seed).standard_normal(count)


def test_only_chains_with_every_size_count() -> None:
    found = random_curve([(10, {0: 3.0, 1: 3.1, 2: 3.2}), (20, {0: 2.0, 2: 2.2})])
    assert found is not None and found.cost_CK.tolist() == [[3.0, 2.0], [3.2, 2.2]]
    assert random_curve([(10, {0: 3.0, 1: 3.1}), (20, {1: 2.0})]) is None
    assert random_curve([]) is None


def test_rows_worth_more_each_are_shown_at_a_level_that_all_pairs_share() -> None:
    rows = {"a": 100.0, "b": 130.0, "c": 170.0, "d": 220.0, "e": 280.0, "f": 360.0}
    wrong, alone = 0, 0
    for seed in range(100):
        # Each subset's rows are worth two random ones; every other one's trials scatter widely.
        scatter = (0.0002, 0.01) * 3
        costs = {
            n: trials(float(law(2 * r)), sd, seed=1000 * seed + k)
            for k, ((n, r), sd) in enumerate(zip(rows.items(), scatter, strict=True))
        }
        noisy = curve(noise=0.0002, seed=seed)
        wrong += bool(worth_more_each(costs, rows, noisy))
        sets = {n: worth(cost_R, noisy, level=0.95) for n, cost_R in costs.items()}
        alone += any(sets[a].each_more_than(sets[b], rows[a], rows[b]) for a in rows for b in rows)
    assert wrong <= 5 < alone, (wrong, alone)
    # One subset whose trials scatter and one whose don't, each row worth a random one: the wide set alone decides.
    apart_by_chance = 0
    for seed in range(200):
        two = {
            "a": trials(float(law(300)), 0.0002, seed=2 * seed),
            "b": trials(float(law(600)), 0.01, seed=2 * seed + 1),
        }
        apart_by_chance += bool(worth_more_each(two, {"a": 300.0, "b": 600.0}, curve(noise=0.0002, seed=seed)))
    assert apart_by_chance <= 14, "5 % of 200, and chance; sets of 90 % fail this"
    better = {**rows, "a": 50.0}
    costs = {n: trials(float(law(2 * r)), noise=0.0005, seed=k) for k, (n, r) in enumerate(rows.items())}
    found = worth_more_each(costs, better, curve(noise=0.0005))
    assert found == tuple(("a", n) for n in "bcdef"), "in the order in which they were asked about"
    assert worth_more_each(costs, dict.fromkeys(rows, 100.0), curve()) == (), "of one size: their verdicts say it"


def test_the_fewest_rows_that_do_are_those_of_the_true_curve() -> None:
    full = Arm("full", trials(float(law(1400))), False)
    found = smallest_keeping(curve(), full, UNTOUCHED, pool_rows=1400)
    target = UNTOUCHED - 0.95 * (UNTOUCHED - float(law(1400)))
    true = ((target - 1.0) / 6.0) ** (-1 / 0.4)
    assert found.rows is not None and true <= found.rows <= 1.15 * true
    # The naive twin: at the size found the interval keeps the share, a step below it doesn't.
    cost_C2 = curve().at(np.array([found.rows, true * 0.97]))
    here, below = (retained(Arm("", cost_C, True), full, UNTOUCHED).low for cost_C in cost_C2.T)
    assert here >= 0.95 > below


def test_the_ends_of_the_fewest_rows_are_told() -> None:
    full = Arm("full", trials(float(law(1400))), False)
    assert smallest_keeping(curve(), full, 50.0, pool_rows=1400).at_most, "any size keeps nearly all of so large a gain"
    noisy = Arm("full", trials(float(law(1400)), noise=0.4), False)
    assert smallest_keeping(curve(noise=0.4), noisy, UNTOUCHED, pool_rows=1400).rows is None
    assert "no fewer random rows than all" in str(Smallest(None, 0.95))
    assert "or fewer" in str(Smallest(88.0, 0.95, at_most=True))
    with pytest.raises(RequestError, match="within its noise"):
        smallest_keeping(curve(), full, float(law(1400)), pool_rows=1400)


def test_sizes_without_any_spread_show_nothing_and_take_no_other_answer_with_them() -> None:
    flat = Arm("full", np.full(5, 0.25), False)
    cost_CK = np.array([[0.5, 0.4, 0.25, 0.25], [0.5, 0.38, 0.25, 0.25], [0.48, 0.4, 0.25, 0.25]])
    found = smallest_keeping(RandomCurve(np.array([10.0, 20, 40, 80]), cost_CK), flat, 0.75, pool_rows=160)
    assert found.rows is None
    noisy_CK = cost_CK + np.array([[0, 0, 0, 0.001], [0, 0, 0, 0], [0, 0, 0, -0.001]])
    some = smallest_keeping(RandomCurve(np.array([10.0, 20, 40, 80]), noisy_CK), flat, 0.75, pool_rows=160)
    assert some.rows is not None and 40 < some.rows <= 80


def test_within_the_curve_no_law_is_asked() -> None:
    subject = trials(float(law(500)))
    assert beyond(subject, curve(), worth(subject, curve())) is None
    poor = trials(float(law(20)))
    assert beyond(poor, curve(), worth(poor, curve())) is None


def test_beyond_the_curve_the_law_answers_with_an_interval_that_holds_the_truth() -> None:
    subject = trials(float(law(2500)))
    found = beyond(subject, curve(), worth(subject, curve()))
    assert found is not None and not found.refusal
    assert found.low < 2500 < found.high and found.low > 1400
    # The subset's own spread is in it: a noisier subset of the same mean gets the wider interval.
    wide = subject.mean() + 4 * (subject - subject.mean())
    noisy = beyond(wide, curve(), worth(wide, curve()))
    if noisy is not None and not noisy.refusal:
        assert noisy.low <= found.low and not noisy.high < found.high


def test_where_the_law_is_not_to_be_believed_it_says_why() -> None:
    flat = RandomCurve(SIZES, 2.0 + 0.01 * np.random.default_rng(0).standard_normal((4, 5)))
    subject = trials(1.2)
    found = beyond(subject, flat, worth(subject, flat))
    assert found is not None and found.refusal and "cannot tell" in str(found)
    accuracy = RandomCurve(SIZES, -0.5 - 0.02 * np.arange(5) + 0.001 * np.random.default_rng(0).standard_normal((4, 5)))
    best = trials(-0.9)
    assert beyond(best, accuracy, worth(best, accuracy)) is None, "laws are of losses"


def test_a_refused_law_knows_no_more_than_the_subsets_noise_allows() -> None:
    flat = RandomCurve(SIZES, law(SIZES) + 0.05 * np.random.default_rng(3).standard_normal((3, 5)))
    subject = trials(float(law(1400)) - 0.05, noise=0.08)
    found = worth(subject, flat)
    said = beyond(subject, flat, found)
    if said is not None and said.refusal:
        assert said.low <= 2 * SIZES[-1]
        quiet = subject.mean() + (subject - subject.mean()) * 1e-3
        surer = beyond(quiet, flat, worth(quiet, flat))
        assert surer is None or said.low <= surer.low


def test_the_whole_pool_keeps_all_of_itself_however_noisy() -> None:
    """With noise, only sizes below the pool can be short; the pool is never said to keep too little of itself."""
    full = Arm("full", trials(float(law(1400)), noise=0.02), False)
    found = smallest_keeping(curve(noise=0.02), full, UNTOUCHED, pool_rows=1400)
    assert found.rows is None or found.rows < 1400
    cut = RandomCurve(SIZES[:-1], curve().cost_CK[:, :-1])  # a budget left out the largest size
    quiet = Arm("full", trials(float(law(1400))), False)
    assert smallest_keeping(cut, quiet, UNTOUCHED, pool_rows=1400).rows is None, "797 rows of the true curve keep 95 %"
    part = smallest_keeping(cut, quiet, UNTOUCHED, share=0.9, pool_rows=1400)
    assert part.rows is not None and part.rows <= 700


def test_what_sizes_say_survives_json() -> None:
    subject = trials(float(law(2500)))
    found = worth(subject, curve())
    law_said = beyond(subject, curve(), found)
    assert isinstance(law_said, Prediction)
    sizes = Sizes({"mine": found}, {"mine": law_said}, Smallest(400.0, 0.95))
    again = Sizes.from_dict(json.loads(json.dumps(sizes.to_dict())))
    rows = {"mine": 100.0}
    assert again.explain(rows) == sizes.explain(rows)
    text = "\n".join(sizes.explain(rows))
    assert "by the fitted law" in text and "for each of its 100 rows" in text and "400 random rows" in text


def test_a_size_that_trains_worse_than_a_smaller_one_is_told_and_noise_is_not() -> None:
    even = curve()
    assert uneven(even) == []
    bent = even.cost_CK.copy()
    bent[:, 2] += 0.5
    (told,) = uneven(RandomCurve(SIZES, bent), -1.0)
    assert told.startswith(
        f"350 random rows train to {-bent[:, 2].mean():.4f} where 175 reach {-bent[:, 1].mean():.4f}"
    )
    false = [uneven(RandomCurve(SIZES, 2.0 + np.random.default_rng(n).standard_normal((5, 5)))) for n in range(200)]
    assert np.mean([bool(f) for f in false]) <= 0.05


def test_a_trial_that_came_apart_is_told_once_and_useless_rows_are_not() -> None:
    broken = np.array([1.0, 1.02, 2.95, 0.98, 1.01])
    arms = [
        Arm("picked", np.array([1.1, 1.12, 1.11]), False),
        Arm("random", broken, True),
        Arm("random 188", broken, True),
        Arm("useless", np.array([2.99, 3.01, 2.98]), False),
    ]
    (told,) = apart(arms, UNTOUCHED)
    assert told.startswith("a trial of random gained 0.05 where its arm's median trial gained 1.99")
    assert apart(arms, None) == [] and apart(arms[:1], UNTOUCHED) == []
