from decimal import Decimal

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.scores.column import Column, number, read_column


def score(values, **options):
    ids = [f"{i:032x}" for i in range(len(values))]
    rows = ({"text": "x", "quality": v} for v in values)
    return Column("quality")({"ids": ids, "column:quality": read_column("quality", ids, rows)}, **options)


def test_declares_the_column_it_needs():
    assert Column("a:b").name == "column:a:b" and Column("a:b").needs == {"column:a:b"}


def test_numbers_truth_and_text_that_is_a_number_count():
    got = score([3, 2.5, True, False, "4", " -1e2 ", Decimal("0.1"), np.float32(0.5), 10**300])
    np.testing.assert_allclose(got.values_N, [3, 2.5, 1, 0, 4, -100, 0.1, 0.5, 1e300])
    assert not got.unscored


def test_everything_else_is_listed_with_what_it_is():
    got = score([1, None, "", "good", [1], float("nan"), "inf", "1_000", 10**400, Decimal("sNaN"), "y" * 99])
    reasons = list(got.unscored.values())
    assert len(reasons) == 10 and list(np.flatnonzero(np.isnan(got.values_N))) == list(range(1, 11))
    assert reasons[:2] == ["its 'quality' is empty"] * 2
    assert reasons[2] == "its 'quality' is 'good', which is no number"
    assert reasons[4] == "its 'quality' is nan, which is not finite"
    assert all(len(r) < 90 for r in reasons)


def test_low_prefers_low_numbers():
    low = score([3, 1], direction="low")
    assert (low.values_N.tolist(), low.higher) == ([3, 1], "drop")
    assert np.argmax(score([3, 1]).values_N) == 0
    with pytest.raises(RequestError, match="correct --option direction"):
        score([3, 1], direction="up")


def test_rows_without_the_column_are_listed():
    ids = ["a", "b"]
    got = read_column("quality", ids, iter([{"text": "x"}, {"quality": 2}]))
    assert got.unscored == {"a": "its 'quality' is empty"} and got.values_N[1] == 2


def test_a_column_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(RequestError, match="did you mean 'quality'"):
        read_column("qualty", ["a"], [{"quality": 2, "text": "x"}])
    with pytest.raises(RequestError, match="the columns are: quality, text"):
        read_column("zzz", ["a"], [{"quality": 2, "text": "x"}])


def test_a_column_without_any_number_is_refused():
    with pytest.raises(RequestError, match="no number in any row"):
        read_column("text", ["a"], [{"text": "x"}])


def test_no_rows_and_no_name():
    assert read_column("quality", [], []).values_N.shape == (0,)
    with pytest.raises(RequestError, match="column:NAME"):
        Column()


def test_two_columns_keep_their_own_reasons():
    ids, rows = ["a", "b"], [{"p": 1, "q": "x"}, {"p": "y", "q": 2}]
    inputs = {"ids": ids, **{f"column:{c}": read_column(c, ids, rows) for c in "pq"}}
    assert Column("p")(inputs).unscored == {"b": "its 'p' is 'y', which is no number"}
    assert Column("q")(inputs).unscored == {"a": "its 'q' is 'x', which is no number"}


def test_true_is_one():
    assert number(True) == 1 and number("true") == "is 'true', which is no number"
