import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.picks.deduplicate import Deduplicate
from dataworth.records import Budget
from dataworth.results import Scored


def case(values, groups, **more):
    values = np.array(values, dtype=float)
    ids = [f"{i:032x}" for i in range(len(values))]
    unscored = {ids[i]: "why" for i in np.flatnonzero(np.isnan(values))}
    return {"ids": ids, "score:x": Scored(values, unscored), "near_duplicates": np.array(groups), **more}


def test_the_best_of_every_group_is_kept():
    got = Deduplicate()(case([5, 4, 3, 2, 1], [0, 0, 2, 2, 4]), Budget("rows", 2))
    assert np.flatnonzero(got.kept_N).tolist() == [0, 2]
    assert got.counts() == {"kept-top": 2, "below-cut": 1, "near-copy": 2}
    assert got.boundary == {"last_kept": 3, "first_dropped": 1}


def test_the_lowest_of_every_group_where_lower_is_better():
    got = Deduplicate()(case([5, 4, 3, 2], [0, 0, 2, 2], higher="drop"), Budget("rows", 1))
    assert np.flatnonzero(got.kept_N).tolist() == [3]
    assert got.boundary == {"last_kept": 2, "first_dropped": 4}


def test_near_copies_do_not_fill_the_budget():
    got = Deduplicate()(case([5, 4, 3], [0, 0, 2]), Budget("rows", 3))
    assert np.flatnonzero(got.kept_N).tolist() == [0, 2]
    assert "only 2 of the 3" in got.notes[0] and "1 near-copies" in got.notes[1]


def test_an_excluded_row_does_not_stand_for_its_group():
    got = Deduplicate()(case([5, np.nan, 3], [0, 0, 0], excluded={f"{0:032x}": ("near-goal", "")}), Budget("rows", 1))
    assert np.flatnonzero(got.kept_N).tolist() == [2]
    assert got.counts() == {"kept-top": 1, "unscored": 1, "near-goal": 1}


def test_equal_scores_go_by_id():
    got = Deduplicate()(case([1, 1, 1], [7, 7, 7]), Budget("rows", 1))
    assert got.ids == (f"{0:032x}",)


def test_a_token_budget_is_a_prefix_of_the_distinct_rows():
    got = Deduplicate()(case([5, 4, 3, 2], [0, 0, 2, 3], tokens_N=np.array([10, 10, 10, 30])), Budget("tokens", 25))
    assert np.flatnonzero(got.kept_N).tolist() == [0, 2]
    assert got.counts() == {"kept-top": 2, "over-budget": 1, "near-copy": 1}


def test_groups_of_another_pool_are_refused():
    with pytest.raises(RequestError, match="one group each"):
        Deduplicate()(case([1, 2], [0]), Budget("rows", 1))
