"""What a proof's result says of its arms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.made_proofs import arm, proof_result

from dataworth.proof.result import ProofResult


def test_a_size_of_the_curve_whose_trials_are_an_arms_is_told_once(tmp_path: Path) -> None:
    costs = (1.2, 1.21, 1.19)
    arms = (
        arm("picked", "subject", (1.0, 1.01, 0.99)),
        arm("random", "random", costs),
        arm("random 250", "curve", (1.4, 1.41, 1.39), rows=250),
        arm("random 500", "curve", costs),
        arm("random 1000", "curve", (), rows=1000),
    )
    found = replace(proof_result(tmp_path), arms=arms, untouched=None)
    assert [row[0] for row in found.arm_table()[1]] == ["picked", "random", "random 250", "random 1000"]
    assert len(found.to_dict()["arms"]) == 5


def test_a_skill_that_was_lost_is_told_of_every_verdict_for_the_subject(tmp_path: Path) -> None:
    made = proof_result(tmp_path, worth_of=2000, margin=0.1, noise=0.001)
    assert [v.word for v in made.verdicts] == ["better", "as good as"]
    kept = [replace(k, broken=k.arm == "picked") for k in made.protected]
    lost = replace(made, protected=tuple(kept))
    assert all(", at the cost of wikipedia" in lost.sentence(v) for v in lost.verdicts)
    none = replace(made, protected=tuple(replace(k, broken=False) for k in kept))
    assert not any("at the cost" in none.sentence(v) for v in none.verdicts)


def test_subsets_of_different_sizes_are_compared_per_row_and_every_judged_set_is_shown(tmp_path: Path) -> None:
    made = proof_result(tmp_path, subjects=("large", "small"), noise=0.001)
    assert "per row" not in made.explain()
    arms = tuple(replace(a, rows=50) if a.name == "small" else a for a in made.arms)
    assert "per row no difference shown between large and small" in replace(made, arms=arms).explain()
    shown = replace(made, arms=arms, sizes=replace(made.sizes, per_row=(("small", "large"),)))
    told = shown.explain()
    assert "per row small is worth more than large (their sets lie apart" in told
    assert ProofResult.from_dict(made.run, json.loads(json.dumps(shown.to_dict())), {}).explain() == told
    assert "mean of each judged set" not in told
    both = tuple(replace(a, subtasks={"maths": 1.25, "code": 2.5}) for a in arms)
    header, rows = replace(made, arms=both).judged_table() or ((), [])
    assert header == ("arm", "maths", "code") and rows[0] == ["large", "1.2500", "2.5000"]
    assert "mean of each judged set" in replace(made, arms=both).explain()


def test_as_good_as_says_where_it_is_worse_by_less_than_the_margin(tmp_path: Path) -> None:
    made = proof_result(tmp_path, worth_of=1500, margin=0.2, noise=0.001)
    full = next(v for v in made.verdicts if v.comparator == "full")
    assert full.word == "as good as" and full.gain is not None and full.gain.high < 0
    assert full.words == "as good as full (worse by less than 0.2)"
    assert made.sentence(full).endswith("was detectable; the margin is 0.2]") and "% interval" in made.sentence(full)
    near = proof_result(tmp_path, worth_of=2000, margin=0.2, noise=0.02)
    assert next(v for v in near.verdicts if v.comparator == "full").words == "as good as full (within 0.2)"


def test_the_interval_of_a_share_of_rows_ends_at_nothing_and_at_all(tmp_path: Path) -> None:
    made = proof_result(tmp_path, higher="better")
    sure = arm("picked", "subject", (-0.99, -0.98, -0.2))
    assert made.ends(sure) == (pytest.approx(-sure.interval.high if sure.interval.high < 0 else 0.0), 1.0)
    lossy = replace(made, unit="nats/token", higher="worse")
    high = arm("picked", "subject", (2.0, 5.0, 9.0))
    assert lossy.ends(high) == (high.interval.low, high.interval.high)


def test_where_comparisons_stand_is_told_with_the_trials_of_both(tmp_path: Path) -> None:
    made = proof_result(tmp_path, controls=("random",))
    fewer = replace(made, arms=tuple(replace(a, costs=a.costs[:3]) if a.name == "picked" else a for a in made.arms))
    (line,) = fewer.interim()
    assert line.startswith("interim: gain of picked over random ") and line.endswith(
        ", by 3 and 5 trials; 5 seeds are planned"
    )
    unknown = replace(made, verdicts=tuple(replace(v, gain=None) for v in made.verdicts))
    assert unknown.interim() == []
