from dataclasses import fields
from functools import partial
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
from scipy import stats
from tests.scores.made_training import dynamics, inputs, row_ids

from dataworth.dynamics import Dynamics
from dataworth.scores.aum import AUM
from dataworth.scores.cartography import Cartography, Measure
from dataworth.scores.dual import DUAL
from dataworth.scores.el2n import EL2N
from dataworth.scores.forgetting import Forgetting
from dataworth.scores.nets import agreement, scored_by_nets


def test_agreement_is_the_mean_of_all_pairs():
    rng = np.random.default_rng(0)
    nets = rng.normal(size=200) + rng.normal(size=(4, 200))
    expected = np.mean([stats.spearmanr(a, b).statistic for a, b in combinations(nets, 2)])
    assert agreement(list(nets)) == pytest.approx(expected)
    holed = np.column_stack([nets, [np.nan, 1, 2, 3]])
    assert agreement(list(holed)) == pytest.approx(expected)


def test_agreement_of_constants_or_of_two_rows_says_nothing():
    assert agreement([np.ones(5), np.arange(5.0)]) is None
    assert agreement([np.arange(2.0), np.arange(2.0)]) is None


def test_notes_say_how_far_nets_agree():
    base, noise = np.arange(300.0), np.random.default_rng(0).normal(size=(2, 300))
    given = {"ids": row_ids(300)}
    close = scored_by_nets("x", list(base + noise), given, "none")
    assert close.notes == ("x: 2 nets agree with a mean rank correlation of 1.00",)
    apart = scored_by_nets("x", list(noise), given, "none")
    assert len(apart.notes) == 1 and apart.notes[0].endswith("mostly the seed's (below 0.5): train more")
    assert "one net alone" in scored_by_nets("x", [base], given, "none").notes[0]
    assert not scored_by_nets("x", [np.ones(300)] * 2, given, "none").notes


SCORES = [EL2N(), AUM(), DUAL(), Forgetting(), *(partial(Cartography(), measure=m) for m in get_args(Measure))]


@pytest.mark.parametrize("score", SCORES, ids=range(len(SCORES)))
def test_every_score_of_trainings_says_how_far_its_nets_agree(score):
    found, _ = dynamics(50)
    assert "3 nets agree with a mean rank correlation of" in score(inputs(found)).notes[0]
    one = Dynamics(*(getattr(found, f.name)[:1] for f in fields(found)))
    assert "one net alone" in score(inputs(one)).notes[0]
