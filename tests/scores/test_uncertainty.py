"""entropy, least_confidence, margin and perplexity."""

import numpy as np
import pytest
from tests.scores.made_training import row_ids

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.picks.top_k import TopK
from dataworth.records import Budget
from dataworth.scores import probabilities
from dataworth.scores.entropy import Entropy
from dataworth.scores.least_confidence import LeastConfidence
from dataworth.scores.margin import Margin
from dataworth.scores.perplexity import Perplexity

SURE, TORN, VAGUE = [0.96, 0.02, 0.02], [0.49, 0.48, 0.03], [0.4, 0.3, 0.3]


def case(rows):
    return {"ids": row_ids(len(rows)), "probabilities": np.array(rows)}


def kept(score, inputs):
    scored = score(inputs)
    return TopK()({"ids": inputs["ids"], "score:x": scored, "higher": score.higher}, Budget("rows", 1)).ids[0]


def test_formulas():
    got = LeastConfidence()(case([SURE, TORN, VAGUE])).values_N
    np.testing.assert_allclose(got, [0.04, 0.51, 0.6])
    np.testing.assert_allclose(Margin()(case([SURE, TORN, VAGUE])).values_N, [0.94, 0.01, 0.1])


def test_the_most_uncertain_row_is_kept():
    """DeepCore's unbalanced branch keeps the most certain."""
    inputs = case([SURE, TORN, VAGUE])
    inputs["entropies"] = -(inputs["probabilities"] * np.log(inputs["probabilities"])).sum(axis=1)
    assert kept(LeastConfidence(), inputs) == inputs["ids"][2]
    assert kept(Margin(), inputs) == inputs["ids"][1]
    assert kept(Entropy(), inputs) == inputs["ids"][2]


def test_logits_are_no_probabilities():
    """DeepCore ranks by the largest raw logit."""
    for score in (LeastConfidence(), Margin()):
        with pytest.raises(NonsenseRefused, match="softmax, not logits"):
            score(case([[2.0, -1.0, 0.5], SURE]))
        with pytest.raises(NonsenseRefused, match="softmax, not logits"):
            score(case([[2.0, 1.0, 0.5], SURE]))
        with pytest.raises(RequestError, match="2 or more classes"):
            score(case([[1.0]]))


def test_rows_without_a_prediction_and_blocks(monkeypatch):
    monkeypatch.setattr(probabilities, "_ROWS", 2)
    got = Margin()(case([SURE, [np.nan, 0.5, 0.5], TORN, VAGUE, SURE]))
    np.testing.assert_allclose(got.values_N, [0.94, np.nan, 0.01, 0.1, 0.94])
    assert list(got.unscored.values()) == ["it has no prediction"]


def test_half_precision_softmaxes_pass():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 10))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert not Margin()(case(p.astype(np.float16))).unscored


def test_entropy_is_what_was_measured():
    got = Entropy()({"ids": row_ids(3), "entropies": np.array([0.1, np.nan, 2.0])})
    np.testing.assert_array_equal(got.values_N, [0.1, np.nan, 2.0])


def test_perplexity_is_the_exponential_and_its_directions_are_opposite():
    inputs = {"ids": row_ids(4), "losses": np.array([0.0, np.log(7.0), np.nan, 2000.0])}
    got = Perplexity()(inputs)
    np.testing.assert_allclose(got.values_N, [1, 7, np.nan, np.nan])
    assert len(got.unscored) == 2
    low = Perplexity()(inputs, direction="low")
    np.testing.assert_allclose(low.values_N[:2], [1, 7])
    assert low.higher == "drop"
    with pytest.raises(RequestError, match="high or low"):
        Perplexity()(inputs, direction="middle")
