"""bottom_k, window, band and threshold."""

import numpy as np
import pytest
from tests.picks.ballots import kept, row_ids, scored, why

from dataworth.errors import RequestError
from dataworth.picks.band import Band
from dataworth.picks.bottom_k import BottomK
from dataworth.picks.threshold import Threshold
from dataworth.picks.top_k import TopK
from dataworth.picks.window import Window
from dataworth.records import Budget
from dataworth.scores.moderate import Moderate


def test_bottom_k_keeps_the_other_end_and_ties_on_id():
    got = BottomK()(scored([5, 1, 4, 2, 3]), Budget("rows", 2))
    assert kept(got) == [1, 3]
    assert got.boundary == {"last_kept": 2, "first_dropped": 3} and why(got, 0) == "above-cut"
    dropped = BottomK()(scored([5, 1, 4, 2, 3], "drop"), Budget("rows", 2))
    assert kept(dropped) == [0, 2] and dropped.boundary == {"last_kept": 4, "first_dropped": 3}
    tied = BottomK()(scored(np.zeros(6)), Budget("rows", 2))
    assert set(tied.ids) == set(sorted(row_ids(6))[:2])
    assert BottomK()(scored([1, 2]), Budget("rows", 2)).boundary == {"last_kept": 2}


def test_bottom_k_takes_the_longest_run_of_easy_rows_that_tokens_pay_for():
    got = BottomK()(scored([1, 2, 3, 4], tokens_N=np.array([5, 4, 9, 1])), Budget("tokens", 12))
    assert kept(got) == [0, 1] and why(got, 2) == "over-budget"


def test_a_window_begins_at_its_offset():
    values = np.arange(20.0)[::-1]
    assert kept(Window()(scored(values), Budget("rows", 5), offset=3)) == [3, 4, 5, 6, 7]
    assert kept(Window()(scored(values), Budget("rows", 5), offset=0.25)) == [5, 6, 7, 8, 9]
    assert kept(Window()(scored(values), Budget("rows", 5))) == [1, 2, 3, 4, 5]
    got = Window()(scored(values), Budget("rows", 5), offset=3)
    assert [why(got, i) for i in (0, 3, 8)] == ["above-window", "kept-window", "below-cut"]


def test_a_window_drops_planted_wrong_labels():
    values = np.random.default_rng(0).uniform(size=200)
    values[:10] = 5
    got = Window()(scored(values), Budget("rows", 100), offset=0.1)
    assert not set(kept(got)) & set(range(10)) and len(got.ids) == 100


def test_a_window_moves_up_rather_than_coming_out_short():
    assert kept(Window()(scored(np.arange(10.0)), Budget("rows", 9), offset=5)) == list(range(9))
    with_all = Window()(scored(np.arange(10.0)), Budget("rows", 10), offset=5)
    assert len(with_all.ids) == 10 and not with_all.notes
    tokens = {"tokens_N": np.full(10, 3)}
    assert kept(Window()(scored(np.arange(10.0), **tokens), Budget("tokens", 6), offset=4)) == [4, 5]
    with pytest.raises(RequestError, match="passes over all 10"):
        Window()(scored(np.arange(10.0), **tokens), Budget("tokens", 6), offset=10)
    for offset in (-1, float("nan"), float("inf")):
        with pytest.raises(RequestError, match="offset="):
            Window()(scored(np.arange(10.0)), Budget("rows", 2), offset=offset)


def test_a_band_is_the_middle():
    assert kept(Band()(scored(np.arange(10.0)), Budget("fraction", 0.4))) == [3, 4, 5, 6]
    got = Band()(scored(np.arange(10.0)), Budget("rows", 3))
    assert kept(got) == [4, 5, 6] and got.boundary == {"best_kept": 6, "worst_kept": 4}
    assert [why(got, i) for i in (9, 7, 3, 0)] == ["above-band", "above-band", "below-band", "below-band"]
    dropped = Band()(scored(np.arange(10.0), "drop"), Budget("rows", 3))
    assert kept(dropped) == [3, 4, 5] and dropped.boundary == {"best_kept": 3, "worst_kept": 5}
    for n in range(1, 12):
        for k in range(1, n + 1):
            start = (n - k) // 2
            assert kept(Band()(scored(-np.arange(n)), Budget("rows", k))) == list(range(start, start + k))


