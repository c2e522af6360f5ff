"""What a proof's result says of its arms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.made_proofs import arm, proof_result


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
    told = replace(made, arms=arms).explain()
    assert "per row small is worth more than large (their sets lie apart)" in told
    assert "mean of each judged set" not in told
    both = tuple(replace(a, subtasks={"maths": 1.25, "code": 2.5}) for a in arms)
    header, rows = replace(made, arms=both).judged_table() or ((), [])
    assert header == ("arm", "maths", "code") and rows[0] == ["large", "1.2500", "2.5000"]
    assert "mean of each judged set" in replace(made, arms=both).explain()
