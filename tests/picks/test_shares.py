import numpy as np
import pytest
from tests.picks.ballots import row_ids

from dataworth.picks.shares import kept_share, passed_over, rows_of
from dataworth.records import Budget


def test_one_is_a_row_and_less_a_share():
    assert [rows_of("cut", a, 40) for a in (0, 0.1, 0.99, 1, 7.0, 100)] == [0, 4, 39, 1, 7, 100]


def test_what_is_passed_over_leaves_the_budget_its_rows():
    ranking, inputs = np.arange(10), {"ids": row_ids(10)}
    assert [passed_over("cut", 4, ranking, Budget("rows", k), inputs) for k in (3, 6, 8, 12)] == [4, 4, 2, 0]


def test_kept_shares_of_rows_and_tokens():
    inputs = {"ids": row_ids(10), "tokens_N": np.arange(10)}
    ranking = np.arange(5)
    assert kept_share(Budget("rows", 2), ranking, inputs) == pytest.approx(0.4)
    assert kept_share(Budget("fraction", 0.9), ranking, inputs) == 1
    assert kept_share(Budget("tokens", 4), ranking, inputs) == pytest.approx(0.4)