def test_a_band_of_tokens_grows_from_the_middle():
    got = Band()(scored(-np.arange(9.0), tokens_N=np.full(9, 2)), Budget("tokens", 7))
    assert kept(got) == [3, 4, 5] and why(got, 2) == "over-budget"


def test_moderate_s_middle_is_taken_over_all_classes():
    vectors = np.concatenate([[0.0], np.arange(10.0)])[:, None] * [[1.0, 0.0]]
    inputs = {"ids": row_ids(11), "vectors": vectors, "labels": np.array([1] + [0] * 10)}
    distances = Moderate()(inputs)
    assert sorted(distances.values_N.tolist()) == sorted([0, *np.abs(np.arange(10) - 4.5)])
    got = Band()({"ids": inputs["ids"], "score:moderate": distances, "higher": "keep"}, Budget("rows", 3))
    assert sorted(distances.values_N[kept(got)]) == [1.5, 2.5, 2.5]


def test_thresholds_are_in_the_score_s_own_unit():
    for higher, order in (("keep", [4, 3]), ("drop", [1, 2])):
        inputs = scored([0, 1, 2, 3, 4, 5], higher)
        got = Threshold()(inputs, Budget("fraction", 1.0), above=1, below=4)
        assert kept(got) == [1, 2, 3, 4] and got.boundary == {"above": 1, "below": 4}
        assert [why(got, i) for i in (0, 5)] == ["too-low", "too-high"]
        assert got.notes
        two = Threshold()(inputs, Budget("rows", 2), above=1, below=4)
        assert set(kept(two)) == set(order) and not two.notes
        assert why(two, 3 if higher == "drop" else 2) == "below-cut"


def test_without_thresholds_it_is_top_k_and_nonsense_is_refused():
    assert kept(Threshold()(scored([3, 1, 2]), Budget("rows", 2))) == [0, 2]
    with pytest.raises(RequestError, match="expected above to be the smaller"):
        Threshold()(scored([3, 1, 2]), Budget("rows", 2), above=2, below=1)
    with pytest.raises(RequestError, match="expected above to be the smaller"):
        Threshold()(scored([3, 1, 2]), Budget("rows", 2), above=float("nan"))


@pytest.mark.parametrize("higher", ["keep", "drop"])
def test_thresholds_that_no_row_is_within_are_refused_with_the_score_s_range(higher):
    inputs = scored([0.25, 1, 2, 5, np.nan], higher)
    with pytest.raises(RequestError, match=r"above=6, below=inf: .* x goes from 0.25 to 5; correct --option"):
        Threshold()(inputs, Budget("fraction", 1.0), above=6)
    with pytest.raises(RequestError, match=r"above=3, below=4: .* x goes from 0.25 to 5"):
        Threshold()(inputs, Budget("rows", 2), above=3, below=4)
    out = {**inputs, "eligible_N": np.zeros(5, dtype=bool)}
    assert not kept(Threshold()(out, Budget("rows", 2), above=6)), "here it isn't the thresholds that leave nothing"


@pytest.mark.parametrize("higher, ends", [("keep", ("easiest", "hardest")), ("drop", ("hardest", "easiest"))])
def test_reasons_say_which_end_was_kept(higher, ends):
    inputs = scored([5, 1, 4, 2, 3], higher, ends=ends)
    top, bottom = TopK()(inputs, Budget("rows", 2)), BottomK()(inputs, Budget("rows", 2))
    assert top.reason_texts["kept-top"] == "kept: among the hardest by x within the budget"
    assert top.reason_texts["below-cut"] == "dropped: past the cut, towards the easiest by x"
    assert bottom.reason_texts["kept-bottom"] == "kept: among the easiest by x within the budget"
    assert bottom.reason_texts["above-cut"] == "dropped: past the cut, towards the hardest by x"
    turned = TopK()({**inputs, "higher": {"keep": "drop", "drop": "keep"}[higher]}, Budget("rows", 2))
    assert turned.reason_texts["kept-top"] == "kept: among the easiest by x within the budget", "as --policy auto asks"


def test_reasons_of_scores_without_words_for_their_ends_say_highest_and_lowest():
    assert "highest by x" in TopK()(scored([5, 1, 4]), Budget("rows", 2)).reason_texts["kept-top"]
    assert "lowest by x" in TopK()(scored([5, 1, 4], "drop"), Budget("rows", 2)).reason_texts["kept-top"]
    assert "lowest by x" in BottomK()(scored([5, 1, 4]), Budget("rows", 2)).reason_texts["kept-bottom"]
