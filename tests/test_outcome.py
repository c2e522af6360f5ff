"""What a judge says: one number per trial, and rules an outcome has to keep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataworth.errors import NonsenseRefused
from dataworth.outcome import Outcome


def outcome(values, weights=None, ids=None, unjudged=None, **more) -> Outcome:
    values = np.array(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.array(weights, dtype=np.float64)
    return Outcome(
        "loss",
        "nats/token",
        "worse",
        ids or tuple(map(str, range(len(values)))),
        values,
        weights,
        unjudged or {},
        **more,
    )


def test_the_mean_weighs_rows_by_their_tokens() -> None:
    assert outcome([1, 3]).mean == 2
    assert outcome([1, 3], [9, 1]).mean == pytest.approx(1.2)


@given(st.lists(st.tuples(st.floats(-10, 10), st.integers(1, 99)), min_size=1, max_size=20))
def test_the_mean_is_that_of_rows_counted_as_often_as_they_weigh(rows) -> None:
    values, weights = zip(*rows, strict=True)
    repeated = np.repeat(values, weights)
    assert outcome(values, weights).mean == pytest.approx(repeated.mean(), abs=1e-9)
    assert outcome(values[::-1], weights[::-1]).mean == pytest.approx(outcome(values, weights).mean, abs=1e-9)


def test_it_says_itself_and_loses_no_row() -> None:
    found = outcome([0.5], unjudged={"x": "too long", "y": "empty", "z": "empty"}, counts={"ties": 1, "windows": 0})
    text = found.explain()
    assert text.splitlines()[0] == "loss: 0.5000 nats/token over 1 rows (worse if higher, 1 ties)"
    assert text.splitlines()[1].split() == ["2", "not", "judged:", "empty"]
    assert found.to_dict() == {
        "judge": "loss",
        "mean": 0.5,
        "unit": "nats/token",
        "higher": "worse",
        "rows": 1,
        "weight": 1.0,
        "unjudged": {"too long": 1, "empty": 2},
        "counts": {"ties": 1, "windows": 0},
    }


def test_an_outcome_without_a_row_is_refused() -> None:
    with pytest.raises(NonsenseRefused, match="judge loss: no row could be judged; give it rows of its kind"):
        outcome([])
    with pytest.raises(NonsenseRefused, match="the first of 1: empty"):
        outcome([], unjudged={"x": "empty"})


@pytest.mark.parametrize(
    "fields",
    [
        {"values": [1, 2], "ids": ("a",)},
        {"values": [1, 2], "weights": [1]},
        {"values": [1, 2], "ids": ("a", "a")},
        {"values": [1], "ids": ("a",), "unjudged": {"a": "why"}},
        {"values": [np.nan]},
        {"values": [np.inf]},
        {"values": [1], "weights": [0]},
        {"values": [1], "weights": [np.inf]},
    ],
)
def test_contradictions_are_bugs(fields) -> None:
    with pytest.raises(ValueError, match=r"ids|twice|finite"):
        outcome(**fields)
