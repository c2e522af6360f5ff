"""Budgets by brute force, quotas that add up for any sources, and a reason for every row."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataworth.errors import RequestError
from dataworth.picks.ledger import REASONS
from dataworth.picks.quota import Quota
from dataworth.picks.random import RandomPick
from dataworth.picks.top_k import TopK
from dataworth.records import Budget, hash_unit
from dataworth.results import Scored

ROW = st.tuples(
    st.one_of(st.integers(-2, 2).map(float), st.just(math.nan)),  # score
    st.sampled_from(["", "", "", "out", "near-goal"]),
    st.integers(1, 9),  # tokens
    st.integers(0, 3),  # source
)
ROWS = st.lists(ROW, min_size=1, max_size=22)
BUDGET = st.one_of(
    st.integers(1, 25).map(lambda n: Budget("rows", n)),
    st.floats(0.01, 1).map(lambda f: Budget("fraction", f)),
    st.integers(9, 90).map(lambda t: Budget("tokens", t)),
)
PICKS = {"top_k": TopK(), "quota": Quota(), "random": RandomPick()}
NAMES = ("d", "b", "a", "c")


def inputs_of(rows, higher="keep"):
    ids = [f"{(i * 7919) % 9973:032x}" + (f"#{i}" if i % 5 == 4 else "") for i in range(len(rows))]
    values = np.array([r[0] for r in rows])
    return {
        "ids": ids,
        "score:x": Scored(values, {ids[i]: "none" for i in np.flatnonzero(np.isnan(values))}),
        "higher": higher,
        "eligible_N": np.array([r[1] != "out" for r in rows]),
        "excluded": {ids[i]: ("near-goal", "near") for i, r in enumerate(rows) if r[1] == "near-goal"},
        "tokens_N": np.array([r[2] for r in rows]),
        "source_N": np.array([r[3] for r in rows]),
        "sources": NAMES,
    }


def ranking(rows, inputs, seed=None):
    """Eligible rows, best first; ties by id, copies in order."""
    sign = 1 if inputs["higher"] == "drop" else -1
    drawn = hash_unit(inputs["ids"], seed, "pick:random") if seed is not None else None
    usable = [i for i, r in enumerate(rows) if not r[1] and (drawn is not None or not math.isnan(r[0]))]

    def key(i):
        base, _, copy = inputs["ids"][i].partition("#")
        return (-drawn[i] if drawn is not None else sign * rows[i][0], base, int(copy or 0))

    return sorted(usable, key=key)


def prefix(order, rows, budget, pool):
    """The longest prefix of a ranking that the budget pays for, by trying every length."""
    if budget.unit == "tokens":
        return max(
            (order[:n] for n in range(len(order) + 1) if sum(rows[i][2] for i in order[:n]) <= budget.amount), key=len
        )
    wanted = int(budget.amount) if budget.unit == "rows" else max(1, math.floor(budget.amount * pool + 1e-9))
    return order[:wanted]


@settings(max_examples=150)
@given(ROWS, BUDGET, st.sampled_from(["keep", "drop"]), st.integers(0, 3))
def test_top_k_and_random_are_prefixes_of_their_ranking(rows, budget, higher, seed):
    inputs = inputs_of(rows, higher)
    for pick, order in ((TopK(), ranking(rows, inputs)), (RandomPick(), ranking(rows, inputs, seed))):
        got = pick(inputs, budget, seed=seed)
        kept = prefix(order, rows, budget, len(rows))
        assert set(np.flatnonzero(got.kept_N).tolist()) == set(kept)
        codes = {i: got.reasons[got.reason_code_N[i]] for i in range(len(rows))}
        for i, row in enumerate(rows):
            if row[1] == "near-goal":
                assert codes[i] == "near-goal"
            elif row[1] == "out":
                assert codes[i] == "excluded"
            elif math.isnan(row[0]) and isinstance(pick, TopK):
                assert codes[i] == "unscored"
            elif i in kept:
                assert codes[i].startswith("kept-")
            elif budget.unit == "tokens" and i == order[len(kept)]:
                assert codes[i] == "over-budget"
            else:
                assert codes[i] in ("below-cut", "not-drawn")


@settings(max_examples=150)
@given(ROWS, BUDGET, st.sampled_from(["keep", "drop"]))
def test_the_boundary_holds_the_scores_on_both_sides_of_the_cut(rows, budget, higher):
    inputs = inputs_of(rows, higher)
    order = ranking(rows, inputs)
    kept = prefix(order, rows, budget, len(rows))
    boundary = TopK()(inputs, budget, seed=0).boundary
    assert boundary.get("last_kept") == (rows[kept[-1]][0] if kept else None)
    assert boundary.get("first_dropped") == (rows[order[len(kept)]][0] if len(kept) < len(order) else None)


@settings(max_examples=150)
@given(ROWS, BUDGET, st.sampled_from(["proportional", "equal"]), st.sampled_from(["keep", "drop"]))
def test_quotas_add_up_and_take_the_best_of_every_source(rows, budget, shares, higher):
    inputs = inputs_of(rows, higher)
    order = ranking(rows, inputs)
    got = Quota()(inputs, budget, seed=0, shares=shares)
    kept = set(np.flatnonzero(got.kept_N).tolist())
    whole = prefix(order, rows, budget, len(rows))
    if budget.unit == "tokens":
        assert sum(rows[i][2] for i in kept) <= budget.amount
        if sum(rows[i][2] for i in order) <= budget.amount:
            assert kept == set(order)
    else:
        assert len(kept) == len(whole)
    for source, name in enumerate(NAMES):
        own = [i for i in order if rows[i][3] == source]
        mine = [i for i in own if i in kept]
        assert mine == own[: len(mine)]
        assert got.boundary.get(f"last_kept:{name}") == (rows[mine[-1]][0] if mine else None)
    assert set(got.boundary) <= {f"last_kept:{n}" for n in NAMES}


def dealt_tokens(rows, order, budget, shares):
    """Rows by source under a token budget, as the words say it: own shares, then what is left to the neediest."""
    names = sorted(range(len(NAMES)), key=lambda s: NAMES[s])
    own = {s: [i for i in order if rows[i][3] == s] for s in names}
    there = {s: sum(rows[i][2] for i in own[s]) for s in names}
    total = min(budget, sum(there.values()))
    part = {s: total * there[s] / max(1, sum(there.values())) for s in names}
    if shares == "equal":
        left, open_ = total, sorted(names, key=lambda s: there[s])
        for n, s in enumerate(open_):
            part[s] = min(there[s], left / (len(open_) - n))
            left -= part[s]
    kept = {s: [] for s in names}

    def cost(s):
        return sum(rows[i][2] for i in kept[s])

    for s in names:
        while len(kept[s]) < len(own[s]) and cost(s) + rows[own[s][len(kept[s])]][2] <= part[s] + 1e-9:
            kept[s].append(own[s][len(kept[s])])
    while True:
        left = budget - sum(map(cost, names))
        fits = [s for s in names if len(kept[s]) < len(own[s]) and rows[own[s][len(kept[s])]][2] <= left]
        if not fits:
            return {i for s in names for i in kept[s]}
        neediest = max(fits, key=lambda s: (round(part[s] - cost(s), 6), -names.index(s)))
        kept[neediest].append(own[neediest][len(kept[neediest])])


@settings(max_examples=300)
@given(ROWS, st.integers(9, 90), st.sampled_from(["proportional", "equal"]))
def test_token_quotas_spend_their_shares_and_then_what_is_left(rows, tokens, shares):
    inputs = inputs_of(rows)
    order = ranking(rows, inputs)
    got = Quota()(inputs, Budget("tokens", tokens), seed=0, shares=shares)
    kept = set(np.flatnonzero(got.kept_N).tolist())
    assert kept == dealt_tokens(rows, order, tokens, shares)
    assert bool(kept) == bool(order)
    left = tokens - sum(rows[i][2] for i in kept)
    for source, name in enumerate(NAMES):
        own = [i for i in order if rows[i][3] == source]
        mine = [i for i in own if i in kept]
        assert len(mine) == len(own) or rows[own[len(mine)]][2] > left
        if own and not mine:
            assert any("is kept: its best has" in note for note in got.notes), name


def test_a_token_quota_that_no_source_can_pay_from_its_share_keeps_what_fits_and_says_who_gets_nothing():
    rows = [(9.0 - s, "", 9, s) for s in range(4)]
    got = Quota()(inputs_of(rows), Budget("tokens", 10), seed=0)
    assert [NAMES[rows[i][3]] for i in np.flatnonzero(got.kept_N)] == ["a"]
    assert got.notes == ("no row of source 'b' and 2 more is kept: its best has 9 tokens, more than is left for it",)
    assert got.notes[0] in got.explain()


def by_largest_remainder(counts: dict[str, int], total: int) -> dict[str, int]:
    """Hamilton's method in exact fractions; ties by name."""
    everything = sum(counts.values())
    parts = {n: divmod(total * c, everything) for n, c in counts.items()}
    out = {n: whole for n, (whole, _) in parts.items()}
    for n in sorted(counts, key=lambda n: (-parts[n][1], n))[: total - sum(out.values())]:
        out[n] += 1
    return out


