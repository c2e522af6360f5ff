"""One line of JSON whatever the data holds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dataworth.views.as_json import dump


class Holds:
    def __init__(self, value: Any) -> None:
        self.value = value

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value}


@pytest.mark.parametrize("value", [1.5, "é", "lone \ud800", 2**70, ["\udcff", 2**70], {"\ud800": 1}])
def test_any_value_comes_back(value: Any) -> None:
    text = dump(Holds(value))
    assert text.encode().count(b"\n") == 0
    assert json.loads(text) == {"value": value}


def test_numpy_numbers_are_plain_numbers() -> None:
    assert json.loads(dump(Holds(np.array([1, 2])))) == {"value": [1, 2]}
    assert json.loads(dump(Holds(float("nan")))) == {"value": None}
