"""Every pick that reads difficulty, under every budget: order, copies, nothing eligible, noise."""

import numpy as np
import pytest
from tests.picks.ballots import kept, row_ids, trained

from dataworth.dynamics import Dynamics
from dataworth.errors import RequestError
from dataworth.picks.balanced import Balanced
from dataworth.picks.band import Band
from dataworth.picks.bottom_k import BottomK
from dataworth.picks.dual_beta import DualBeta
from dataworth.picks.stratified import Stratified
from dataworth.picks.threshold import Threshold
from dataworth.picks.window import Window
from dataworth.records import Budget
from dataworth.results import Scored

PICKS = [Balanced, Band, BottomK, DualBeta, Stratified, Threshold, Window]
BUDGETS = [Budget("rows", 1), Budget("rows", 17), Budget("fraction", 0.25), Budget("tokens", 400)]


def pool(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "ids": row_ids(n),
        "score:x": Scored(rng.normal(size=n).round(1)),
        "higher": "keep",
        "eligible_N": np.ones(n, dtype=bool),
        "excluded": {},
        "tokens_N": rng.integers(5, 50, size=n),
        "labels": rng.integers(0, 3, size=n),
        "dynamics": trained(rng.uniform(size=(12, n))),
    }


def shuffled(inputs, order):
    rows = {k: inputs[k][order] for k in ("eligible_N", "tokens_N", "labels")}
    p_SEN = inputs["dynamics"].p_SEN[:, :, order]
    ids = [inputs["ids"][i] for i in order]
    score = Scored(inputs["score:x"].values_N[order], inputs["score:x"].unscored)
    return {**inputs, **rows, "ids": ids, "score:x": score, "dynamics": Dynamics(p_SEN, p_SEN, p_SEN, p_SEN, p_SEN)}


@pytest.mark.parametrize("pick", PICKS, ids=lambda p: p.name)
class TestAnyBudget:
    @pytest.mark.parametrize("budget", BUDGETS, ids=str)
    def test_row_order_plays_no_part_and_the_budget_holds(self, pick, budget):
        inputs = pool(60)
        order = np.random.default_rng(2).permutation(60)
        one, two = pick()(inputs, budget, seed=3), pick()(shuffled(inputs, order), budget, seed=3)
        assert set(one.ids) == set(two.ids) and one.ids and one.counts() == two.counts()
        assert one.boundary == two.boundary and sum(one.counts().values()) == 60
        if budget.unit == "tokens":
            assert inputs["tokens_N"][kept(one)].sum() <= 400
        else:
            assert len(one.ids) == budget.rows(60)
        assert all(c.startswith("kept") == t.startswith("kept") for c, t in one.reason_texts.items())

    def test_all_none_one_and_nothing_eligible(self, pick):
        for k in (60, 61, 600):
            got = pick()(pool(60), Budget("rows", k))
            assert len(got.ids) == 60 and bool(got.notes) == (k > 60)
        with pytest.raises(RequestError, match="keeps nothing"):
            pick()(pool(60), Budget("rows", 0))
        assert len(pick()(pool(1), Budget("fraction", 0.01)).ids) == 1
        for budget in (Budget("rows", 2), Budget("tokens", 100)):
            got = pick()({**pool(4), "eligible_N": np.zeros(4, dtype=bool)}, budget)
            assert not got.ids and got.notes

    def test_tokens_need_counts(self, pick):
        inputs = {k: v for k, v in pool(20).items() if k != "tokens_N"}
        with pytest.raises(RequestError, match="needs token counts"):
            pick()(inputs, Budget("tokens", 50))

    def test_unscored_and_excluded_rows_are_never_kept(self, pick):
        inputs = pool(30)
        values = inputs["score:x"].values_N.copy()
        values[:5] = np.nan
        inputs["score:x"] = Scored(values, {inputs["ids"][i]: "spoiled" for i in range(5)})
        inputs["excluded"] = {inputs["ids"][9]: ("near-goal", "x")}
        inputs["eligible_N"][12] = False
        got = pick()(inputs, Budget("rows", 30))
        assert kept(got) == [i for i in range(30) if i not in {*range(5), 9, 12}] and got.notes

    def test_copies_and_constant_scores(self, pick):
        inputs = {**pool(60), "score:x": Scored(np.ones(60)), "labels": np.zeros(60, dtype=int)}
        inputs["ids"] = [i if k == 0 else f"{i}#{k}" for k in range(10) for i in row_ids(6)]
        got = pick()(inputs, Budget("rows", 9))
        back = pick()(shuffled(inputs, np.arange(60)[::-1]), Budget("rows", 9))
        assert len(set(got.ids)) == 9 and set(got.ids) == set(back.ids)


def test_a_fifth_of_wrong_labels_at_the_hard_end_does_not_take_over():
    """Picks that pass over the hardest keep fewer of them than their share; top-k would keep nothing else."""
    rng = np.random.default_rng(0)
    values = rng.uniform(size=500)
    values[:100] = rng.uniform(1.0, 1.2, size=100)
    inputs = {**pool(500), "score:x": Scored(values)}
    for pick, options in ((Window, {"offset": 0.2}), (Stratified, {"cut": 0.2}), (Band, {}), (BottomK, {})):
        chosen = np.array(kept(pick()(inputs, Budget("rows", 100), **options)))
        assert (chosen < 100).mean() < 0.2, pick.name
