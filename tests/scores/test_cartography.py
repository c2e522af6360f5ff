import numpy as np
import pytest
from tests.scores.made_training import dynamics, inputs, of

from dataworth.errors import RequestError
from dataworth.scores.cartography import Cartography
from dataworth.scores.forgetting import Forgetting


def score(found, measure, **options):
    return Cartography()(inputs(found), measure=measure, **options).values_N


def test_measures_against_their_formulas():
    found, _ = dynamics(40)
    p, correct = found.p_SEN.astype(np.float64), found.correct_SEN
    mean = p.mean(axis=1)
    expected = {
        "variability": p.std(axis=1).mean(axis=0),
        "confidence": -mean.mean(axis=0),
        "correctness": -correct.sum(axis=1).mean(axis=0),
        "threshold_closeness": (mean * (1 - mean)).mean(axis=0),
        "forgetfulness": Forgetting()(inputs(found)).values_N,
    }
    for measure, values in expected.items():
        np.testing.assert_allclose(score(found, measure), values, rtol=1e-6, err_msg=measure)


def test_the_spread_is_the_population_s():
    assert score(of(p=[[0.2], [0.6]]), "variability")[0] == pytest.approx(0.2, rel=1e-6)


def test_hard_rows_come_first():
    easy, hard, moving = [0.9, 0.95, 1.0], [0.05, 0.0, 0.1], [0.1, 0.9, 0.3]
    found = of(p=np.array([easy, hard, moving]).T, correct=np.array([[1, 1, 1], [0, 0, 0], [0, 1, 0]]).T)
    assert np.argsort(-score(found, "confidence")).tolist() == [1, 2, 0]
    assert np.argsort(-score(found, "correctness")).tolist() == [1, 2, 0]
    assert np.argmax(score(found, "variability")) == np.argmax(score(found, "threshold_closeness")) == 2
    assert np.argsort(-score(found, "forgetfulness")).tolist() == [1, 2, 0]


def test_only_the_first_epochs_can_be_read():
    found, _ = dynamics(10)
    np.testing.assert_allclose(score(found, "confidence", epochs=3), -found.p_SEN[:, :3].mean(axis=(0, 1)), rtol=1e-5)


def test_one_epoch_shows_no_change():
    one, _ = dynamics(5, epochs=1)
    for measure in ("variability", "forgetfulness"):
        with pytest.raises(RequestError, match="two or more"):
            score(one, measure)
    assert np.isfinite(score(one, "confidence")).all()
    with pytest.raises(RequestError, match="two or more"):
        score(dynamics(5)[0], "variability", epochs=1)
    seen_once = dynamics(5)[0]
    seen_once.p_SEN[:, 1:, 2] = np.nan
    got = Cartography()(inputs(seen_once))
    assert list(got.unscored.values()) == ["too few epochs saw it"] and np.isnan(got.values_N[2])


def test_an_unknown_measure_is_refused():
    with pytest.raises(RequestError, match="variability, confidence"):
        score(dynamics(5)[0], "ambiguity")
