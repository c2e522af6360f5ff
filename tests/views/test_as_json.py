"""Every result is one line of standard JSON, whatever its data holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataworth.demo import DemoResult
from dataworth.results import (
    CacheReport,
    PlanResult,
    ReplayResult,
    SampleRow,
    Scored,
    ScoreResult,
    Selection,
    SelectResult,
    Stage,
)
from dataworth.views.as_json import dump

ROW = SampleRow("a", "text", float("nan"), "why")
SELECTION = Selection(
    ("a",), np.ones(1), np.array([True, False]), np.array([0, 1], np.uint8), ("k", "d"), {"k": "kept", "d": "dropped"}
)
SELECT = SelectResult(
    Path("r"), "m", "p", SELECTION, Scored(np.array([1.0, np.nan]), {"b": "x"}), (ROW,), (), {"seed": 0, "guards": []}
)
SCORED = {"m": Scored(np.array([1.0, 2.0]))}
NO_RHO: Mapping[str, Mapping[str, float]] = {"m": {"length": float("nan"), "random": 0.5}}
SCORE = ScoreResult(Path("r"), ("a", "b"), SCORED, NO_RHO, {"pool": {"rows": 2}})
STAGE = Stage("s", 1, 0, 3, 1.0, 4, None)
PLAN = PlanResult((STAGE,), STAGE, None, {"rates": {"x": np.float64(0.5)}}, {"lr": 1e-4}, ("note",))
REPLAY = ReplayResult(Path("r"), True, 2, False, ("a",), (), 0.125)
CACHE = CacheReport("on disk", {"tokens": 7})
DEMO = DemoResult(Path("d"), {"good": 1}, {"less": 1.0}, 0.5, {"x": 2.0}, (ROW,), (ROW,), 1.5)
RESULTS = [SELECT, SCORE, PLAN, REPLAY, CACHE, DEMO]


@dataclass
class Holds:
    """A result with one value."""

    value: Any

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value}


def strict(text: str) -> Any:
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("result", RESULTS, ids=lambda r: type(r).__name__)
def test_every_result_is_one_line_of_json_with_all_its_keys(result: Any) -> None:
    text = dump(result)
    assert "\n" not in text
    assert set(strict(text)) == set(result.to_dict())


def test_numbers_that_do_not_exist_are_null() -> None:
    assert strict(dump(SCORE))["methods"]["m"]["rho"] == {"length": None, "random": 0.5}
    assert strict(dump(SELECT))["kept_sample"][0]["score"] is None
    assert strict(dump(PLAN))["cpu_seconds"] is None


def test_paths_and_numpy_values_are_plain() -> None:
    found = strict(dump(Holds([Path("a/b"), np.int64(3), np.float32(0.5), np.arange(3), np.bool_(True)])))
    assert found["value"] == ["a/b", 3, 0.5, [0, 1, 2], True]


@pytest.mark.parametrize("odd", ["bad\udcff.jsonl", "\ud800", "a\udfffb"])
def test_what_utf8_can_not_hold_is_still_standard_json_with_its_numbers(odd: str) -> None:
    text = dump(replace(SCORE, run=Path(odd)))
    found = strict(text)
    assert found["run"] == odd
    assert found["methods"]["m"]["rho"] == {"length": None, "random": 0.5}
    assert text.isascii()
    numbers = strict(dump(Holds([odd, np.int64(3), np.float32(0.5), np.arange(2), float("inf"), np.bool_(True)])))
    assert numbers["value"] == [odd, 3, 0.5, [0, 1], None, True]


def test_integers_beyond_64_bits_keep_their_digits() -> None:
    assert strict(dump(Holds(2**70)))["value"] == 2**70


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    assert strict(dump(Holds(value)))["value"] == value


@pytest.mark.parametrize("value", [1.5, "é", "lone \ud800", 2**70, ["\udcff", 2**70], {"\ud800": 1}])
def test_any_value_comes_back_on_one_line(value: Any) -> None:
    text = dump(Holds(value))
    assert text.encode().count(b"\n") == 0
    assert strict(text) == {"value": value}
