"""Rows with a class: an image, a vector or a text under one of its usual names, and its label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from dataworth.formats.schemas.base import Columns, Schema, wrong
from dataworth.formats.schemas.text import NAMES as TEXTS

IMAGES = ("image", "img", "jpeg", "png", "pixels", "images", "x", "X")
VECTORS = ("vector", "embedding", "embeddings", "features", "x", "X")
LABELS = ("label", "labels", "class", "target", "y", "Y")


def _named(columns: Columns, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in columns), names[0])


def _label_problem(columns: Columns) -> str | None:
    name = _named(columns, LABELS)
    value = columns.get(name)
    return None if type(value) in (str, int) else wrong(columns, name, "a class: a word or a whole number")


def _image(columns: Columns) -> Any:
    """Encoded bytes or pixels [H, W] or [H, W, C]; None where it is neither."""
    value = columns.get(_named(columns, IMAGES))
    value = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(value, bytes):
        return value or None
    return value if isinstance(value, np.ndarray) and value.ndim in (2, 3) and value.size else None


def _vector(columns: Columns) -> Any:
    """Numbers [D], all finite; None where it is something else."""
    value = columns.get(_named(columns, VECTORS))
    if isinstance(value, np.ndarray):
        if value.ndim != 1 or not value.size or value.dtype.kind not in "fiu":
            return None
        with np.errstate(over="ignore"):
            found = value.astype(np.float32)
        return found if np.isfinite(found).all() else None
    if not isinstance(value, list) or not value or not all(type(v) in (int, float) for v in value):
        return None
    try:
        found = np.array(value, dtype=np.float32)
    except OverflowError:  # an integer beyond any float
        return None
    return found if np.isfinite(found).all() else None


def _text(columns: Columns) -> Any:
    value = columns.get(_named(columns, TEXTS))
    return value if type(value) is str else None


def _problem(names: tuple[str, ...], read: Callable[[Columns], Any], expected: str, columns: Columns) -> str | None:
    return wrong(columns, _named(columns, names), expected) if read(columns) is None else _label_problem(columns)


def _schema(name: str, names: tuple[str, ...], read: Callable[[Columns], Any], expected: str) -> Schema:
    return Schema(
        name,
        "classify",
        (names[0], "label"),
        (*names, *LABELS),
        partial(_problem, names, read, expected),
        lambda columns: (),
        text=_text if read is _text else lambda columns: "",
        content=lambda columns: None if read is _text else read(columns),
        label=lambda columns: columns[_named(columns, LABELS)],
    )


def holds_arrays(columns: Columns) -> bool:
    """Whether a row holds pixels, a vector or an encoded image under any name: it is meant as one with a class."""
    return any(map(_is_array, columns.values()))


def unclear(rows: Sequence[Columns]) -> str:
    """What is there, what is expected, and what to do, for rows of arrays that no schema fits."""
    row = rows[0]
    # Beside labels one-hot, the content is the larger array.
    data = max(filter(lambda name: _is_array(row[name]), row), key=lambda name: getattr(row[name], "size", 0))
    label = next((name for name, value in row.items() if type(value) in (str, int)), None)
    vector = isinstance(row[data], np.ndarray) and row[data].ndim == 1
    schema = VECTOR if vector else IMAGE
    objection = next(found for found in map(schema.problem, rows) if found)
    named = [f"{name} {list(value.shape)}" if isinstance(value, np.ndarray) else name for name, value in row.items()]
    advice = "save the file again with one class a row (of one-hot rows, y.argmax(axis=1))"
    if label:
        known = f"{schema.required[0]}={data} label={label}"
        advice = f"say which is what, every role at once: --map {known}, or save the file again with such names"
    return (
        f"a row holds {', '.join(named)}, and {objection}; expected {'a vector' if vector else 'an image'} under one "
        f"of the names {', '.join(VECTORS if vector else IMAGES)}, and a class, a word or a whole number, under one of "
        f"{', '.join(LABELS)}; {advice}"
    )


def _is_array(value: Any) -> bool:
    value = value.get("bytes") if isinstance(value, dict) else value
    return isinstance(value, bytes) or (isinstance(value, np.ndarray) and value.ndim > 0)


IMAGE = _schema("labelled_image", IMAGES, _image, "an encoded image, or pixels [H, W] or [H, W, C]")
VECTOR = _schema("labelled_vector", VECTORS, _vector, "a list of finite numbers")
TEXT = _schema("labelled_text", TEXTS, _text, "a string")
