"""Which pilots a budget pays for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dataworth.diagnosing.design import Design, Prices, epochs_to_try, halvings, planned, seconds_of
from dataworth.errors import RequestError

BY_ROWS = Prices(1.0, 0.01, 2.0)


def test_sizes_are_halvings_and_the_largest_is_the_whole_pool_where_nothing_limits():
    assert halvings(1000) == (62, 125, 250, 500, 1000)
    found = planned(1400, 2)
    assert found.sizes == (88, 175, 350, 700, 1400) and found.seconds is None
    assert found.larger == (350, 1400)


def test_smaller_sizes_try_as_many_steps_as_the_largest_and_the_recipe_s_epochs_always():
    assert epochs_to_try((62, 125, 250, 500, 1000), 2) == (
        (1, 2, 4, 8, 16, 32, 64),
        (1, 2, 4, 8, 16, 32),
        (1, 2, 4, 8, 16),
        (1, 2, 4, 8),
        (1, 2, 4),
    )
    assert epochs_to_try((100, 200), 3) == ((1, 3, 6, 12), (1, 3, 6))
    assert epochs_to_try((100, 200), 1) == ((1, 2, 4), (1, 2)), "one epoch alone can't be told from too few"
    assert epochs_to_try((100, 1600), 15) == ((7, 15, 30, 60, 120, 240, 480), (7, 15, 30))
    assert epochs_to_try((100, 1600), 15, 0) == ((7, 15), (7, 15))


def test_a_price_is_the_sum_of_what_is_trained_at_most_and_on_more_workers_of_its_waves():
    design = Design((100, 200), 3, ((1, 2), (1,)), (200,))
    first = (1 + 1.0) + (1 + 2.0) + (1 + 2.0)
    others = 2 * ((1 + 2.0) + (1 + 2.0))
    larger = 3 * 2 * (1 + 2.0)  # its own search is of one number of epochs here
    assert seconds_of(design, BY_ROWS, 1, 900) == pytest.approx(first + others + larger)
    # Waves of the first chain (2 | 3, then 3), the others (3, 3 | 3, 3), the larger learner (6, then 6 | 6).
    assert seconds_of(design, BY_ROWS, 2, 900) == pytest.approx(3 + 3 + 6 + 6 + 6)
    assert seconds_of(design, BY_ROWS, 1000, 900) == pytest.approx(3 + 3 + 3 + 6 + 6)
    cached = replace(BY_ROWS, state=0.1, once=7.0)
    for workers, rows, made in ((1, 900, 600), (1, 450, 450), (2, 900, 400), (2, 300, 300)):
        assert seconds_of(design, cached, workers, rows) == pytest.approx(
            seconds_of(design, BY_ROWS, workers, rows) + 7 + made * 0.1
        )


def test_the_budget_decides_the_largest_size():
    found = {b: planned(59_000, 1, price=BY_ROWS, budget=b, workers=2) for b in (60.0, 300.0, 3000.0)}
    tops = [found[b].sizes[-1] for b in found]
    assert tops == sorted(tops) and tops[0] < tops[-1]
    for budget, design in found.items():
        assert design.seconds is not None and design.seconds <= budget
        larger = planned(59_000, 1, price=BY_ROWS, sizes=halvings(2 * design.sizes[-1]), workers=2)
        assert larger.seconds is not None and larger.seconds > budget


def test_sizes_of_one_s_own_are_priced_and_kept():
    found = planned(59_000, 1, sizes=(1000, 125, 250, 500), price=BY_ROWS, budget=1.0)
    assert found.sizes == (125, 250, 500, 1000) and found.larger == (250, 1000)
    assert found.seconds is not None and found.seconds > 1.0
    assert found.epochs == ((1,), (1,), (1,), (1,))  # the fewest, as they don't fit


def test_sizes_of_one_s_own_try_the_most_epochs_that_fit():
    sizes = (62, 125, 250, 500, 1000)
    whole = planned(59_000, 2, sizes=sizes, price=BY_ROWS)
    assert whole.epochs == epochs_to_try(sizes, 2)
    for doublings in range(4):
        tried = epochs_to_try(sizes, 2, doublings)
        assert max(map(max, tried)) == 2 * 2**doublings
        cut = planned(59_000, 2, sizes=sizes, price=BY_ROWS, workers=2)
        assert cut.seconds is not None
        fits = seconds_of(Design(sizes, 3, tried, whole.larger), BY_ROWS, 2, 59_000)
        assert fits < cut.seconds
        found = planned(59_000, 2, sizes=sizes, price=BY_ROWS, budget=fits + 1e-9, workers=2)
        assert found.epochs == tried and found.seconds == pytest.approx(fits)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rows": 40, "epochs": 1}, "expected at least 64"),
        ({"rows": 400, "epochs": 1, "chains": 1}, "expected at least 2"),
        ({"rows": 400, "epochs": 1, "price": BY_ROWS, "budget": 2.0}, "takes at most .* expected at least that"),
    ],
)
def test_what_gives_no_curve_is_refused(given, said):
    with pytest.raises(RequestError, match=said):
        planned(given.pop("rows"), given.pop("epochs"), **given)


def test_it_says_itself():
    told = str(planned(1000, 2, price=BY_ROWS, budget=1e6, workers=1))
    assert told.startswith(
        "pilots on 62, 125, 250, 500, 1,000 rows in 3 nested chains (epochs tried: 62: 1, 2, 4, 8, 16, 32, 64;"
    )
    assert "a larger learner at 250, 1,000" in told and "at most" in told
    assert "nothing was timed" in planned(1000, 2).explain()
