import csv

import numpy as np
import pytest
from scipy.optimize import minimize

from dataworth.errors import RequestError
from dataworth.laws.joint import JointLaw, chinchilla_starts, fit_joint
from dataworth.laws.objective import huber

# Chinchilla's published constants, unrounded, and those of the re-fit (Besiroglu et al. 2024).
HOFFMANN = np.array([6.0073404, 6.0179186, 0.5267228, 0.33917084, 0.2849083])
REFIT = JointLaw(E=1.8172, A=477.8, alpha=0.3473, B=2143.4, beta=0.3672)


def made_runs(seed=0):
    """Runs like Chinchilla's: compute and model size spread over their ranges, heavy-tailed noise."""
    rng = np.random.default_rng(seed)
    flops = 10 ** rng.uniform(18, 21.5, 240)
    N_R = np.exp(rng.uniform(np.log(6e7), np.log(1e10), 240))
    D_R = flops / 6 / N_R
    kept = (D_R > 5e8) & (D_R < 6e11)
    N_R, D_R = N_R[kept], D_R[kept]
    return N_R, D_R, REFIT.at(N_R, D_R) * np.exp(0.004 * rng.standard_t(4, len(N_R)))


def textbook_lbfgs(N_R, D_R, loss_R, scale):
    """The fit as the paper describes it: natural parameters, default tolerances; (E, unscaled objective)."""
    n, d, y = np.log(N_R), np.log(D_R), np.log(loss_R)

    def objective(p):
        terms = np.stack([p[0] - p[3] * n, p[1] - p[4] * d, np.full(len(n), p[2])])
        log = np.logaddexp.reduce(terms)
        share = np.exp(terms - log)
        jacobian = np.stack([*share, -n * share[0], -d * share[1]], axis=1)
        return scale * huber(log - y).sum(), scale * (np.clip(log - y, -1e-3, 1e-3) @ jacobian)

    end = minimize(objective, HOFFMANN, jac=True, method="L-BFGS-B")
    return float(np.exp(end.x[2])), float(end.fun / scale)


def test_an_unscaled_objective_stops_early_and_ours_does_not():
    runs = made_runs()
    law = fit_joint(*runs, starts_S5=HOFFMANN[None])
    mean_E, mean_objective = textbook_lbfgs(*runs, scale=1 / len(runs[0]))
    _, sum_objective = textbook_lbfgs(*runs, scale=1.0)
    assert mean_E == pytest.approx(1.6935, abs=5e-4)
    assert mean_objective > 2 * law.objective
    assert sum_objective > 1.005 * law.objective
    assert law.E == pytest.approx(REFIT.E, abs=0.03)
    assert law.E == pytest.approx(textbook_lbfgs(*runs, scale=1e6)[0], abs=1e-3)


def test_every_start_leads_to_the_same_law():
    runs = made_runs(1)
    one, many = fit_joint(*runs, starts_S5=HOFFMANN[None]), fit_joint(*runs, starts_S5=chinchilla_starts(0.01, seed=3))
    assert one.objective == pytest.approx(many.objective, rel=1e-6)
    assert one.at(1e10, 1e12) == pytest.approx(many.at(1e10, 1e12), rel=1e-4)


def test_a_law_is_recovered_from_points_without_noise():
    N_R, D_R = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e8, 1e12, 5)))
    law = fit_joint(N_R, D_R, REFIT.at(N_R, D_R))
    assert (law.E, law.A, law.alpha) == pytest.approx((REFIT.E, REFIT.A, REFIT.alpha), rel=1e-4)
    assert (law.B, law.beta) == pytest.approx((REFIT.B, REFIT.beta), rel=1e-4)
    assert law.runs == 25


def test_order_of_runs_and_scale_of_losses():
    N_R, D_R, loss_R = made_runs(2)
    order = np.random.default_rng(0).permutation(len(N_R))
    starts = HOFFMANN[None]
    law = fit_joint(N_R, D_R, loss_R, starts_S5=starts)
    assert fit_joint(N_R[order], D_R[order], loss_R[order], starts_S5=starts) == law
    doubled = fit_joint(N_R, D_R, 2 * loss_R, starts_S5=starts)
    assert (doubled.E, doubled.alpha, doubled.beta) == pytest.approx((2 * law.E, law.alpha, law.beta), rel=1e-4)


def test_the_compute_optimal_split_is_the_minimum_on_its_budget():
    N, D = REFIT.compute_optimal(1e21)
    assert 6 * N * D == pytest.approx(1e21)
    assert REFIT.at(N, D) < min(REFIT.at(N * k, D / k) for k in (0.8, 0.95, 1.05, 1.25))
    with pytest.raises(RequestError, match="FLOP"):
        REFIT.compute_optimal(0)


def test_the_grid_is_chinchillas():
    grid = chinchilla_starts()
    assert grid.shape == (4500, 5)
    assert set(np.unique(grid[:, 2])) == {-1.0, -0.5, 0.0, 0.5, 1.0}
    assert grid[:, :2].min() == 0 and grid[:, :2].max() == 25 and grid[:, 3:].max() == 2
    some = chinchilla_starts(0.05, seed=1)
    assert some.shape == (225, 5)
    assert {tuple(s) for s in some} <= {tuple(s) for s in grid}
    assert np.array_equal(some, chinchilla_starts(0.05, seed=1))
    assert not np.array_equal(some, chinchilla_starts(0.05, seed=2))
    with pytest.raises(RequestError, match="share"):
        chinchilla_starts(0)


def test_confounded_or_short_input_is_refused():
    with pytest.raises(RequestError, match="at least 3 different"):
        fit_joint([1e9] * 5, np.arange(1.0, 6), np.ones(5))
    with pytest.raises(RequestError, match="equal lengths"):
        fit_joint([1e9, 2e9, 3e9], [1.0, 2, 3], [1.0])


@pytest.mark.data
def test_epochs_refit_of_chinchilla(data):
    """Besiroglu et al. 2024: the five highest losses dropped, D = FLOP / (6 N)."""
    path = data / "chinchilla" / "svg_extracted_data.csv"
    if not path.exists():
        pytest.skip(
            "needs data/svg_extracted_data.csv of Epoch's analyzing-chinchilla as chinchilla/svg_extracted_data.csv"
        )
    with path.open() as lines:
        rows = [(float(r["Model Size"]), float(r["Training FLOP"]), float(r["loss"])) for r in csv.DictReader(lines)]
    N_R, flops_R, loss_R = np.array(rows).T
    kept = loss_R < np.sort(loss_R)[-5]
    law = fit_joint(N_R[kept], (flops_R / 6 / N_R)[kept], loss_R[kept])
    assert law.runs == 240
    assert law.objective == pytest.approx(0.00101827, abs=1e-8)
    assert law.E == pytest.approx(1.81722, abs=2e-5)
    assert (law.A, law.B) == pytest.approx((477.8, 2143.4), abs=0.1)
    assert (law.alpha, law.beta) == pytest.approx((0.34731, 0.36717), abs=1e-5)
