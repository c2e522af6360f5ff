"""The simulation that checks proofs: its own arithmetic, and small runs of what `reproductions` runs at full size."""

from __future__ import annotations

import numpy as np
import pytest

from dataworth.proof.calibration import Components, Rate, chance_verdicts, false_verdicts, worth_coverage
from dataworth.proof.looks import looks_at

SIZES = np.array([88.0, 175.0, 350.0, 700.0, 1400.0])
PARTS = Components(0.004, 0.003, SIZES, 1.2 + 2 * SIZES**-0.5, 1.6)


def test_bounds_are_clopper_and_pearsons() -> None:
    assert Rate(0, 100).upper == pytest.approx(1 - 0.05 ** (1 / 100))
    assert Rate(100, 100).upper == 1.0
    assert Rate(50, 1000).upper == pytest.approx(0.06302, abs=2e-4)
    assert Rate(3, 20).to_dict()["share"] == 0.15


@pytest.mark.parametrize("seeds", [(5,), (3, 5, 8)])
def test_equal_arms_and_arms_at_the_margin_are_rarely_called_wrongly(seeds: tuple[int, ...]) -> None:
    looks = looks_at(seeds)
    null = false_verdicts(PARTS, looks, proofs=400, margin=0.008, seed=1)
    edge = false_verdicts(PARTS, looks, proofs=400, margin=0.008, shift=0.008, seed=2)
    assert null["false"]["share"] < 0.06
    assert edge["false"]["share"] < 0.06
    assert null["words"]["as good as"] > 100, "silence is not a virtue"
    assert sum(null["words"].values()) == 800
    assert chance_verdicts(PARTS, looks, proofs=400)["false"]["share"] < 0.06


def test_a_large_shift_is_no_false_verdict_but_a_found_one() -> None:
    found = false_verdicts(PARTS, looks_at((5,)), proofs=50, shift=0.1, margin=0.1)
    assert found["words"]["worse"] == 100


def test_a_model_that_learned_nothing_is_told() -> None:
    parts = Components(0.004, 0.003, SIZES, 1.2 + 2 * SIZES**-0.5, 1.0)
    found = false_verdicts(parts, looks_at((5,)), proofs=50)
    assert found["cannot_tell"]["share"] == 1.0


def test_worth_is_covered_and_the_simulation_repeats() -> None:
    found = worth_coverage(PARTS, chains=5, seeds=5, proofs=300)
    assert 0.85 <= found["coverage"] <= 0.95
    assert 1.0 < found["median_high_over_low"] < 2.0
    assert found == worth_coverage(PARTS, chains=5, seeds=5, proofs=300)
