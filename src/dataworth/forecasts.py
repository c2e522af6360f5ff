"""Forecasts of worth in the verbs: made by `select` and `plan`, scored by every proof, kept beside the cache.

`<cache>/forecasts.jsonl` holds what proofs found of forecast picks, one line each; the last line of a key counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dataworth.errors import FormatError, RequestError
from dataworth.proof.forecast import Forecast, Outcome, calibration, differential, forecast, top_differential
from dataworth.results import Pick, Score, Scored, Selection
from dataworth.session import Session
from dataworth.store.atomic import write_atomic
from dataworth.store.fingerprint import fingerprint
from dataworth.store.lock import EntryLock

if TYPE_CHECKING:
    from dataworth.proof.result import ProofResult

LEDGER = "forecasts.jsonl"
_TRIES = 100


def known_outcomes(root: Path) -> list[Outcome]:
    """What proofs found so far.

    Raises:
        FormatError: A line other than a torn last one can't be read.
    """
    return list(_read(root / LEDGER).values())


def _read(path: Path) -> dict[str, Outcome]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    found: dict[str, Outcome] = {}
    for n, line in enumerate(lines, 1):
        try:
            if line:
                told = json.loads(line)
                y, d = float(told["y"]), float(told["differential"])
                found[told["key"]] = Outcome(str(told["method"]), d, y, bool(told["held"]))
        except (ValueError, TypeError, KeyError) as error:
            if n < len(lines):  # a killed process leaves a last line without its end
                raise FormatError(
                    f"{path} line {n} is no outcome of a forecast: delete the line or the file"
                ) from error
    return found


def keep_outcome(root: Path, key: str, outcome: Outcome) -> None:
    """Add what a proof found; another proof of the same pick for the same goal and learner replaces it."""
    for left in range(_TRIES, -1, -1):
        try:
            with EntryLock(root):
                found = _read(root / LEDGER) | {key: outcome}
                lines = [json.dumps({"key": k, **o.to_dict()}) + "\n" for k, o in found.items()]
                write_atomic(root / LEDGER, "".join(lines).encode())
            return
        except RequestError:  # another proof writes its line, which takes a moment
            if not left:
                raise
            time.sleep(0.1)


def forecast_subject(session: Session, ids: Sequence[str]) -> dict[str, str | None]:
    """What a forecast is about: pool, goal, the rows picked, and the learner where the pick knew one."""
    card = None
    if session.request.model is not None:
        card = session.classifier if session.classifies else session.learner
    return {
        "pool": session.pool.fingerprint,
        "goal": session.goal.fingerprint if session.goal else None,
        "picked": fingerprint({"ids": sorted(ids)}),
        "learner": card.fingerprint if card else None,
    }


def is_about(of: Mapping[str, str | None] | None, subject: Mapping[str, str | None]) -> bool:
    """Whether a forecast is about what is proved: a pick that knew no learner is about any."""
    return of is not None and all(
        of.get(k) in (v, None) if k == "learner" else of.get(k) == v for k, v in subject.items()
    )


def score_forecasts(root: Path, proof: ProofResult, keys: Mapping[str, str]) -> list[str]:
    """Keep what a finished proof found of the forecasts of its subjects, and say how forecasts have done so far.

    Args:
        root: Of the cache.
        proof: With the forecasts that are about its subjects.
        keys: Of those subjects: one for the same rows, pool, goal and learner, however often they are proved.
    """
    for name, told in proof.sizes.forecast.items():
        outcome = told.outcome(proof.sizes.worth[name])
        if outcome is not None:
            keep_outcome(root, keys[name], outcome)
    return [calibration(known_outcomes(root))] if proof.sizes.forecast else []


def forecast_pick(session: Session, method: Score, pick: Pick, scored: Scored, selection: Selection) -> Forecast:
    """What the rows just picked will be worth."""
    outcomes, rows = known_outcomes(session.cache.root), len(selection.ids)
    if not _ranks(method, pick):
        return forecast("random", rows, 0.0, outcomes)
    from scipy.stats import rankdata  # a second of every command's start, were it above

    sign = 1.0 if (scored.higher or method.higher) == "keep" else -1.0
    left_N = np.array([i in session.excluded for i in session.pool.ids], dtype=bool)
    value_N = np.where(left_N, np.nan, sign * scored.values_N)
    return forecast(method.name, rows, differential(rankdata(value_N, nan_policy="omit"), selection.kept_N), outcomes)


def forecast_plan(session: Session, method: Score, pick: Pick, rows: int, of: int) -> Forecast:
    """What the best `rows` of `of` rows will be worth, before they are scored."""
    outcomes = known_outcomes(session.cache.root)
    if not _ranks(method, pick):
        return forecast("random", rows, 0.0, outcomes)
    return forecast(method.name, rows, top_differential(rows, of), outcomes)


def _ranks(method: Score, pick: Pick) -> bool:
    """Whether the pick says anything: a random one, or one by random numbers, is worth its rows."""
    return "score" in pick.needs and method.name != "random"
