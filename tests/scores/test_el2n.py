import numpy as np
import pytest
from tests.scores.made_training import dynamics, inputs, of, row_ids

from dataworth.dynamics import Dynamics, quantities
from dataworth.errors import RequestError
from dataworth.scores.el2n import EL2N
from dataworth.scores.grand import GraNd


def test_the_norm_of_probabilities_off_the_label():
    logits = np.log([[0.7, 0.2, 0.1]])
    found = Dynamics(*quantities(logits, np.array([0]))[:, None, None])
    assert EL2N()(inputs(found)).values_N[0] == pytest.approx(0.3742, abs=5e-5)
    worst = Dynamics(*quantities(np.array([[50.0, 0.0]]), np.array([1]))[:, None, None])
    assert EL2N()(inputs(worst)).values_N[0] == pytest.approx(np.sqrt(2))


def test_it_is_the_mean_over_nets_at_epoch_twenty_or_two_thirds_through():
    """The last epoch of a schedule that ends at 0 is what fails: there the net knows its rows by heart."""
    errors = np.random.default_rng(0).uniform(size=(4, 200, 6)).astype(np.float32)
    for recorded, read in ((200, 20), (30, 20), (29, 19), (15, 10), (12, 8), (7, 5), (2, 1), (1, 1)):
        got = EL2N()(inputs(of(error=errors[:, :recorded]))).values_N
        np.testing.assert_allclose(got, errors[:, read - 1].mean(axis=0), rtol=1e-6)
    short = of(error=errors[:, :7])
    for asked in (1, 7):
        got = EL2N()(inputs(short), epoch=asked).values_N
        np.testing.assert_allclose(got, errors[:, asked - 1].mean(axis=0), rtol=1e-6)


def test_ccs_sums_the_first_ten_epochs():
    errors = np.random.default_rng(0).uniform(size=(2, 25, 6)).astype(np.float32)
    got = EL2N()(inputs(of(error=errors)), variant="ccs").values_N
    np.testing.assert_allclose(got, errors[:, :10].sum(axis=1).mean(axis=0), rtol=1e-6)
    holed = errors.copy()
    holed[:, 3, 0] = np.nan
    got = EL2N()(inputs(of(error=holed)), variant="ccs").values_N
    assert got[0] == pytest.approx(10 * np.delete(errors[:, :10, 0], 3, axis=1).mean(), rel=1e-6)


def test_with_two_classes_it_is_the_missing_probability_times_root_two():
    found, _ = dynamics(50, classes=2)
    got = EL2N()(inputs(found)).values_N
    np.testing.assert_allclose(got, np.sqrt(2) * (1 - found.p_SEN[:, 7].mean(axis=0)), atol=1e-6)


def test_flipped_labels_are_in_the_top_of_a_prediction_by_others():
    """Two Gaussians, a tenth of the labels flipped, each half predicted by the centres of the other one."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, size=1000)
    x = rng.normal(size=(1000, 2)) + 3.0 * true[:, None]
    flipped = rng.random(1000) < 0.1
    label = np.where(flipped, 1 - true, true)
    logits = np.empty((1000, 2))
    half = np.arange(1000) % 2
    for h in (0, 1):
        centres = np.stack([x[(half != h) & (label == k)].mean(axis=0) for k in (0, 1)])
        logits[half == h] = -((x[half == h, None] - centres) ** 2).sum(axis=2) / 2
    found = Dynamics(*quantities(logits, label)[:, None, None])
    top = np.argsort(-EL2N()(inputs(found)).values_N)[:100]
    assert flipped[top].mean() > 0.8


def test_the_gradient_of_the_last_layer_is_el2n_times_the_length_of_its_input():
    """GraNd of a linear layer with bias, by the outer product that the gradient is."""
    rng = np.random.default_rng(3)
    h, weight, bias, label = rng.normal(size=(20, 6)), rng.normal(size=(3, 6)), rng.normal(size=3), np.arange(20) % 3
    logits = h @ weight.T + bias
    norms = []
    for i in range(20):
        p = np.exp(logits[i] - logits[i].max())
        p /= p.sum()
        p[label[i]] -= 1
        norms.append(np.sqrt((np.outer(p, h[i]) ** 2).sum() + (p**2).sum()))
    grand = GraNd()({"ids": row_ids(20), "grad_norms": np.array([norms])}).values_N
    el2n = EL2N()(inputs(Dynamics(*quantities(logits, label)[:, None, None]))).values_N
    np.testing.assert_allclose(grand, el2n * np.sqrt(1 + (h**2).sum(axis=1)), rtol=1e-6)


def test_grand_is_the_mean_over_the_nets_that_have_a_gradient():
    norms = np.array([[1.0, 4.0, np.nan], [3.0, np.nan, np.nan]])
    got = GraNd()({"ids": row_ids(3), "grad_norms": norms})
    np.testing.assert_array_equal(got.values_N, [2, 4, np.nan])
    assert list(got.unscored.values()) == ["it has no gradient"]


def test_wrong_requests():
    found, _ = dynamics(5)
    with pytest.raises(RequestError, match="13 epochs asked for"):
        EL2N()(inputs(found), epoch=13)
    with pytest.raises(RequestError, match="norm, ccs"):
        EL2N()(inputs(found), variant="l1")