@settings(max_examples=200)
@example(sizes=[0, 5, 7, 26], total=8)  # two remainders of 18/38, which floats tell apart
@given(st.lists(st.integers(0, 30), min_size=2, max_size=4), st.integers(1, 100))
def test_proportional_rows_are_hamiltons_apportionment(sizes, total):
    if not sum(sizes):
        sizes[0] = 1
    rows = [(float(i % 7), "", 1, s) for s, size in enumerate(sizes) for i in range(size)]
    inputs = inputs_of(rows)
    got = Quota()(inputs, Budget("rows", total), seed=0)
    counts = {NAMES[s]: size for s, size in enumerate(sizes)}
    kept = Counter(NAMES[rows[i][3]] for i in np.flatnonzero(got.kept_N))
    wanted = by_largest_remainder(counts, min(total, sum(sizes)))
    assert {n: kept[n] for n in counts} == wanted


@settings(max_examples=200)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(1, 50))
def test_equal_shares_fill_small_sources_first(sizes, total):
    if not sum(sizes):
        sizes[0] = 1
    rows = [(float(i), "", 1, s) for s, size in enumerate(sizes) for i in range(size)]
    got = Quota()(inputs_of(rows), Budget("rows", total), seed=0, shares="equal")
    kept = Counter(rows[i][3] for i in np.flatnonzero(got.kept_N))
    # Deal one row a round to every source that has one left: the counts, up to who gets the last odd rows.
    dealt, left = Counter(), min(total, sum(sizes))
    while left:
        open_ = [s for s, size in enumerate(sizes) if dealt[s] < size]
        if left < len(open_):
            break
        for s in open_:
            dealt[s] += 1
        left -= len(open_)
    assert sum(kept.values()) == min(total, sum(sizes))
    assert all(dealt[s] <= kept[s] <= dealt[s] + 1 for s in range(len(sizes)))


