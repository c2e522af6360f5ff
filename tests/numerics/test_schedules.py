import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.numerics.schedules import learning_rates, lr_weights

LESS_REPOSITORY = np.array([1.6877e-5, 1.2859e-5, 7.7030e-6, 2.5616e-6])


def test_less_check_c4_the_repository_weights_follow_from_its_schedule():
    lr = learning_rates(422, 13, 2e-5)
    weights = lr_weights(lr, [105, 211, 317, 422])
    np.testing.assert_allclose(weights, LESS_REPOSITORY / LESS_REPOSITORY.sum(), rtol=0.012)
    assert weights.sum() == pytest.approx(1)
    assert (np.diff(weights) < 0).all()


def test_schedules_equal_transformers():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    for name in ("linear", "cosine"):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-4)
        scheduler = transformers.get_scheduler(name, optimizer, num_warmup_steps=4, num_training_steps=20)
        theirs = []
        for _ in range(20):
            theirs.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        np.testing.assert_allclose(learning_rates(20, 4, 3e-4, name), theirs, atol=1e-12)


def test_one_checkpoint_has_weight_one_and_nonsense_is_refused():
    assert lr_weights([1e-4] * 5, [5]).tolist() == [1.0]
    with pytest.raises(RequestError, match="rising"):
        lr_weights([1e-4] * 5, [3, 3])
    with pytest.raises(RequestError, match="rising"):
        lr_weights([1e-4] * 5, [6])
    with pytest.raises(RequestError, match="positive"):
        lr_weights([0.0] * 5, [5])
