"""Wrong labels in a training from end to end: where scores of difficulty put them, and which picks pass them over."""

import numpy as np
import pytest
from tests.scores.made_training import row_ids

from dataworth.dynamics import Dynamics, quantities
from dataworth.picks.stratified import Stratified
from dataworth.picks.top_k import TopK
from dataworth.picks.window import Window
from dataworth.records import Budget
from dataworth.scores.aum import AUM
from dataworth.scores.cartography import Cartography
from dataworth.scores.el2n import EL2N
from dataworth.scores.forgetting import Forgetting

ROWS, CLASSES, EPOCHS, SHARE = 600, 3, 20, 0.05


@pytest.fixture(scope="module")
def training():
    """Softmax regressions of three seeds on three Gaussians, a twentieth of the labels moved on."""
    rng = np.random.default_rng(0)
    true = np.arange(ROWS) % CLASSES
    x = 4.0 * np.eye(CLASSES)[true] + rng.normal(size=(ROWS, CLASSES))
    flipped = rng.random(ROWS) < SHARE
    label = np.where(flipped, (true + 1) % CLASSES, true)
    tables = np.empty((5, 3, EPOCHS, ROWS), dtype=np.float32)
    for s in range(3):
        weight = np.random.default_rng(s).normal(scale=0.1, size=(CLASSES, CLASSES))
        for e in range(EPOCHS):
            logits = x @ weight
            tables[:, s, e] = quantities(logits, label)
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p = p / p.sum(axis=1, keepdims=True) - np.eye(CLASSES)[label]
            weight -= 0.3 * x.T @ p / ROWS
    return {"ids": row_ids(ROWS), "dynamics": Dynamics(*tables)}, flipped


def ballot(score, inputs, **options):
    return {"ids": inputs["ids"], "score:x": score()(inputs, **options), "higher": score.higher}


CASES = [(EL2N, {}), (AUM, {}), (Forgetting, {}), (Cartography, {"measure": "confidence"})]


@pytest.mark.parametrize(("score", "options"), CASES, ids=lambda c: getattr(c, "name", ""))
def test_wrong_labels_are_hardest_and_a_window_passes_them_over(training, score, options):
    inputs, flipped = training
    handed = ballot(score, inputs, **options)
    hardest = TopK()(handed, Budget("rows", int(flipped.sum()))).kept_N
    assert flipped[hardest].mean() > 0.85
    assert TopK()(handed, Budget("fraction", 0.3)).kept_N[flipped].mean() > 0.95
    assert Window()(handed, Budget("fraction", 0.3), offset=0.08).kept_N[flipped].mean() < 0.1
    assert Stratified()(handed, Budget("fraction", 0.3), cut=0.08).kept_N[flipped].mean() < 0.1


def test_a_negative_margin_is_a_wrong_label(training):
    inputs, flipped = training
    values = AUM()(inputs).values_N
    assert (values[flipped] < 0).mean() > 0.95 and (values[~flipped] > 0).mean() > 0.95
