import numpy as np
import pytest
from tests.picks.ballots import kept, scored

from dataworth.errors import RequestError
from dataworth.picks.balanced import Balanced
from dataworth.records import Budget


def pool(sizes, seed=0, **more):
    """Classes of these sizes, the later the better scored."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    values = labels + np.random.default_rng(seed).uniform(size=len(labels))
    return scored(values, labels=labels, **more), labels, values


def test_every_class_keeps_the_floor_of_its_own_size():
    """The code of CCS and DUAL takes the last class's count for every class."""
    inputs, labels, values = pool([60, 30, 10])
    chosen = kept(Balanced()(inputs, Budget("rows", 40)))
    counts = np.bincount(labels[chosen])
    assert counts.tolist() == [12, 18, 10]  # floors 12, 6, 2; the other 20 go by score: 8 of class 2, 12 of class 1
    for label, floor in ((0, 12), (1, 6), (2, 2)):
        of_class = np.flatnonzero(labels == label)
        best = of_class[np.argsort(-values[of_class])[:floor]]
        assert set(best) <= set(chosen)


@pytest.mark.parametrize("k", [1, 7, 33, 64, 99, 100])
def test_the_floor_holds_for_any_budget_and_the_rest_is_by_score(k):
    inputs, labels, values = pool([47, 3, 29, 21], seed=k)
    chosen = kept(Balanced()(inputs, Budget("rows", k)))
    assert len(chosen) == k
    floors = np.floor(0.5 * k / 100 * np.bincount(labels) + 1e-9)
    assert (np.bincount(labels[chosen], minlength=4) >= floors).all()
    out = np.setdiff1d(np.arange(100), chosen)
    beyond = [i for i in chosen if (values[np.flatnonzero(labels == labels[i])] > values[i]).sum() >= floors[labels[i]]]
    if beyond and len(out):
        assert min(values[beyond]) > max(values[out])


def test_shares_of_zero_and_one():
    inputs, labels, values = pool([60, 30, 10])
    assert set(kept(Balanced()(inputs, Budget("rows", 40), share=0.0))) == set(np.argsort(-values)[:40])
    assert np.bincount(labels[kept(Balanced()(inputs, Budget("rows", 40), share=1.0))]).tolist() == [24, 12, 4]
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(RequestError, match="expected 0 to 1"):
            Balanced()(inputs, Budget("rows", 40), share=share)


def test_only_eligible_rows_count_and_rows_without_a_label_have_no_floor():
    inputs, labels, values = pool([50, 50])
    inputs["eligible_N"] = ~((labels == 0) & (values < 0.5))
    left = np.bincount(labels[inputs["eligible_N"]])
    chosen = kept(Balanced()(inputs, Budget("rows", 30)))
    assert np.bincount(labels[chosen])[0] == int(0.5 * 30 / left.sum() * left[0])
    inputs["labels"] = np.where(labels == 0, -1, labels)
    assert not (labels[kept(Balanced()(inputs, Budget("rows", 30)))] == 0).any()


def test_tokens_pay_for_the_floors_first():
    inputs, labels, _ = pool([60, 30, 10], tokens_N=np.full(100, 7))
    got = Balanced()(inputs, Budget("tokens", 7 * 40 + 3))
    assert np.bincount(labels[kept(got)]).tolist() == [12, 18, 10]
