"""Forecasts of worth: wide and centred on the pick's own size at first, taught by proofs, scored by them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from dataworth.laws.worth import Worth
from dataworth.proof.forecast import Forecast, Outcome, calibration, differential, forecast, top_differential

RANGE = (88.0, 1400.0)


def found(value: float | None, *spans: tuple[float | None, float | None], side: str = "") -> Worth:
    return Worth(value, spans, RANGE, 0.9, side)  # type: ignore[arg-type]


def test_before_any_proof_a_pick_is_worth_its_rows_give_or_take() -> None:
    top = forecast("less", 140, top_differential(140, 2800), [])
    assert top.value == pytest.approx(140) and top.proofs == 0
    assert top.low * top.high == pytest.approx(140**2) and 8 < top.high / 140 < 14
    drawn = forecast("random", 140, 0.0, [])
    assert drawn.high / 140 == pytest.approx(2 ** (0.5 * stats.t.ppf(0.95, 4)))


def test_the_differential_is_the_mean_normal_score() -> None:
    share = 0.05
    cut = stats.norm.ppf(1 - share)
    assert top_differential(5000, 100_000) == pytest.approx(stats.norm.pdf(cut) / share, rel=1e-3)
    rank_N = np.array([1.0, np.nan, 3.0, 2.0])
    kept_N = np.array([False, True, True, False])
    assert differential(rank_N, kept_N) == pytest.approx(stats.norm.ppf(2.5 / 3))
    assert differential(rank_N, np.zeros(4, dtype=bool)) == 0.0


def test_a_methods_own_proofs_teach_and_others_do_not() -> None:
    good = [Outcome("less", 2.0, y, True) for y in (1.9, 2.1, 2.0, 2.2, 1.8)]
    taught = forecast("less", 100, 2.0, good)
    assert 320 < taught.value < 400 and taught.proofs == 5
    assert taught.high / taught.low < 0.2 * forecast("less", 100, 2.0, []).high / forecast("less", 100, 2.0, []).low
    assert forecast("bm25", 100, 2.0, good) == forecast("bm25", 100, 2.0, [])
    assert forecast("less", 100, 1.0, good).value == pytest.approx(100 * (taught.value / 100) ** 0.5)


def test_the_regression_is_the_conjugate_one() -> None:
    """Against numerical integration over beta and the noise."""
    known = [Outcome("m", 1.5, 0.8, True), Outcome("m", 2.0, -0.3, True)]
    d = 1.8
    betas, sds = np.linspace(-8, 8, 1201)[:, None], np.geomspace(0.02, 20, 800)[None, :]
    log_p = stats.invgamma.logpdf(sds**2, 2.0, scale=2.0 * 0.25) + 2 * np.log(sds)  # d(variance) = 2 sd^2 d(log sd)
    log_p = log_p + stats.norm.logpdf(betas, 0, sds * 2**0.5)
    for o in known:
        log_p = log_p + stats.norm.logpdf(o.y, betas * o.differential, sds)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    ours = forecast("m", 1, d, known)
    assert np.log2(ours.value) == pytest.approx(float((p * betas * d).sum()), abs=1e-3)
    below = float((p * stats.norm.cdf(np.log2(ours.low), betas * d, sds)).sum())
    assert below == pytest.approx(0.05, abs=2e-3)


def test_intervals_hold_what_they_say_once_taught() -> None:
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        beta = rng.normal(0, 0.7)
        known = [Outcome("m", 2.0, beta * 2.0 + 0.5 * rng.standard_normal(), True) for _ in range(6)]
        y = beta * 2.0 + 0.5 * rng.standard_normal()
        seen = forecast("m", 100, 2.0, known)
        held.append(seen.low <= 100 * 2**y <= seen.high)
    assert 0.85 < np.mean(held) < 0.96


def test_a_proof_scores_its_forecast_and_what_it_cannot_tell_counts_for_nothing() -> None:
    said = Forecast("less", 140, 2.0, 140.0, 40.0, 500.0, 0.9, 0)
    inside = said.outcome(found(280.0, (200.0, 400.0)))
    assert inside == Outcome("less", 2.0, 1.0, True)
    assert said.outcome(found(700.0, (600.0, 800.0))).held is False  # type: ignore[union-attr]
    beyond = said.outcome(found(None, (1200.0, None), side="above"))
    assert beyond is not None and not beyond.held and beyond.y == pytest.approx(np.log2(1400 / 140))
    below = said.outcome(found(None, (None, 90.0), side="below"))
    assert below is not None and below.held and below.y == pytest.approx(np.log2(88 / 140))
    assert said.outcome(found(None, (None, None))) is None and said.outcome(found(None)) is None
    assert said.outcome(found(None, (1300.0, None), side="below")) is None, "worse than a curve that rises at its end"
    assert calibration([]).startswith("no forecast")
    assert calibration([inside, beyond]).startswith("1 of 2 forecasts")
    assert Forecast.from_dict(json.loads(json.dumps(said.to_dict()))) == said
    assert str(said) == "140 [40 .. 500] random rows (0 proofs of less so far)"
