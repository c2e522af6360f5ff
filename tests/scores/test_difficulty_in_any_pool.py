"""Every score of difficulty, under all its options, in pools with holes, copies, one row, or one class."""

import numpy as np
import pytest
from tests.scores.made_training import at, dynamics, row_ids, without

from dataworth.scores.aum import AUM
from dataworth.scores.cartography import Cartography
from dataworth.scores.dual import DUAL
from dataworth.scores.el2n import EL2N
from dataworth.scores.entropy import Entropy
from dataworth.scores.forgetting import Forgetting
from dataworth.scores.grand import GraNd
from dataworth.scores.least_confidence import LeastConfidence
from dataworth.scores.margin import Margin
from dataworth.scores.moderate import Moderate
from dataworth.scores.perplexity import Perplexity
from dataworth.scores.pvi import PVI

MEASURES = ("variability", "confidence", "correctness", "forgetfulness", "threshold_closeness")
CASES = [
    (EL2N, {}),
    (EL2N, {"variant": "ccs"}),
    (GraNd, {}),
    (Forgetting, {}),
    (AUM, {}),
    *((Cartography, {"measure": m}) for m in MEASURES),
    (DUAL, {}),
    (Entropy, {}),
    (LeastConfidence, {}),
    (Margin, {}),
    (Perplexity, {}),
    (Perplexity, {"direction": "low"}),
    (Moderate, {}),
    (PVI, {}),
]
FLAT = {"losses": 0, "entropies": 0, "probabilities": 0, "vectors": 0, "labels": 0, "grad_norms": 1}
NAMES = [f"{s.name}-{'-'.join(o.values())}" for s, o in CASES]


def pool(n, seed=0):
    rng = np.random.default_rng(seed)
    found, labels = dynamics(n, classes=3, seed=seed)
    probabilities = rng.dirichlet(np.ones(3), size=n)
    return {
        "ids": row_ids(n),
        "dynamics": found,
        "labels": labels,
        "grad_norms": rng.uniform(size=(3, n)),
        "losses": rng.uniform(0.5, 4, size=n),
        "entropies": rng.uniform(size=n),
        "probabilities": probabilities,
        "vectors": rng.normal(size=(n, 5)).astype(np.float32),
    }


def rows_of(inputs, rows):
    out = {k: np.take(inputs[k], rows, axis=axis) for k, axis in FLAT.items()}
    return {**out, "ids": [inputs["ids"][i] for i in rows], "dynamics": at(inputs["dynamics"], rows)}


def spoiled(inputs, rows):
    out = dict(inputs)
    for key in ("losses", "entropies", "probabilities", "vectors"):
        out[key] = inputs[key].copy()
        out[key][rows] = np.nan
    out["grad_norms"] = inputs["grad_norms"].copy()
    out["grad_norms"][:, rows] = np.nan
    reasons = {inputs["ids"][i]: "it was spoiled" for i in rows}
    return {**out, "dynamics": without(inputs["dynamics"], rows), "unscored": reasons}


@pytest.mark.parametrize(("score", "options"), CASES, ids=NAMES)
class TestAnyPool:
    @pytest.fixture(autouse=True)
    def _needs(self, score):
        if score is PVI:
            pytest.importorskip("sklearn")

    def test_row_order_plays_no_part(self, score, options):
        inputs = pool(60)
        order = np.random.default_rng(1).permutation(60)
        one = score()(inputs, **options).values_N
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(score()(rows_of(inputs, order), **options).values_N, one[order])

    def test_spoiled_rows_carry_their_reason_and_change_no_other(self, score, options):
        inputs = pool(60)
        got = score()(spoiled(inputs, [3, 11]), **options)
        assert dict(got.unscored) == {inputs["ids"][i]: "it was spoiled" for i in (3, 11)}
        rest = np.setdiff1d(np.arange(60), [3, 11])
        alone = score()(rows_of(inputs, rest), **options).values_N
        np.testing.assert_array_equal(got.values_N[rest], alone)

    def test_every_row_ten_times_ties_with_its_copies(self, score, options):
        inputs = pool(30)
        copied = rows_of(inputs, np.tile(np.arange(30), 10))
        copied["ids"] = [i if k == 0 else f"{i}#{k}" for k in range(10) for i in inputs["ids"]]
        values = score()(copied, **options).values_N.reshape(10, 30)
        assert (values == values[0]).all()

    def test_one_row_and_equal_rows(self, score, options):
        one = score()(rows_of(pool(5), [2]), **options)
        assert one.values_N.shape == (1,) and not one.unscored
        alike = rows_of(pool(5), [2] * 20)
        alike["ids"] = row_ids(20)
        assert np.ptp(score()(alike, **options).values_N) == 0

    def test_it_reads_nothing_but_what_it_needs(self, score, options):
        inputs = pool(20)
        bare = {k: v for k, v in inputs.items() if k in score.needs | {"ids"}}
        np.testing.assert_array_equal(score()(bare, **options).values_N, score()(inputs, **options).values_N)
        assert score.kinds <= {"sft", "text", "classify"} and score.higher in ("keep", "drop")
