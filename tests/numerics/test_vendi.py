"""The effective number of different rows."""

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.numerics.vendi import vendi_score


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0, np.inf])
def test_the_trio_of_copies_orthogonal_rows_and_two_groups(order):
    copies = np.tile([3.0, 4.0, 0.0], (7, 1)) * np.arange(1, 8)[:, None]
    assert vendi_score(copies, order) == pytest.approx(1.0)
    assert vendi_score(np.eye(9), order) == pytest.approx(9.0)
    assert vendi_score(np.repeat(np.eye(2), 3, axis=0), order) == pytest.approx(2.0)


def test_both_gram_matrices_say_the_same_as_the_definition():
    rng = np.random.default_rng(0)
    for shape in ((40, 8), (8, 40)):
        x = rng.normal(size=shape)
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        eigen = np.linalg.eigvalsh(unit @ unit.T / len(x))
        eigen = eigen[eigen > 1e-12]
        assert vendi_score(x) == pytest.approx(np.exp(-(eigen * np.log(eigen)).sum()))
        assert vendi_score(x[::-1] * 5) == pytest.approx(vendi_score(x))


def test_orders_fall():
    x = np.random.default_rng(1).normal(size=(30, 6))
    found = [vendi_score(x, q) for q in (0.5, 1.0, 2.0, np.inf)]
    assert found == sorted(found, reverse=True)
    assert vendi_score(x, 1.0001) == pytest.approx(vendi_score(x), rel=1e-3)


@pytest.mark.parametrize(("x", "order"), [(np.zeros((0, 3)), 1.0), (np.zeros((2, 3)), 1.0), (np.ones((2, 3)), 0.0)])
def test_what_has_no_score_is_one_line(x, order):
    with pytest.raises(RequestError, match="expected rows with a direction"):
        vendi_score(x, order)
