"""Arms: nested, matched, proportional, the same whatever order the pool came in, and shared where sizes meet."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.proof.arms import (
    curve_arms,
    curve_sizes,
    fixed_arm,
    method_arm,
    random_arm,
    schedule,
    stratified_arm,
    token_matched_arm,
)

IDS = [hashlib.blake2b(str(n).encode(), digest_size=16).hexdigest() for n in range(200)]


def test_the_draws_of_a_chain_are_nested_and_shared_with_the_random_arm() -> None:
    arms = {arm.rows: arm for arm in curve_arms(IDS, [12, 25, 50, 200], 3)}
    for c in range(3):
        draws = [set(arms[n].draw(c).ids) for n in (12, 25, 50, 200)]
        assert all(a < b for a, b in itertools.pairwise(draws))
        assert arms[200].draw(c).ids == tuple(IDS)
        assert random_arm(IDS, 25, 3).draw(c) == arms[25].draw(c)
    assert arms[50].draw(0) != arms[50].draw(1)


def test_the_order_of_the_pool_does_not_choose_rows_and_draws_keep_it() -> None:
    back = IDS[::-1]
    assert set(random_arm(IDS, 30, 2).draw(1).ids) == set(random_arm(back, 30, 2).draw(1).ids)
    ids = random_arm(IDS, 30, 2).draw(1).ids
    assert list(ids) == [i for i in IDS if i in set(ids)]


def test_new_rows_join_a_chain_without_reshuffling_it() -> None:
    before, after = random_arm(IDS[:150], 40, 1).draw(0), random_arm(IDS, 200, 1).draw(0)
    grown = set(random_arm(IDS, 60, 1).draw(0).ids) & set(IDS[:150])
    assert grown <= set(random_arm(IDS[:150], 60, 1).draw(0).ids)
    assert set(before.ids) <= set(after.ids)


def test_seeds_make_other_draws() -> None:
    assert random_arm(IDS, 30, 1, seed=1).draw(0) != random_arm(IDS, 30, 1, seed=2).draw(0)


def test_every_row_is_drawn_about_equally_often() -> None:
    arm = random_arm(IDS, 50, 400)
    counts = np.array([sum(i in set(d.ids) for d in arm.draws) for i in IDS[:40]])
    assert abs(counts.mean() - 100) < 5
    assert counts.min() > 60


def test_token_matched_draws_come_nearest() -> None:
    tokens = np.random.default_rng(0).integers(5, 100, len(IDS))
    arm = token_matched_arm(IDS, tokens, 3000, 4)
    by_id = dict(zip(IDS, tokens.tolist(), strict=True))
    for draw in arm.draws:
        assert abs(sum(by_id[i] for i in draw.ids) - 3000) <= 50
    with pytest.raises(RequestError, match="can't be drawn"):
        token_matched_arm(IDS, tokens, 10**6, 2)


def test_stratified_draws_have_the_shares_of_the_pool() -> None:
    source = np.repeat([0, 1, 2], [100, 60, 40])
    arm = stratified_arm(IDS, source, 51, 3)
    of = dict(zip(IDS, source.tolist(), strict=True))
    for draw in arm.draws:
        counts = np.bincount([of[i] for i in draw.ids], minlength=3)
        assert counts.sum() == 51
        assert (np.abs(counts - np.array([25.5, 15.3, 10.2])) < 1).all()
    assert arm.draw(0) != arm.draw(1)


def test_sizes_halve_and_hold_what_is_asked() -> None:
    assert curve_sizes(1400) == (88, 175, 350, 700, 1400)
    assert curve_sizes(1400, include=(140, 1400, 5000)) == (88, 140, 175, 350, 700, 1400)
    with pytest.raises(RequestError, match="at least 64"):
        curve_sizes(63)


def test_weights_of_one_are_no_weights() -> None:
    assert fixed_arm("mine", "subject", IDS[:3], [1.0, 1.0, 1.0]).draw(4).weights == ()
    assert fixed_arm("mine", "subject", IDS[:3], [1.0, 2.0, 1.0]).draw(0).weights == (1.0, 2.0, 1.0)


def test_rounds_give_every_arm_one_more_trial() -> None:
    arms = [fixed_arm("mine", "subject", IDS[:9]), random_arm(IDS, 9, 3)]
    planned = list(schedule(arms, 3, seed=7))
    assert [(t.arm, t.number, t.seed) for t in planned[:3]] == [("mine", 0, 7), ("random", 0, 7), ("mine", 1, 8)]
    assert len(planned) == 6
    assert len({t.draw for t in planned if t.arm == "mine"}) == 1
    assert len({t.draw for t in planned if t.arm == "random"}) == 3


def test_random_rows_may_be_drawn_several_times_a_seed() -> None:
    arms = [fixed_arm("mine", "subject", IDS[:9]), replace(random_arm(IDS, 9, 6), per_seed=2)]
    planned = list(schedule(arms, 3, seed=7))
    assert [(t.arm, t.number, t.round, t.seed) for t in planned[:4]] == [
        ("mine", 0, 0, 7), ("random", 0, 0, 7), ("random", 1, 0, 8), ("mine", 1, 1, 8)
    ]  # fmt: skip
    assert [t.number for t in planned if t.arm == "random"] == list(range(6))
    assert [t.draw for t in planned if t.arm == "random"] == list(random_arm(IDS, 9, 6).draws)


def test_selections_that_share_more_than_chance_are_one_subset() -> None:
    rng, ids = np.random.default_rng(0), [f"r{n}" for n in range(400)]
    drawn = [rng.choice(ids, 80, replace=False).tolist() for _ in range(5)]
    arm = method_arm("random@80", drawn, 400)
    assert arm.redrawn and arm.independent and arm.draw(3).ids == tuple(drawn[3])
    same = method_arm("bm25@80", [drawn[0]] * 5, 400)
    assert same.redrawn and not same.independent
    nearly = method_arm("less@80", [drawn[0][:40] + [i for i in d if i not in drawn[0][:40]][:40] for d in drawn], 400)
    assert not nearly.independent
