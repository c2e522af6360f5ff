"""What trained nets say of a pool's rows, by nets that are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dataworth import classifying
from dataworth.scores.least_confidence import LeastConfidence
from dataworth.scores.margin import Margin


def test_probabilities_are_the_mean_of_every_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    """And entropies theirs, not the mean of entropies; rows that no net read have none."""
    p_SnK = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.3, 0.7]]])
    nets: dict[str, Any] = {"logits": list(np.log(p_SnK).reshape(2, -1)), "rows": 2, "place": np.array([2, 0])}
    monkeypatch.setattr(classifying, "_nets", lambda *_: nets)
    session: Any = SimpleNamespace(pool=range(3))
    expected = [[0.4, 0.6], [np.nan, np.nan], [0.5, 0.5]]
    np.testing.assert_allclose(classifying.probabilities(session), expected, rtol=1e-6)
    assert classifying.entropies(session)[2] == pytest.approx(np.log(2))


def test_predictions_that_are_all_but_certain_are_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    q_n = np.array([1e-9, 1e-12, 1e-10])
    logits = np.stack([-np.log(q_n), np.zeros(3)], axis=1).astype(np.float32)
    nets: dict[str, Any] = {"logits": [logits.reshape(-1)], "rows": 3, "place": np.arange(3)}
    monkeypatch.setattr(classifying, "_nets", lambda *_: nets)
    session: Any = SimpleNamespace(pool=range(3))
    inputs = {"ids": list("abc"), "probabilities": classifying.probabilities(session), "unscored": {}}
    np.testing.assert_allclose(LeastConfidence()(inputs).values_N, q_n, rtol=1e-3)
    assert np.argsort(-Margin()(inputs).values_N).tolist() == [1, 2, 0]