@settings(max_examples=80)
@given(ROWS, BUDGET, st.sampled_from(list(PICKS)), st.randoms(use_true_random=False), st.integers(0, 2))
def test_row_order_plays_no_part_and_every_row_has_a_reason(rows, budget, name, random, seed):
    inputs = inputs_of(rows)
    got = PICKS[name](inputs, budget, seed=seed)
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = {**inputs_of([rows[i] for i in order]), "ids": [inputs["ids"][i] for i in order]}
    shuffled["excluded"] = inputs["excluded"]
    shuffled["score:x"] = Scored(inputs["score:x"].values_N[order], inputs["score:x"].unscored)
    again = PICKS[name](shuffled, budget, seed=seed)
    assert set(got.ids) == set(again.ids) and got.counts() == again.counts()
    assert got.ids == tuple(i for i, k in zip(inputs["ids"], got.kept_N, strict=True) if k)
    assert sum(got.counts().values()) == len(rows) and set(got.reason_texts) == set(got.reasons) <= set(REASONS)
    assert len(got.weights) == len(got.ids) and (got.weights == 1).all()
    said = {i: got.reasons[c].startswith("kept-") for i, c in zip(inputs["ids"], got.reason_code_N, strict=True)}
    assert said == {i: i in got.ids for i in inputs["ids"]}
    assert got.to_dict()["kept"] == len(got.ids) and f"kept {len(got.ids):,} of {len(rows):,}" in got.explain()


@given(ROWS, st.integers(1, 30))
def test_a_larger_budget_keeps_what_a_smaller_one_kept(rows, k):
    inputs = inputs_of(rows)
    for pick in (TopK(), RandomPick()):
        small, large = (set(pick(inputs, Budget("rows", n), seed=1).ids) for n in (k, k + 3))
        assert small <= large


@pytest.mark.parametrize("pick", PICKS.values(), ids=list(PICKS))
def test_nothing_eligible_keeps_nothing_and_says_so(pick):
    rows = [(1.0, "out", 1, 0), (math.nan, "near-goal", 1, 1)]
    got = pick(inputs_of(rows), Budget("rows", 2), seed=0)
    assert got.ids == () and got.counts() == {"excluded": 1, "near-goal": 1}
    assert got.notes == ("only 0 of the 2 rows asked for are eligible: all of them are kept",)


@pytest.mark.parametrize("pick", PICKS.values(), ids=list(PICKS))
def test_a_token_budget_below_the_first_row_is_refused(pick):
    rows = [(2.0, "", 9, 0), (1.0, "", 9, 1)]
    with pytest.raises(RequestError, match="less than the first row's 9 tokens"):
        pick(inputs_of(rows), Budget("tokens", 8), seed=0)
    assert len(pick(inputs_of(rows), Budget("tokens", 18), seed=0).ids) == 2
