"""What is read from measurements, on made ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataworth.diagnosing.design import halvings
from dataworth.diagnosing.diagnosis import Diagnosis
from dataworth.diagnosing.measured import Measured, Point
from dataworth.laws.repeated import effective_multiple
from dataworth.reports.diagnosis import diagnosis_sections

SIZES = (62, 125, 250, 500, 1000)


def measured(test_K, *, train_K=None, fresh_K=None, larger=0.0, pool=10_000, unit="nats/token", chains=3, noise=0.002):
    """Chains around a curve, every size trained for 2 and 4 epochs by the first, which did a little worse after 4."""
    rng = np.random.default_rng(0)
    fresh_K = test_K if fresh_K is None else fresh_K
    points = []
    for k, n in enumerate(SIZES):
        for c in range(chains):
            by = 1 + noise * rng.normal()
            train = None if train_K is None else float(train_K[k] * by)
            points.append(Point(False, c, n, 2, float(test_K[k]), float(test_K[k] * by), float(fresh_K[k] * by), train))
            if c == 0:
                points.append(Point(False, c, n, 4, float(test_K[k] * 1.01), 9.0, 9.0, 9.0))
            if n in (250, 1000) and larger:
                points.append(Point(True, c, n, 2, 1.0, 1.0, float(fresh_K[k] * by) - larger, train))
    return Measured(
        unit=unit,
        loss_unit="nats/token",
        on="the goal's tune rows",
        pool_rows=pool,
        sizes=SIZES,
        chains=chains,
        tried=dict.fromkeys(SIZES, (2, 4)),
        chosen=dict.fromkeys(SIZES, 2),
        points=tuple(points),
        untouched=3.0,
        larger="lora_r 32" if larger else "",
        parameters=10**6,
        test_rows=160,
        price={"trial": 5.0, "row": 0.1, "workers": 2.0, "epochs": 2},
    )


def of(m: Measured, **more) -> Diagnosis:
    return Diagnosis(Path("run"), m, **more)


SIZES_K = np.array(SIZES, dtype=float)
FALLING = 1.0 + 8.0 * SIZES_K**-0.5


def test_more_rows_help_where_the_curve_falls_and_the_numbers_are_those_measured():
    told = of(measured(FALLING)).of_data()
    assert told.startswith("More rows help: all 10,000 rows are predicted to reach 1.07")
    assert told.endswith("from 1.25 nats/token at 1,000 rows by the fitted law (1.25 measured)")


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        ([3.0, 2.0, 1.2, 1.0, 1.15], "don't always help: the loss rises from 500 to 1,000 rows (1.1"),
        (1.0 + 2000.0 * SIZES_K**-2.0, "More rows hardly help: twice as many would take away"),
        (np.full(5, 1.3), "More rows aren't shown to help: 1.29"),
    ],
)
def test_more_rows_aren_t_said_to_help_where_they_don_t(curve, said):
    found = of(measured(np.asarray(curve)))
    assert said in found.of_data()
    assert "More rows help" not in found.headline()


def test_a_rise_of_the_goal_s_loss_is_found_by_the_check_though_pool_rows_fall():
    found = of(measured(np.array([3.0, 2.0, 1.2, 1.0, 1.15]), fresh_K=FALLING, train_K=0.95 * FALLING))
    assert "DW102" in {f.code for f in found.checks[0]}


def test_no_far_prediction_is_made_from_sizes_that_cross_the_interpolation_threshold():
    share_K = np.array([0.01, 0.05, 0.2, 0.45, 0.64])
    found, below = (of(measured(FALLING, train_K=by_K * FALLING)) for by_K in (share_K, 0.01 * share_K))
    assert "DW102" in {f.code for f in found.checks[0]} and "DW102" not in {f.code for f in below.checks[0]}
    assert {p.asked: bool(p.refusal) for p in found.predictions} == {
        2000: False, 10_000: True, 20_000: True, 100_000: True
    }  # fmt: skip
    assert not any(p.refusal for p in below.predictions)
    assert "cannot be told, because train and test loss, far apart at the smallest size, near" in found.headline()
    near, usual = (f.predictions[0] for f in (found, below))
    assert near.low == min(usual.low, *(near.rivals[n] for n in ("pow4", "mmf4"))) and near.value == usual.value


def test_the_regime_is_that_of_pool_rows_and_says_so():
    floor = 0.5 * (1 + 12.0 / SIZES_K)
    m = measured(
        0.4 * floor, fresh_K=floor, train_K=0.5 * (1 - 12.0 / SIZES_K), larger=0.2, unit="error rate (1 - acc)"
    )
    found = of(m)
    assert found.regime.word == "variance-limited in data"
    assert found.headline().endswith("(on pool rows, in nats/token, at up to 1,000 rows).")


def test_the_model_isn_t_blamed_where_longer_training_still_paid():
    floor = 0.5 * (1 + 12.0 / SIZES_K)
    m = measured(floor, train_K=0.5 * (1 - 12.0 / SIZES_K), larger=0.2)
    longer = tuple(replace(p, stop=p.stop * 0.9) if p.epochs == 4 else p for p in m.points)
    found = of(replace(m, points=longer))
    assert found.regime.word == "undetermined" and "under-trained" in found.of_model()
    assert "DW103" in {f.code for f in found.checks[0]}


def test_what_would_tell_is_never_what_was_measured():
    alone = of(measured(FALLING, pool=1800))
    assert alone.regime.word == "undetermined"
    assert alone.what_would_tell().startswith("a larger learner beside these pilots (--larger) would tell")
    untold = of(measured(FALLING, train_K=0.6 * FALLING, pool=1800, larger=0.05))
    assert untold.regime.word == "undetermined"
    assert untold.what_would_tell().startswith("twice the chains at these sizes (at most ")
    near = of(measured(FALLING, pool=3000)).what_would_tell()
    assert "up to 300" not in near and "pilots up to 1,500 rows (at most" in near
    far = of(measured(FALLING, pool=59_000)).what_would_tell()
    assert far.startswith("the largest pilot has 1,000 of 59,000 rows (1/59.0); pilots up to 5,900 rows (at most")
    assert "up to 29,500 rows" in far


def test_a_share_without_errors_is_less_than_half_of_one_and_the_model_is_told_of_all_the_same():
    shares = np.array([0.2, 0.1, 0.05, 0.02, 0.0])
    found = of(measured(shares, unit="error rate (1 - accuracy)", fresh_K=FALLING, train_K=0.9 * FALLING))
    assert not isinstance(found.curve, str)
    assert found.curve.loss_CK[:, -1] == pytest.approx(0.5 / 160)
    assert found.measured.scale() == pytest.approx(0.5 / 160) and "DW101" not in found.checks[1].get("DW101", "")
    nets = replace(found.measured, loss_unit="nats/row")
    assert nets.stop_scale() is None, "epochs of classifiers are chosen by losses, of another unit than errors"
    broken = of(replace(measured(FALLING), points=()))
    assert broken.headline().startswith("Cannot tell what more rows would do, because ")
    assert "bottleneck" in broken.headline()


def test_bits_that_are_an_upper_bound_exceed_nothing():
    counted = {"bits": 1e8, "low": 0.0, "high": 1e8, "how": "an upper bound", "adapter": False}
    upper = of(replace(measured(FALLING), capacity=counted))
    assert upper.fill.zones == ("can hold all", "threshold", "cannot hold all") and "DW105" in upper.checks[1]
    sure = of(replace(measured(FALLING), capacity={**counted, "low": 9e7, "high": 1.1e8}))
    assert sure.fill.zones == ("cannot hold all",) and "DW105" in {f.code for f in sure.checks[0]}


def test_nobody_looked_is_not_passed():
    assert "not applicable" in of(replace(measured(FALLING), near=None)).checks[1]["DW106"]


def test_a_target_is_read_off_or_never():
    assert of(measured(FALLING), target=1.1).rows_for_target.value == pytest.approx(6400, rel=0.2)
    assert "never" in str(of(measured(FALLING), target=0.5).rows_for_target)


def test_sizes_that_learnt_nothing_are_in_no_law_and_said():
    m = replace(measured(FALLING, fresh_K=np.array([2.3, 2.0, 1.6, 1.4, 1.3])), untouched_loss=2.3)
    assert of(m).curve.sizes_K.tolist() == list(SIZES)  # a language model knows most before it is tuned
    m = replace(m, loss_unit="nats/row")
    found = of(m)
    assert not isinstance(found.curve, str) and found.curve.sizes_K.tolist() == [125, 250, 500, 1000]
    assert "pilots of 62 rows learnt next to nothing yet and are in no law" in found.explain()
    dull = of(replace(m, untouched_loss=1.62))
    assert "only 2 sizes learnt anything" in dull.headline()


def test_a_language_model_s_numbers_are_shares_of_what_it_learnt():
    tuned = measured(2.0 + 0.2 * FALLING, noise=0.0)  # from 3.0 untouched to 2.25
    shown = replace(tuned, untouched=2.26)
    assert tuned.scale() == pytest.approx(0.7494, abs=1e-3) and shown.scale() == pytest.approx(0.0094, abs=1e-3)
    assert replace(tuned, untouched=None).scale() == pytest.approx(2.2506, abs=1e-3)
    assert replace(tuned, untouched=2.0).scale() is None
    flat = 2.0 + 0.05 * FALLING
    assert "More rows hardly help" in of(replace(measured(flat, noise=1e-4), untouched=9.0)).of_data()
    assert "hardly" not in of(replace(measured(flat, noise=1e-4), untouched=2.1)).of_data()


def test_the_first_sizes_of_a_language_model_that_gained_next_to_nothing_are_in_no_law():
    found = of(measured(np.array([2.99, 2.97, 2.6, 2.3, 2.1])))
    assert found.curve == "only 3 sizes learnt anything: a law takes 4; raise epochs in --recipe"
    assert "pilots of 62, 125 rows learnt next to nothing yet" in found.explain()
    assert all(measured(np.array([2.9, 2.8, 2.6, 2.3, 2.1])).learnt())


def test_pilots_that_did_best_after_the_longest_training_tell_no_rows_from_epochs():
    m = measured(FALLING)
    longer = tuple(replace(p, stop=p.stop * 0.9) if p.epochs == 4 and p.rows == 1000 else p for p in m.points)
    found = of(replace(m, points=longer))
    assert found.of_data().startswith("More rows or more epochs help, and these pilots can't tell which")
    assert "DW103" in {f.code for f in found.checks[0]}
    assert "with twice the epochs (at most" in found.what_would_tell()
    assert "with twice" not in of(m).what_would_tell()
    assert found.price_of(halvings(5000), epochs_by=2) > found.price_of(halvings(5000))
    alone = replace(m, points=tuple(p for p in m.points if p.epochs == 2))
    assert "because at 1,000 rows only one number of epochs was tried" in of(alone).of_data()


def test_a_longer_training_that_broke_down_isn_t_told_as_one_that_is_still_to_be_tried():
    m = measured(FALLING)
    broke = [replace(p, stop=None, failed="the loss is nan") if p.epochs == 4 else p for p in m.points]
    assert {max(loss_of) for loss_of in replace(m, points=tuple(broke)).stop_losses().values()} == {4}
    found = of(replace(m, points=tuple(broke)))
    assert found.of_data().startswith("More rows help") and "DW103" not in {f.code for f in found.checks[0]}
    again = tuple(replace(p, failed="not trained: a kill") if p.failed else p for p in broke)
    assert {max(loss_of) for loss_of in replace(m, points=again).stop_losses().values()} == {2}


def test_a_pool_that_makes_the_goal_worse_is_said_to():
    m = measured(np.array([3.8, 3.4, 3.1, 2.9, 2.78]))
    found = of(replace(m, untouched=2.4))
    assert found.headline().startswith("Training on these rows is worse than none: 2.77")
    assert "2.4 untouched" in found.headline() and "More rows help" not in found.headline()
    assert of(replace(m, untouched=3.9)).of_data().startswith("More rows")
    clean = of(replace(measured(FALLING), untouched=float(FALLING[-1]) * 0.97))
    assert "though 2,000 are predicted to reach 1.1" in clean.of_data()


def test_a_target_that_is_reached_already_takes_no_rows():
    m = measured(FALLING)
    there = replace(of(m), target=float(m.untouched) + 0.1)
    assert there.rows_for_target.high == 0.0
    assert "the untouched learner is there without any row" in there.explain()
    first = float(m.losses()[:, 0].mean())
    near = of(measured(FALLING, chains=2), target=first + 0.5)
    assert near.curve.reasons and not near.rows_for_target.refusal
    assert (near.rows_for_target.low, near.rows_for_target.high) == (0.0, m.sizes[0])


def test_repeats_are_fitted_only_where_pilots_were_repeated_and_say_how_sure_that_is():
    def runs(most: int, r_star: float) -> Measured:
        points = []
        for n in SIZES:
            for e in (1, 2, 4, 8):
                loss = 1.0 + 8.0 * (n * float(effective_multiple(e, r_star))) ** -0.5
                points += [Point(False, 0, n, e, loss, loss, loss, None)] if e <= most else []
        return replace(measured(FALLING), points=tuple(points))

    told = of(runs(8, 5.0)).repeats
    assert told.startswith("25% of the pool for 4 epochs counts as about 8,100 rows seen once") and "(R* = 5, " in told
    assert "fitted to one chain's pilots, 5 to 5 with all sizes or without one" in told
    assert "of language-model pretraining, not of this learner" in of(runs(2, 5.0)).repeats


def test_chains_are_drawn_where_no_law_is_fitted():
    found = of(measured(np.array([2.99, 2.97, 2.6, 2.3, 2.1])))
    assert isinstance(found.curve, str)
    (chart,) = diagnosis_sections(found)[1][0].charts
    assert chart.sizes_K == tuple(map(float, SIZES)) and len(chart.chains_CK) == 3
    assert chart.mean_M == pytest.approx(np.mean(chart.chains_CK, axis=0).tolist()) and not chart.band_M
    assert chart.line == "mean of chains"


def test_what_is_refused_for_one_reason_is_one_sentence():
    found = of(measured(2.0 + 0.0 * SIZES_K + 3.0 * SIZES_K**-0.1, pool=59_000))
    told = [line for line in found.lines() if "cannot tell, because" in line]
    assert len(told) == 1 and "59,000, 118,000, 590,000 rows" in told[0]


def test_what_the_larger_learner_gains_on_the_goal_is_told():
    (small, large) = of(measured(FALLING, larger=0.1)).of_larger()
    assert small.startswith("the larger learner (lora_r 32) gains 0.5") and "at 250 rows" in small
    assert "at 1,000 rows" in large


def test_plain_values_come_back():
    m = measured(FALLING, train_K=FALLING, larger=0.1)
    assert Measured.from_dict(m.to_dict()) == m
