import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataworth.errors import RequestError
from dataworth.picks.ledger import REASONS, Ballot, within
from dataworth.picks.quota import Quota
from dataworth.picks.top_k import TopK
from dataworth.records import Budget
from dataworth.results import Scored

value = st.one_of(st.integers(-2, 2).map(float), st.just(math.nan))
rows = st.lists(st.tuples(value, st.booleans(), st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=25)


def inputs_of(drawn):
    values = np.array([v for v, *_ in drawn])
    ids = [f"{(i * 7919) % 9973:032x}" for i in range(len(drawn))]
    return {
        "ids": ids,
        "score:x": Scored(values, {ids[i]: "none" for i in np.flatnonzero(np.isnan(values))}),
        "eligible_N": np.array([e for _, e, *_ in drawn]),
        "tokens_N": np.array([t for *_, t, _ in drawn]),
        "source_N": np.array([s for *_, s in drawn]),
        "sources": ("c", "a", "b"),
    }


def naive_ranking(drawn, ids):
    usable = [i for i, (v, eligible, *_) in enumerate(drawn) if eligible and not math.isnan(v)]
    return sorted(usable, key=lambda i: (-drawn[i][0], ids[i]))


@given(rows, st.integers(1, 30))
def test_top_k_by_rows_equals_a_sort(drawn, k):
    inputs = inputs_of(drawn)
    got = TopK()(inputs, Budget("rows", k), seed=0)
    assert set(np.flatnonzero(got.kept_N)) == set(naive_ranking(drawn, inputs["ids"])[:k])
    assert sum(got.counts().values()) == len(drawn)


@given(rows, st.integers(9, 80))
def test_top_k_by_tokens_equals_walking_down_the_ranking(drawn, amount):
    inputs = inputs_of(drawn)
    kept, spent = set(), 0
    for i in naive_ranking(drawn, inputs["ids"]):
        spent += drawn[i][2]
        if spent > amount:
            break
        kept.add(i)
    assert set(np.flatnonzero(TopK()(inputs, Budget("tokens", amount), seed=0).kept_N)) == kept


@given(rows, st.integers(1, 30), st.sampled_from(["proportional", "equal"]))
def test_quota_keeps_the_best_of_each_source_within_one_row_of_its_share(drawn, k, shares):
    inputs = inputs_of(drawn)
    ranking = naive_ranking(drawn, inputs["ids"])
    got = set(np.flatnonzero(Quota()(inputs, Budget("rows", k), seed=0, shares=shares).kept_N))
    assert len(got) == min(k, len(ranking))
    for source in range(3):
        own = [i for i in ranking if drawn[i][3] == source]
        taken = [i for i in own if i in got]
        assert taken == own[: len(taken)]
        if shares == "proportional" and ranking:
            assert abs(len(taken) - len(own) * len(got) / len(ranking)) < 1
    if shares == "equal" and got:
        counts = [sum(drawn[i][3] == s for i in got) for s in range(3)]
        open_ = [c for s, c in enumerate(counts) if c < sum(drawn[i][3] == s for i in ranking)]
        assert not open_ or max(counts) - min(open_) <= 1


def test_codes_are_plain_words_and_say_whether_a_row_was_kept():
    for code, text in REASONS.items():
        assert code == code.lower() and " " not in code
        assert text.startswith(("kept: ", "dropped: "))
        assert text.startswith("kept") == code.startswith("kept")


def test_an_excluded_row_keeps_the_code_of_its_rule_even_when_unscored():
    inputs = inputs_of([(math.nan, True, 1, 0), (1.0, True, 1, 0), (2.0, False, 1, 0)])
    inputs["excluded"] = {inputs["ids"][0]: ("near-goal", "other words")}
    ballot = Ballot.of(inputs)
    assert [ballot.codes[n] for n in ballot.code_N] == ["near-goal", "", "excluded"]
    assert ballot.texts == {"near-goal": REASONS["near-goal"]}
    assert ballot.ranking().tolist() == [1]


def naive_codes(inputs, scored, gone):
    """The reason code of each row that is out, "" of others, and what codes mean, one row at a time."""
    out, texts = [], {}
    for i, row_id in enumerate(inputs["ids"]):
        code = "" if inputs["eligible_N"][i] else "excluded"
        if row_id in inputs["excluded"]:
            code, text = inputs["excluded"][row_id]
            texts.setdefault(code, REASONS.get(code, text))
        out.append(code or ("unscored" if row_id in scored.unscored else ""))
    for row in gone:
        out[row] = "too-dull"
    return out, texts


def naive_selection(ids, out, texts, kept, codes, known):
    """The fields of a selection, one row at a time."""
    code_N = [c or "rest" for c in out]
    for code, chosen in [*codes.items(), ("kept-mine", kept)]:
        for i in chosen.tolist():
            code_N[i] = code
    known = {**REASONS, **texts, **known}
    reasons = tuple(r for r in known if r in set(code_N))
    kept_N = [i in set(kept.tolist()) for i in range(len(ids))]
    places = [reasons.index(c) for c in code_N]
    return tuple(ids[i] for i in sorted(kept.tolist())), kept_N, places, reasons, {r: known[r] for r in reasons}


OUT = [("near-goal", "w"), ("own-rule", "dropped: one"), ("own-rule", "dropped: two"), ("unscored", "z"), ("", "")]


@given(rows, st.lists(st.sampled_from([None, None, *OUT]), min_size=25, max_size=25), st.randoms())
def test_a_ballot_says_of_every_row_what_a_loop_over_rows_says(drawn, excluded, rng):
    inputs = inputs_of(drawn)
    n, first = len(drawn), inputs["ids"][0]
    inputs["ids"] = [f"{first}#{12 - i}" if i and i % 3 == 0 and i < 12 else row for i, row in enumerate(inputs["ids"])]
    values = inputs["score:x"].values_N
    scored = Scored(values, {inputs["ids"][i]: "none" for i in np.flatnonzero(np.isnan(values))})
    inputs |= {"score:x": scored, "higher": rng.choice(["keep", "drop"])}
    inputs["excluded"] = {i: why for i, why in zip(inputs["ids"], excluded, strict=False) if why}
    ballot, sign = Ballot.of(inputs), -1 if inputs["higher"] == "drop" else 1
    gone = np.array(rng.sample(ballot.ranking().tolist(), len(ballot.ranking()) // 4), dtype=np.int64)
    if rng.random() < 0.5:
        ballot = ballot.without(gone, "too-dull")
    else:
        gone = gone[:0]
    out, texts = naive_codes(inputs, scored, gone.tolist())
    place = {row: p for p, row in enumerate(sorted(inputs["ids"], key=lambda i: (i[:32], int(i[33:] or 0))))}
    best = sorted((i for i in range(n) if not out[i]), key=lambda i: (-sign * values[i], place[inputs["ids"][i]]))
    assert [ballot.codes[c] for c in ballot.code_N] == out and ballot.texts == texts
    assert ballot.ranking().tolist() == best
    some = np.array(rng.sample(range(n), n // 2), dtype=np.int64)
    assert ballot.ranking(some).tolist() == [i for i in best if i in some.tolist()]
    kept, next_in_line = np.array(best[: n // 3], dtype=np.int64), np.array(best[n // 3 : n // 3 + 1], dtype=np.int64)
    known = {"kept-mine": "kept: k", "rest": "dropped: r", "too-dull": "dropped: d", "": "?"}
    codes = {"over-budget": next_in_line}
    got = ballot.select(kept, codes, kept_code="kept-mine", rest_code="rest", texts=known)
    found = got.ids, got.kept_N.tolist(), got.reason_code_N.tolist(), got.reasons, got.reason_texts
    assert found == naive_selection(inputs["ids"], out, texts, kept, codes, known)
    assert got.reason_code_N.dtype == np.uint8 and got.weights.tolist() == [1.0] * len(kept)


def test_a_code_without_words_and_more_codes_than_a_byte_counts_are_errors():
    inputs = inputs_of([(1.0, True, 1, 0)] * 300)
    ballot, none = Ballot.of(inputs), np.zeros(0, dtype=np.int64)
    with pytest.raises(KeyError, match="nameless"):
        ballot.select(none, {}, kept_code="kept-top", rest_code="nameless")
    inputs["excluded"] = {row: (f"rule-{n}", "dropped: x") for n, row in enumerate(inputs["ids"])}
    with pytest.raises(OverflowError):
        Ballot.of(inputs).select(none, {}, kept_code="kept-top", rest_code="below-cut")


def test_budgets_that_mean_nothing_are_refused():
    inputs = inputs_of([(1.0, True, 5, 0)])
    ranking = np.array([0])
    with pytest.raises(RequestError, match="keeps nothing"):
        within(Budget("rows", 0), ranking, inputs)
    with pytest.raises(RequestError, match="expected more"):
        within(Budget("tokens", 4), ranking, inputs)
    kept, after, notes = within(Budget("fraction", 1.0), ranking, inputs)
    assert (kept.tolist(), after.tolist(), notes) == ([0], [], [])
