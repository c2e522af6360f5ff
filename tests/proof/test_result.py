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
