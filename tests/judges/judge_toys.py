"""Judges as a user would write them."""

import json
from pathlib import Path

CALLS = []


def count_words(model, rows):
    CALLS.append((model, rows))
    return {row["id"]: len(json.dumps(row).split()) for row in rows}


def size_of_model(model, rows):
    return sum(p.stat().st_size for p in Path(model).glob("*.safetensors")) / len(rows)


def some(model, rows):
    return {rows[0]["id"]: 1}


def strange(model, rows):
    return {"zzz": 1.0}


def nothing(model, rows):
    return None


def infinite(model, rows):
    return {rows[0]["id"]: float("inf")}


def broken(model, rows):
    raise KeyError("answer\nis missing")


NO_FUNCTION = 5
