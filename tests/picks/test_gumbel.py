import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.picks.gumbel import Gumbel
from dataworth.records import Budget
from dataworth.results import Scored


def case(values, **more):
    values = np.array(values, dtype=float)
    ids = [f"{i:032x}" for i in range(len(values))]
    return {"ids": ids, "score:dsir": Scored(values, {ids[i]: "why" for i in np.flatnonzero(np.isnan(values))}), **more}


def drawn(inputs, k, draws=2000, **options):
    """How often each row is kept."""
    kept = [Gumbel()(inputs, Budget("rows", k), seed=s, **options).kept_N for s in range(draws)]
    return np.mean(kept, axis=0)


def test_one_row_is_drawn_in_proportion_to_the_exponential_of_its_score():
    share = np.array([0.5, *[0.01] * 50])
    kept = drawn(case(np.log(share) + 7), 1)
    assert kept[0] == pytest.approx(0.5, abs=0.04)  # noise of the other sign would keep it more often
    assert kept[1:].mean() == pytest.approx(0.01, abs=0.001)


def test_two_rows_are_drawn_without_replacement():
    a, b, c = 0.6, 0.3, 0.1
    first_or_second = a + b * a / (a + c) + c * a / (a + b)
    assert drawn(case(np.log([a, b, c])), 2)[0] == pytest.approx(first_or_second, abs=0.03)


def test_temperature_flattens_and_sharpens():
    scores = np.log([0.6, 0.3, 0.1])
    half = np.sqrt([0.6, 0.3, 0.1])
    np.testing.assert_allclose(drawn(case(scores), 1, temperature=2.0), half / half.sum(), atol=0.04)
    assert drawn(case(scores), 1, draws=50, temperature=1e-3)[0] == 1


def test_lower_is_better_where_the_score_says_so():
    assert drawn(case([0.0, 9.0], higher="drop"), 1, draws=50)[0] > 0.9


def test_reasons_and_unscored_rows():
    got = Gumbel()(case([1.0, np.nan, 2.0, 3.0]), Budget("rows", 2), seed=0)
    assert got.counts() == {"unscored": 1, "kept-drawn": 2, "not-drawn": 1}
    assert got.reason_texts["kept-drawn"].startswith("kept: drawn at random")


def test_rows_keep_their_noise_when_the_pool_grows():
    small, large = case(np.zeros(50)), case(np.zeros(80))
    a = Gumbel()(small, Budget("rows", 10), seed=3)
    b = Gumbel()(large, Budget("rows", 10), seed=3)
    assert set(b.ids) & set(small["ids"]) <= set(a.ids)


def test_a_wrong_temperature_is_refused():
    with pytest.raises(RequestError, match="correct --option temperature"):
        Gumbel()(case([1.0]), Budget("rows", 1), temperature=0)
