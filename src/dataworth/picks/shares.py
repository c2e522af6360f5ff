"""Shares of the eligible rows, as picks' options and formulas count them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.records import Budget


def rows_of(option: str, amount: float, eligible: int) -> int:
    """Rows that an option stands for: a share of the eligible ones below 1, else a number.

    Raises:
        RequestError: A negative amount, or no finite number.
    """
    if not 0 <= amount < float("inf"):
        raise RequestError(f"{option}={amount}: expected a share below 1 or a number of rows; correct that --option")
    return int(amount * eligible + 1e-9) if amount < 1 else int(amount)


def passed_over(
    option: str, amount: float, ranking: NDArray[np.int64], budget: Budget, inputs: Mapping[str, Any]
) -> int:
    """How many rows at the top of a ranking an option passes over, fewer where a budget of rows needs them.

    Raises:
        RequestError: An amount that `rows_of` refuses, or one that leaves no row of a token budget.
    """
    passed = rows_of(option, amount, len(ranking))
    if budget.unit != "tokens":
        return min(passed, max(0, len(ranking) - budget.rows(len(inputs["ids"]))))
    if len(ranking) and passed >= len(ranking):
        raise RequestError(
            f"{option}={amount:g} passes over all {len(ranking)} rows: expected less; correct --option {option}"
        )
    return passed


def kept_share(budget: Budget, ranking: NDArray[np.int64], inputs: Mapping[str, Any]) -> float:
    """What share of the eligible rows, or of their tokens, a budget keeps."""
    if budget.unit != "tokens":
        return min(1.0, budget.rows(len(inputs["ids"])) / max(1, len(ranking)))
    tokens = inputs.get("tokens_N")
    there = 0.0 if tokens is None else float(np.asarray(tokens, dtype=np.float64)[ranking].sum())
    return min(1.0, budget.amount / max(1.0, there))
