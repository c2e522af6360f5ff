import numpy as np
import pytest
from tests.picks.ballots import kept, row_ids, scored, trained, why

from dataworth.errors import RequestError
from dataworth.picks.dual_beta import DualBeta, beta_parameters
from dataworth.records import Budget
from dataworth.results import Scored
from dataworth.scores.dual import DUAL


def test_high_prune_rates_move_the_density_to_easy_rows():
    means = [beta_parameters(0.25, r)[0] / 16 for r in (0.3, 0.5, 0.7, 0.9)]
    np.testing.assert_allclose(means, [0.303, 0.341, 0.466, 0.758], atol=5e-4)
    assert sum(beta_parameters(0.25, 0.3)) == 16


def test_the_anchors_are_the_ten_best_scores():
    p = np.full((40, 50), 0.5)
    p[:, :10] = np.r_[np.full(15, 0.1), np.full(15, 0.4), np.ones(10)][:, None]  # 0.25 over the first 30 epochs
    values = np.r_[np.full(10, 2.0), np.ones(40)]
    got = DualBeta()(scored(values, dynamics=trained(p)), Budget("fraction", 0.3))
    assert (got.boundary["beta_a"], got.boundary["beta_b"]) == pytest.approx(beta_parameters(0.25, 0.7))


def test_draws_are_in_proportion_to_density_times_score():
    """One row of four, 3,000 times, against the chances by formula."""
    p, values = np.array([0.2, 0.35, 0.5, 0.7]), np.array([0.4, 0.1, 0.3, 0.0])
    inputs = scored(values, dynamics=trained(np.tile(p, (30, 1))))
    a, b = beta_parameters(p.mean(), 0.75)
    chance = p ** (a - 1) * (1 - p) ** (b - 1) * values
    seen = np.zeros(4)
    for seed in range(3000):
        seen[kept(DualBeta()(inputs, Budget("rows", 1), seed=seed))] += 1
    np.testing.assert_allclose(seen / 3000, chance / chance.sum(), atol=0.03)


def test_rows_that_never_move_fall_back_to_the_density():
    p = np.tile(np.linspace(0.05, 0.95, 40), (12, 1))
    dynamics = trained(p)
    flat = DUAL()({"ids": row_ids(40), "dynamics": dynamics})
    assert np.abs(flat.values_N).max() < 1e-7
    inputs = {"ids": row_ids(40), "score:dual": Scored(np.zeros(40)), "higher": "keep", "dynamics": dynamics}
    runs = [kept(DualBeta()(inputs, Budget("rows", 2), seed=seed)) for seed in range(50)]
    assert all(len(r) == 2 for r in runs)
    a, _ = beta_parameters(p[0, :10].mean(), 0.95)
    assert p[0][np.concatenate(runs)].mean() > 0.7 and a > 8


def test_certain_rows_break_nothing():
    p = np.zeros((12, 20))
    p[:, 10:] = 1.0
    for share in (0.05, 0.5, 1.0):
        got = DualBeta()(scored(np.r_[np.ones(15), np.zeros(5)], dynamics=trained(p)), Budget("fraction", share))
        assert len(got.ids) == max(1, int(20 * share))


def test_rows_without_dynamics_or_score_are_told_apart():
    p = np.full((12, 8), 0.4)
    p[:, 2] = np.nan
    values = np.arange(1.0, 9.0)
    values[5] = np.nan
    got = DualBeta()(scored(values, dynamics=trained(p)), Budget("rows", 8))
    assert (why(got, 2), why(got, 5)) == ("no-dynamics", "unscored") and len(got.ids) == 6


def test_tokens_and_wrong_requests():
    inputs = scored(np.ones(10), dynamics=trained(np.full((12, 10), 0.4)), tokens_N=np.full(10, 5))
    assert len(DualBeta()(inputs, Budget("tokens", 26)).ids) == 5
    with pytest.raises(RequestError, match="high end is kept"):
        DualBeta()({**inputs, "higher": "drop"}, Budget("rows", 2))
    for options in ({"epochs": 0}, {"power": 0.0}):
        with pytest.raises(RequestError, match="1 or more"):
            DualBeta()(inputs, Budget("rows", 2), **options)
