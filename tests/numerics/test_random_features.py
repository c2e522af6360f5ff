import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.numerics.random_features import (
    TeacherStudent,
    expected_min_norm_loss,
    min_norm,
    min_norm_loss,
    on_sphere,
    relu_features,
    relu_kernel,
    ridge,
)


def exponent(sizes, losses):
    return -np.polyfit(np.log(sizes), np.log(losses), 1)[0]


def test_points_are_on_the_sphere_and_even():
    x_ND = on_sphere(20_000, 3, np.random.default_rng(0))
    assert x_ND.shape == (20_000, 4)
    np.testing.assert_allclose(np.linalg.norm(x_ND, axis=1), 1.0)
    np.testing.assert_allclose(x_ND.T @ x_ND / len(x_ND), np.eye(4) / 4, atol=0.01)


@pytest.mark.parametrize("dimensions", [1, 3, 8])
def test_the_kernel_is_the_mean_product_of_features(dimensions):
    rng = np.random.default_rng(1)
    u_PD, v_TD = on_sphere(5, dimensions, rng), on_sphere(4, dimensions, rng)
    x_ND = on_sphere(200_000, dimensions, rng)
    z_NP, t_NT = relu_features(x_ND, u_PD), relu_features(x_ND, v_TD)
    np.testing.assert_allclose(np.sqrt(20) * z_NP.T @ t_NT / len(x_ND), relu_kernel(u_PD, v_TD), atol=0.02)
    np.testing.assert_allclose(np.diag(relu_kernel(u_PD, u_PD)), 1.0)
    assert relu_kernel(u_PD, -u_PD)[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert (z_NP**2).sum(axis=1).mean() == pytest.approx(1.0, abs=0.03)


def test_the_exact_loss_is_that_over_many_inputs_and_the_floor_is_its_least():
    rng = np.random.default_rng(2)
    problem = TeacherStudent.draw(3, 60, 700, rng)
    z_NP, y_N = problem.rows(300, rng)
    a_PK = np.stack([ridge(z_NP[:100], y_N[:100]), ridge(z_NP, y_N)], axis=1)
    z_MP, y_M = problem.rows(40_000, rng)
    exact_K = problem.loss(a_PK)
    np.testing.assert_allclose(exact_K, ((z_MP @ a_PK - y_M[:, None]) ** 2).mean(axis=0), rtol=0.05)
    narrow = TeacherStudent(problem.teacher_TD, problem.readout_T, problem.student_PD[:15])
    z_MP = z_MP[:, :15] * np.sqrt(700 / 15)
    least = ((z_MP @ min_norm(z_MP, y_M) - y_M) ** 2).mean()
    assert narrow.floor == pytest.approx(least, rel=0.03)
    assert narrow.floor > problem.floor > -1e-9
    for _ in range(3):
        assert narrow.loss(rng.normal(size=(15, 1)))[0] > narrow.floor
    assert TeacherStudent(problem.teacher_TD, problem.readout_T, problem.teacher_TD).floor == pytest.approx(0, abs=1e-9)


def test_more_rows_than_a_student_can_use_take_its_loss_to_its_floor_like_one_over_rows():
    rng, sizes, slopes = np.random.default_rng(3), (160, 320, 640, 1280), []
    for _ in range(4):
        problem = TeacherStudent.draw(4, 300, 20, rng)
        excess = []
        for _ in range(6):
            z_NP, y_N = problem.rows(sizes[-1], rng)
            losses = problem.loss(np.stack([ridge(z_NP[:n], y_N[:n]) for n in sizes], axis=1))
            excess.append(losses - problem.floor)
        slopes.append(exponent(sizes, np.mean(excess, axis=0)))
        assert (np.array(excess) > 0).all()
    assert 0.9 <= np.mean(slopes) <= 1.3
    # Without the floor taken off, the same losses look as if rows hardly helped.
    assert exponent(sizes, np.mean(excess, axis=0) + problem.floor) < 0.2


def test_with_more_features_than_rows_the_exponent_falls_with_the_dimension():
    rng, sizes, mean = np.random.default_rng(4), (25, 50, 100, 200), {}
    for d in (2, 4):
        slopes = []
        for _ in range(5):
            problem = TeacherStudent.draw(d, 400, 1000, rng)
            z_NP, y_N = problem.rows(sizes[-1], rng)
            losses = problem.loss(np.stack([ridge(z_NP[:n], y_N[:n]) for n in sizes], axis=1))
            slopes.append(exponent(sizes, losses))
        mean[d] = np.mean(slopes)
    assert mean[2] > mean[4] + 0.2


def test_ridge_is_the_same_from_both_sides_and_nearly_least_squares():
    rng = np.random.default_rng(5)
    for N, P in ((8, 12), (12, 8)):
        z_NP, y_N = rng.normal(size=(N, P)), rng.normal(size=N)
        direct_P = np.linalg.solve(z_NP.T @ z_NP + 0.3 * np.eye(P), z_NP.T @ y_N)
        np.testing.assert_allclose(ridge(z_NP, y_N, 0.3), direct_P, rtol=1e-9)
        np.testing.assert_allclose(ridge(z_NP, y_N, 1e-10), min_norm(z_NP, y_N), rtol=1e-6)
    with pytest.raises(RequestError, match="above 0"):
        ridge(z_NP, y_N, 0.0)


def test_min_norm_fits_and_is_the_smallest_that_does():
    rng = np.random.default_rng(6)
    z_NP, y_N = rng.normal(size=(6, 9)), rng.normal(size=6)
    a_P = min_norm(z_NP, y_N)
    np.testing.assert_allclose(z_NP @ a_P, y_N)
    unseen_P = np.linalg.svd(z_NP)[2][-1]
    np.testing.assert_allclose(z_NP @ unseen_P, 0, atol=1e-9)
    assert a_P @ unseen_P == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("along", ["features", "rows"])
def test_least_squares_is_worst_where_features_are_as_many_as_rows(along):
    rng, median = np.random.default_rng(7), {}
    for count in (10, 20, 36, 40, 44, 80, 400):
        rows, features = (40, count) if along == "features" else (count, 40)
        losses = [min_norm_loss(rows, features, 400, 0.5, rng) for _ in range(60)]
        median[count] = np.median(losses)
        theory = expected_min_norm_loss(rows, features, 400, 0.5)
        if abs(count - 40) >= 20:
            assert np.mean(losses) == pytest.approx(theory, rel=0.15)
        else:
            assert theory > 10
    assert max(median, key=median.get) == 40
    assert median[40] > 10 * max(median[10], median[400])


def test_theory_of_the_peak_by_hand():
    # Figures of another simulation at 40 rows, 400 latent features, noise 0.5.
    for features, loss in ((10, 1.4), (20, 2.2), (36, 14.9), (44, 18.2), (80, 1.9), (400, 0.9)):
        assert expected_min_norm_loss(40, features, 400, 0.5) == pytest.approx(loss, rel=0.15)
    assert all(np.isinf(expected_min_norm_loss(40, p, 400, 0.5)) for p in (39, 40, 41))
    # All seen without noise and with rows enough: nothing is left to miss.
    assert expected_min_norm_loss(100, 50, 50, 0.0) == 0.0
    # Nothing seen of a vector of norm 1, at the price of the noise that is fitted: none.
    assert expected_min_norm_loss(1000, 1, 10**9, 0.0) == pytest.approx(1.0, rel=2e-3)
