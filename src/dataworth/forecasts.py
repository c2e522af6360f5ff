"""Forecasts of worth in the verbs: made by `select` and `plan`, scored by every proof, kept beside the cache.

`<cache>/forecasts.jsonl` holds what proofs found of forecast picks, one line each; the last line of a key counts.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy import stats

from dataworth.errors import FormatError
from dataworth.proof.forecast import Forecast, Outcome, calibration, differential, forecast, top_differential
from dataworth.proof.result import ProofResult
from dataworth.results import Pick, Score, Scored, Selection
from dataworth.session import Session

LEDGER = "forecasts.jsonl"


def known_outcomes(root: Path) -> list[Outcome]:
    """What proofs found so far.

    Raises:
        FormatError: A line other than a torn last one can't be read.
    """
    path = root / LEDGER
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    found: dict[str, Outcome] = {}
    for n, line in enumerate(lines, 1):
        try:
            if line:
                told = json.loads(line)
                key = told.pop("key")
                found[key] = Outcome(**told)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if n < len(lines):  # a killed process leaves a last line without its end
                raise FormatError(
                    f"{path} line {n} is no outcome of a forecast: delete the line or the file"
                ) from error
    return list(found.values())


def keep_outcome(root: Path, key: str, outcome: Outcome) -> None:
    """Add what a proof found; the same proof again replaces it."""
    path = root / LEDGER
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.exists() and not path.read_bytes().endswith(b"\n")
    if torn:  # drop what a killed process left, so that it stays the last line no longer
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"key": key, **outcome.to_dict()}) + "\n")


def score_forecasts(root: Path, proof: ProofResult, key: str) -> list[str]:
    """Keep what a finished proof found of the forecasts of its subjects, and say how forecasts have done so far."""
    for name, told in proof.sizes.forecast.items():
        outcome = told.outcome(proof.sizes.worth[name])
        if outcome is not None:
            keep_outcome(root, f"{key} {name}", outcome)
    return [calibration(known_outcomes(root))] if proof.sizes.forecast else []


def forecast_pick(session: Session, method: Score, pick: Pick, scored: Scored, selection: Selection) -> Forecast:
    """What the rows just picked will be worth."""
    outcomes, rows = known_outcomes(session.cache.root), len(selection.ids)
    if "score" not in pick.needs:
        return forecast(pick.name, rows, 0.0, outcomes)
    sign = 1.0 if method.higher == "keep" else -1.0
    left_N = np.array([i in session.excluded for i in session.pool.ids], dtype=bool)
    value_N = np.where(left_N, np.nan, sign * scored.values_N)
    return forecast(
        method.name, rows, differential(stats.rankdata(value_N, nan_policy="omit"), selection.kept_N), outcomes
    )


def forecast_plan(session: Session, method: Score, pick: Pick, rows: int, of: int) -> Forecast:
    """What the best `rows` of `of` rows will be worth, before they are scored."""
    outcomes = known_outcomes(session.cache.root)
    if "score" not in pick.needs:
        return forecast(pick.name, rows, 0.0, outcomes)
    return forecast(method.name, rows, top_differential(rows, of), outcomes)
