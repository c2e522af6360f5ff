"""The pattern of delayed generalisation in logs that are made to show it, not to, or not to tell."""

import json
import math

import numpy as np
import pytest

from dataworth.errors import RequestError
from dataworth.laws.delayed import Delayed, delayed_generalisation

STEPS = np.arange(0, 20_001, 100.0)


def log(fit=1000.0, rise_at=8000.0, low=0.1, high=1.0, noise=0.0, seed=0, steps=STEPS):
    """Training reaches 1 at `fit`; validation stays at `low` and reaches `high` within 1,000 steps of `rise_at`."""
    train = np.clip(steps / fit, 0.0, 1.0)
    validation = low + (high - low) * np.clip((steps - rise_at) / 1000.0, 0.0, 1.0)
    validation = validation + noise * np.random.default_rng(seed).standard_normal(len(steps))
    return steps, train, np.clip(validation, 0.0, 1.0)


def test_the_pattern_is_shown_with_its_steps_and_levels():
    found = delayed_generalisation(*log())
    assert found.verdict == "shown"
    assert (found.fit_step, found.level, found.highest) == (1000.0, pytest.approx(0.1), pytest.approx(1.0))
    assert 8000 < found.left_step <= 8200 and 8200 <= found.risen_step <= 8500 and found.last_step == 20_000
    assert "until step 8,100" in str(found) and "another run" in found.explain()
    assert json.loads(json.dumps(found.to_dict()))["risen_step"] == found.risen_step


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (log(rise_at=1e9), "stays near 0.100"),
        (log(rise_at=500.0), "no room to rise"),  # it generalises while it fits
        (log(rise_at=2500.0), "isn't flat"),  # within three times the steps to the fit
        (log(high=0.22), "at most 0.220"),
        (log(low=0.5, high=0.1, rise_at=1500.0), "isn't flat"),  # it falls
        (log(low=0.85), "no room to rise"),
    ],
)
def test_not_shown_names_what_is_missing_and_never_foretells(made, said):
    found = delayed_generalisation(*made)
    assert found.verdict == "not shown" and said in found.reason
    assert found.risen_step is None and "20,000; whether it would come later" in found.explain()


def test_a_fit_that_is_lost_again_is_none():
    steps, train, validation = log()
    train = np.where(steps > 1200, 0.8, train)
    assert "fell to 0.800" in delayed_generalisation(steps, train, validation).reason
    lucky = np.where(steps == 300, 1.0, np.minimum(train, 0.9))
    assert "isn't fitted" in delayed_generalisation(steps, lucky, validation).reason


@pytest.mark.parametrize("stop", [1000, 1100, 2900])
def test_a_validation_log_that_stops_shortly_after_the_fit_cannot_tell(stop):
    steps, train, validation = log()
    cut = np.where(steps <= stop, validation, np.nan)
    found = delayed_generalisation(steps, train, cut)
    assert found.verdict == "cannot tell" and "log it to 3,000" in found.reason and found.last_step == stop
    short = steps <= stop
    if stop > 1000:
        assert delayed_generalisation(steps[short], train[short], validation[short]) == found


def test_it_cannot_tell_from_few_points_noise_or_a_log_that_begins_too_late():
    steps, train, validation = log()
    few = np.where(steps % 1000 == 0, validation, np.nan)
    assert "3 validations between steps 1,000 and 3,000" in delayed_generalisation(steps, train, few).reason
    noisy = delayed_generalisation(*log(low=0.4, noise=0.12))
    assert noisy.verdict == "cannot tell" and f"scatter by {noisy.noise:.3f}" in noisy.reason
    assert noisy.noise == pytest.approx(0.12, rel=0.4)
    late = steps >= 2000
    assert "begins too late" in delayed_generalisation(steps[late], train[late], validation[late]).reason
    for empty in (delayed_generalisation([], [], []), delayed_generalisation(STEPS, STEPS * np.nan, STEPS * np.nan)):
        assert empty.verdict == "cannot tell" and "expected at least 2" in empty.reason
    assert delayed_generalisation(steps, train * 0.98, validation).verdict == "cannot tell"


def test_noise_that_is_told_from_moves_changes_no_verdict():
    made = {"shown": log, "not shown": lambda **k: log(rise_at=1e9, **k)}
    for verdict, make in made.items():
        found = [delayed_generalisation(*make(low=0.2, noise=0.015, seed=s)) for s in range(40)]
        assert {f.verdict for f in found} == {verdict}
        assert np.mean([f.noise for f in found]) == pytest.approx(0.015, rel=0.15)


def test_one_or_two_lucky_validations_are_no_rise():
    steps, train, validation = log(rise_at=1e9)
    for lucky in ([9000.0, 9100.0], [20_000.0]):
        spiked = np.where(np.isin(steps, lucky), 0.9, validation)
        assert delayed_generalisation(steps, train, spiked).verdict == "not shown"


def test_a_trend_is_no_noise():
    steps, train, _ = log()
    found = delayed_generalisation(steps, train, 0.1 + 0.8 * np.clip(steps / 4000.0, 0, 1))
    assert found.verdict == "not shown" and "isn't flat" in found.reason


def test_limits_are_the_caller_s_and_order_and_units_of_steps_are_not():
    made = log()
    assert delayed_generalisation(*made, longer=8.0).verdict == "not shown"
    assert delayed_generalisation(*made, longer=6.0).verdict == "shown"
    assert delayed_generalisation(*made, rise=0.9).verdict == "shown"
    assert delayed_generalisation(*log(high=0.22), rise=0.1).verdict == "shown"
    assert delayed_generalisation(*log(rise_at=2500.0), tolerance=0.7, rise=0.8).verdict == "shown"
    assert delayed_generalisation(made[0], made[1] * 0.95, made[2], fitted=0.9).verdict == "shown"
    order = np.random.default_rng(0).permutation(len(STEPS))
    assert delayed_generalisation(*(a[order] for a in made)) == delayed_generalisation(*made)
    epochs = delayed_generalisation(made[0] / 100, made[1], made[2])
    assert epochs.verdict == "shown" and epochs.risen_step == delayed_generalisation(*made).risen_step / 100


def test_no_word_of_it_foretells_anything():
    for made in (log(), log(rise_at=1e9), log(noise=0.2), log(steps=STEPS[:12])):
        said = delayed_generalisation(*made).explain()
        assert isinstance(delayed_generalisation(*made), Delayed)
        assert " will " not in said and "grok" not in said


@pytest.mark.parametrize(
    "call",
    [
        lambda: delayed_generalisation([1, 2], [1, 1], [1]),
        lambda: delayed_generalisation([1, 1], [1, 1], [1, 1]),
        lambda: delayed_generalisation([-1, 1], [1, 1], [1, 1]),
        lambda: delayed_generalisation([1, math.inf], [1, 1], [1, 1]),
        lambda: delayed_generalisation([1, 2], [99, 100], [1, 1]),
        lambda: delayed_generalisation([1, 2], [1, 1], [1, -0.1]),
        lambda: delayed_generalisation(*log(), tolerance=0.3, rise=0.2),
        lambda: delayed_generalisation(*log(), longer=0),
        lambda: delayed_generalisation(*log(), fitted=1.1),
    ],
)
def test_logs_and_limits_that_mean_nothing_are_refused_in_one_line(call):
    with pytest.raises(RequestError, match="expected") as error:
        call()
    assert "\n" not in str(error.value)
