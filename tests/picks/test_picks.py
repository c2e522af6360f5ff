import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.picks.quota import Quota
from dataworth.picks.random import RandomPick
from dataworth.picks.top_k import TopK
from dataworth.records import Budget
from dataworth.results import Scored


def case(values, **more):
    values = np.array(values, dtype=float)
    ids = more.pop("ids", [f"{i:032x}" for i in range(len(values))])
    unscored = {ids[i]: "why" for i in np.flatnonzero(np.isnan(values))}
    return {"ids": ids, "score:less": Scored(values, unscored), **more}


def kept(selection):
    return [int(i[:32], 16) for i in selection.ids]


def test_top_k_keeps_the_best_in_pool_order_with_reasons_and_boundary():
    inputs = case([0.1, 0.9, np.nan, 0.5, 0.7], excluded={f"{1:032x}": ("near-goal", "")})
    got = TopK()(inputs, Budget("rows", 2), seed=0)
    assert kept(got) == [3, 4]
    assert got.counts() == {"kept-top": 2, "below-cut": 1, "unscored": 1, "near-goal": 1}
    assert got.boundary == {"last_kept": 0.5, "first_dropped": 0.1}
    assert got.weights.tolist() == [1, 1]
    assert "nearly equal to a goal row" in got.explain()


def test_direction_drop_keeps_the_lowest():
    got = TopK()(case([3, 1, 2], higher="drop"), Budget("rows", 1), seed=0)
    assert kept(got) == [1]
    assert got.boundary == {"last_kept": 1, "first_dropped": 2}


def test_ties_go_by_id_and_copies_in_order():
    base = "a" * 32
    ids = [f"{base}#10", f"{base}#2", base, "0" * 32, "f" * 32]
    got = TopK()(case([1, 1, 1, 1, 0], ids=ids), Budget("rows", 3), seed=0)
    assert set(got.ids) == {"0" * 32, base, f"{base}#2"}


def test_a_share_counts_readable_rows_before_exclusions():
    inputs = case(np.arange(10.0), eligible_N=np.arange(10) < 6)
    got = TopK()(inputs, Budget("fraction", 0.5), seed=0)
    assert kept(got) == [1, 2, 3, 4, 5]
    assert got.counts()["excluded"] == 4


def test_too_few_eligible_rows_are_all_kept_with_a_note():
    got = TopK()(case([1, np.nan, 2]), Budget("rows", 3), seed=0)
    assert kept(got) == [0, 2]
    assert "only 2 of the 3 rows" in got.notes[0]


def test_a_token_budget_is_a_prefix_of_the_ranking():
    inputs = case([5, 4, 3, 2], tokens_N=np.array([10, 100, 5, 5]))
    got = TopK()(inputs, Budget("tokens", 60), seed=0)
    assert kept(got) == [0]
    assert got.counts() == {"kept-top": 1, "over-budget": 1, "below-cut": 2}
    assert kept(TopK()(inputs, Budget("tokens", 110), seed=0)) == [0, 1]
    assert "all of them" in TopK()(inputs, Budget("tokens", 500), seed=0).notes[0]
    with pytest.raises(RequestError, match="first row's 10 tokens"):
        TopK()(inputs, Budget("tokens", 9), seed=0)
    with pytest.raises(RequestError, match="token counts"):
        TopK()(case([1]), Budget("tokens", 9), seed=0)


def test_random_is_seeded_uniform_and_ignores_scores():
    inputs = case(np.full(500, np.nan))
    one, two = (RandomPick()(inputs, Budget("rows", 50), seed=s) for s in (0, 1))
    assert len(set(one.ids)) == 50
    assert len(set(one.ids) & set(two.ids)) < 20
    assert RandomPick()(inputs, Budget("rows", 50), seed=0).ids == one.ids
    assert one.counts() == {"kept-random": 50, "not-drawn": 450}
    hits = np.zeros(500)
    for seed in range(200):
        hits[kept(RandomPick()(inputs, Budget("rows", 50), seed=seed))] += 1
    assert abs(hits.std() - np.sqrt(200 * 0.1 * 0.9)) < 0.6


def test_quota_shares():
    source = np.array([0] * 60 + [1] * 30 + [2] * 10)
    inputs = case(np.arange(100.0), source_N=source, sources=("a", "b", "c"))
    got = Quota()(inputs, Budget("rows", 10), seed=0)
    assert np.bincount(source[kept(got)], minlength=3).tolist() == [6, 3, 1]
    assert set(kept(got)) == {*range(54, 60), *range(87, 90), 99}
    assert got.boundary == {"last_kept:a": 54.0, "last_kept:b": 87.0, "last_kept:c": 99.0}
    equal = Quota()(inputs, Budget("rows", 60), seed=0, shares="equal")
    assert np.bincount(source[kept(equal)], minlength=3).tolist() == [25, 25, 10]
    odd = Quota()(inputs, Budget("rows", 11), seed=0, shares="equal")
    assert np.bincount(source[kept(odd)], minlength=3).tolist() == [4, 4, 3]


def test_quota_counts_are_exact_for_every_budget_and_ignore_the_numbering_of_sources():
    rng = np.random.default_rng(0)
    source = rng.choice(4, size=57, p=[0.5, 0.3, 0.15, 0.05])
    values = rng.normal(size=57)
    names = np.array(["d", "a", "c", "b"])
    relabel = np.array([2, 0, 3, 1])
    for shares in ("proportional", "equal"):
        for k in range(1, 60):
            one = Quota()(case(values, source_N=source, sources=tuple(names)), Budget("rows", k), seed=0, shares=shares)
            assert len(one.ids) == min(k, 57)
            two = Quota()(
                case(values, source_N=relabel[source], sources=tuple(names[np.argsort(relabel)])),
                Budget("rows", k),
                seed=0,
                shares=shares,
            )
            assert one.ids == two.ids


def test_quota_in_tokens_and_its_refusals():
    source = np.array([0, 0, 1, 1])
    inputs = case([4, 3, 2, 1], source_N=source, sources=("a", "b"), tokens_N=np.array([10, 10, 10, 10]))
    got = Quota()(inputs, Budget("tokens", 20), seed=0)
    assert kept(got) == [0, 2]
    with pytest.raises(RequestError, match="sources"):
        Quota()(case([1]), Budget("rows", 1), seed=0)
    with pytest.raises(RequestError, match="proportional or equal"):
        Quota()(inputs, Budget("rows", 1), seed=0, shares="fair")


def test_picking_needs_exactly_one_score_and_a_row():
    with pytest.raises(RequestError, match="exactly one"):
        TopK()({"ids": ["a"]}, Budget("rows", 1), seed=0)
    with pytest.raises(RequestError, match="exactly one"):
        TopK()({**case([1]), "score:bm25": Scored(np.ones(1))}, Budget("rows", 1), seed=0)
    with pytest.raises(RequestError, match="no readable row"):
        TopK()(case([]), Budget("rows", 1), seed=0)
