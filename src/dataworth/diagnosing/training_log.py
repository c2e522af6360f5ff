"""A training's log as `--training-log` names it: accuracies by step, from JSON lines or CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dataworth.errors import RequestError
from dataworth.laws.delayed import Delayed, delayed_generalisation

STEP, TRAIN, VALIDATION = "step", "train_accuracy", "val_accuracy"


def read_log(path: Path) -> Delayed:
    """What a log shows of delayed generalisation.

    Several lines may share a step, each with another of the numbers; lines without a step are other things' and left
    out.

    Raises:
        RequestError: The file isn't there, holds no such columns, or a number that isn't one.
    """
    if not path.is_file():
        raise RequestError(f"--training-log {path} isn't there: expected a .jsonl or .csv; correct the path")
    by_step: dict[float, dict[str, float]] = {}
    for number, row in enumerate(_rows(path), 1):
        values = {name: _number(row[name], path, number) for name in (STEP, TRAIN, VALIDATION) if _said(row, name)}
        if STEP in values:
            by_step.setdefault(values.pop(STEP), {}).update(values)
    steps = sorted(by_step)
    train, validation = ([by_step[s].get(name, math.nan) for s in steps] for name in (TRAIN, VALIDATION))
    if np.isnan(train).all() or np.isnan(validation).all():
        raise RequestError(
            f"--training-log {path}: {len(steps)} steps without {TRAIN} or {VALIDATION}: expected columns {STEP}, "
            f"{TRAIN} and {VALIDATION}; rename yours"
        )
    return delayed_generalisation(steps, train, validation)


def _said(row: Mapping[str, Any], name: str) -> bool:
    return row.get(name) not in (None, "")


def _number(value: Any, path: Path, number: int) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RequestError(
            f"--training-log {path}, row {number}: {str(value)[:40]!r} isn't a number; correct it"
        ) from error


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    """Rows of the file, by its ending.

    Raises:
        RequestError: A line that isn't a JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"--training-log {path} isn't UTF-8 text ({error.reason}); save it as such") from error
    if path.suffix.lower() == ".csv":
        try:
            return list(csv.DictReader(text.splitlines()))
        except csv.Error as error:
            raise RequestError(f"--training-log {path} isn't CSV ({error}); correct it") from error
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise RequestError(f"--training-log {path}, line {number} isn't JSON ({error.msg}); correct it") from error
        if not isinstance(row, dict):
            raise RequestError(f"--training-log {path}, line {number}: expected an object; correct it")
        out.append(row)
    return out
