"""What a pilot came to, from its trial's rows."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from dataworth.diagnosing.pilots import Runner
from dataworth.proving.trials import Training
from dataworth.recipe import Recipe

ROWS = 32


def runner(bare_q, value_q, bare=True) -> Runner:
    """One whose untouched learner and whose pilot came to these losses of probed rows, equally weighted."""
    untouched, place_q, weight_q = Training((), (), Recipe()), np.arange(ROWS), np.ones(ROWS)

    def costs(trainings):
        return {t: (np.array([1.0, 1.0]), 0) for t in trainings if bare or t != untouched}

    def values(training):
        return [(place_q, bare_q if training == untouched else value_q, weight_q)]

    found = Runner.__new__(Runner)
    found.untouched = untouched
    found.judges = SimpleNamespace(
        stop=(0,), probed=SimpleNamespace(rows=[SimpleNamespace(id=str(q)) for q in place_q])
    )
    found.trials = SimpleNamespace(costs=costs, values=values, sign_J=np.array([1.0, 1.0]))
    return found


def test_rows_that_a_chain_drew_by_chance_are_no_part_of_what_training_did():
    rng = np.random.default_rng(0)
    bare_q = rng.normal(2.4, 0.4, ROWS)
    trained = Training(tuple(map(str, range(8))), (), Recipe(seed=1))
    assert abs(bare_q[:8].mean() - bare_q[8:].mean()) > 0.1, "rows that are harder than others"
    gained = runner(bare_q, 0.9 * bare_q)._point(trained, False, 0, 8, 2)
    assert gained.train == pytest.approx(gained.fresh) == pytest.approx(0.9 * bare_q.mean())
    learnt_q = np.where(np.arange(ROWS) < 8, 0.01, 0.95) * bare_q
    found = runner(bare_q, learnt_q)._point(trained, False, 0, 8, 2)
    assert (found.train, found.fresh) == pytest.approx((0.01 * bare_q.mean(), 0.95 * bare_q.mean()))


def test_without_an_untouched_learner_losses_are_plain_means():
    value_q = np.linspace(1.0, 2.0, ROWS)
    trained = Training(tuple(map(str, range(8))), (), Recipe(seed=1))
    found = runner(value_q, value_q, bare=False)._point(trained, False, 0, 8, 2)
    assert (found.train, found.fresh) == pytest.approx((value_q[:8].mean(), value_q[8:].mean()))
