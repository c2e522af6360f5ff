import warnings

import numpy as np
import pytest
from tests.picks.ballots import kept, scored, why

from dataworth.dynamics import Dynamics
from dataworth.errors import RequestError
from dataworth.picks.stratified import Stratified
from dataworth.records import Budget


def allotment(sizes, budget):
    """CCS: from the smallest stratum on, each gives an equal share of what is still wanted, as far as it goes."""
    out = [0] * len(sizes)
    for n, b in enumerate(sorted(range(len(sizes)), key=lambda b: (sizes[b], b))):
        out[b] = min(sizes[b], budget // (len(sizes) - n))
        budget -= out[b]
    return out


def drawn(values, k, strata, **options):
    """How many rows of each stratum are kept."""
    values = np.asarray(values, dtype=float)
    bins = np.minimum(((values - values.min()) / np.ptp(values) * strata).astype(int), strata - 1)
    got = Stratified()(scored(values), Budget("rows", k), cut=0, strata=strata, **options)
    return np.bincount(bins[kept(got)], minlength=strata).tolist()


def test_the_smallest_stratum_is_served_first():
    assert allotment([1, 1, 10], 6) == [1, 1, 4]
    assert drawn([0, 5, *np.linspace(7, 9, 10)], 6, 3) == [1, 1, 4]


def test_allotment_of_any_budget_against_the_loop():
    rng = np.random.default_rng(0)
    for _ in range(40):
        sizes = rng.integers(0, 12, size=6)
        sizes[[0, -1]] += 1  # so that the strata lie where we think
        values = np.repeat(np.arange(6.0), sizes)
        bins = np.minimum((values / 5 * 6).astype(int), 5)
        sizes = np.bincount(bins, minlength=6).tolist()
        for k in rng.integers(1, sum(sizes) + 1, size=4).tolist():
            assert drawn(values, k, 6) == allotment(sizes, k)


def test_the_last_stratum_is_closed_on_the_right_whatever_the_sign():
    """The repository's maximum * 1.0001 moves a negative maximum the wrong way, and its row is never drawn."""
    values = -np.arange(1.0, 11.0)
    got = Stratified()(scored(values), Budget("rows", 10), cut=0, strata=5)
    assert len(got.ids) == 10
    assert drawn(values, 5, 5) == [1, 1, 1, 1, 1]
    assert drawn(values, 1, 5) == allotment([2] * 5, 1) == [0, 0, 0, 0, 1]


def test_the_hardest_are_cut_by_the_score_s_own_direction():
    values = np.arange(20.0)
    hard_high, hard_low = ("easiest", "hardest"), ("hardest", "easiest")
    got = Stratified()(scored(values, ends=hard_high), Budget("rows", 10), cut=0.25)
    assert max(kept(got)) < 15 and [why(got, i) for i in range(15, 20)] == ["cut-hardest"] * 5
    got = Stratified()(scored(values, "drop", ends=hard_low), Budget("rows", 10), cut=4)
    assert min(kept(got)) >= 4 and why(got, 3) == "cut-hardest"
    assert len(Stratified()(scored(values, ends=hard_high), Budget("rows", 18), cut=0.5).ids) == 18
    default = Stratified()(scored(values, ends=hard_high), Budget("rows", 18))
    assert default.counts()["cut-hardest"] == 2


def test_the_best_of_a_score_of_something_else_are_cut_only_where_that_is_asked():
    values = np.arange(20.0)
    assert 19 in kept(Stratified()(scored(values), Budget("rows", 20)))
    assert set(Stratified()(scored(values), Budget("rows", 18)).counts()) == {"kept-stratified", "not-drawn"}
    easy = scored(values, "drop", ends=("easiest", "hardest"))  # as --policy auto may turn it
    assert "cut-hardest" not in Stratified()(easy, Budget("rows", 18)).counts()
    asked = Stratified()(scored(values), Budget("rows", 18), cut=0.1)
    assert {i for i in range(20) if why(asked, i) == "cut-top"} == {18, 19}
    assert asked.reason_texts["cut-top"].startswith("dropped: among the highest by ")


def test_the_hardest_are_cut_by_aum_and_strata_are_the_score_s():
    rng = np.random.default_rng(0)
    margin = rng.normal(size=(2, 3, 40)).astype(np.float32)
    margin[1, 2, 5] = np.nan
    margin[:, :, 7] = np.nan
    with warnings.catch_warnings(action="ignore"):  # row 7 has none
        aum = np.nanmean(np.nanmean(margin, axis=1), axis=0)
    values = np.arange(40.0)
    given = scored(values, dynamics=Dynamics(margin, margin, margin, margin, margin))
    got = Stratified()(given, Budget("rows", 20), cut=10, strata=4, cut_by="aum")
    lowest = set(np.argsort(np.where(np.isnan(aum), np.inf, aum))[:10].tolist())
    assert {i for i in range(40) if why(got, i) == "cut-hardest"} == lowest
    assert why(got, 7) == "no-dynamics" and got.counts()["no-dynamics"] == 1
    left = np.array(sorted(set(range(40)) - lowest - {7}), dtype=float)
    stratum = np.minimum(((left - left.min()) / np.ptp(left) * 4).astype(int), 3)
    sizes = np.bincount(stratum, minlength=4).tolist()
    kept_N = np.isin(left, kept(got))
    assert np.bincount(stratum[kept_N], minlength=4).tolist() == allotment(sizes, 20)
    by_score = Stratified()(given, Budget("rows", 20), cut=10, strata=4)
    assert {i for i in range(40) if why(by_score, i) == "cut-top"} == set(range(30, 40))


def test_equal_aums_are_cut_by_id_and_the_score_s_direction_plays_no_part():
    flat = np.zeros((1, 2, 12), dtype=np.float32)
    for higher in ("keep", "drop"):
        given = scored(np.arange(12.0), higher, dynamics=Dynamics(flat, flat, flat, flat, flat))
        got = Stratified()(given, Budget("rows", 6), cut=4, cut_by="aum")
        first = sorted(range(12), key=lambda i: given["ids"][i])[:4]
        assert {i for i in range(12) if why(got, i) == "cut-hardest"} == set(first)


def test_constant_scores_are_a_uniform_sample():
    seen = np.zeros(12)
    for seed in range(400):
        seen[kept(Stratified()(scored(np.ones(12)), Budget("rows", 3), cut=0, seed=seed))] += 1
    assert np.abs(seen - 100).max() < 4.5 * np.sqrt(400 * 0.25 * 0.75)


def test_rows_of_a_stratum_are_equally_likely_and_another_seed_draws_others():
    values = np.array([0.0] * 6 + [1.0] * 30)
    seen = np.zeros(36)
    for seed in range(300):
        seen[kept(Stratified()(scored(values), Budget("rows", 6), cut=0, seed=seed))] += 1
    assert np.abs(seen[:6] - 150).max() < 45 and np.abs(seen[6:] - 30).max() < 25


def test_tokens_are_spent_stratum_by_stratum():
    values = np.array([0.0] * 6 + [1.0] * 30)
    got = Stratified()(scored(values, tokens_N=np.full(36, 2)), Budget("tokens", 17), cut=0)
    assert np.bincount(values[kept(got)].astype(int)).tolist() == [4, 4]


def test_wrong_requests():
    with pytest.raises(RequestError, match="strata=0"):
        Stratified()(scored(np.arange(5.0)), Budget("rows", 2), strata=0)
    with pytest.raises(RequestError, match="cut_by='loss'"):
        Stratified()(scored(np.arange(5.0)), Budget("rows", 2), cut_by="loss")
    with pytest.raises(RequestError, match=r"cut=-0\.1"):
        Stratified()(scored(np.arange(5.0)), Budget("rows", 2), cut=-0.1)
