"""Rows with a class as a classifier sees them: pixels or a vector, and the number of the class."""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.learners.load import require
from dataworth.records import Example

CHANNELS = (1, 3, 4)
Shape = tuple[int, ...]
"""Of one row: `(D,)` for vectors, `(C, H, W)` for images."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One row: uint8 pixels `[C, H, W]`, or float32 pixels or a vector `[D]`; why it can't be used, if it can't.

    `label` counts the learner's classes; -1 is a class that it doesn't know. Its length is 1: training on a row costs
    one row, whatever it shows.
    """

    id: str
    x: NDArray[Any] = field(compare=False)
    label: int = -1
    reason: str = ""

    def __len__(self) -> int:
        return 1

    @property
    def targets(self) -> int:
        """How much of the row carries loss: its one label."""
        return int(self.label >= 0)

    @property
    def said(self) -> list[Any]:
        """What decides a training on it, as plain values."""
        return [hashlib.sha256(self.x.tobytes()).hexdigest(), str(self.x.dtype), *self.x.shape, self.label]


class LabelledEncoder:
    """Makes rows of one shape and known classes.

    Args:
        classes: Labels in the order of the learner's outputs.
        shape: Of one row; `shape_of` the first row, usually.
    """

    def __init__(self, classes: Sequence[str | int], shape: Shape) -> None:
        self.classes, self.shape = tuple(classes), tuple(shape)
        self._number = {str(label): n for n, label in enumerate(self.classes)}  # 1 and "1" are one class

    @property
    def spec(self) -> dict[str, Any]:
        """What decides the arrays that come out."""
        return {"classes": list(self.classes), "shape": list(self.shape)}

    def encode(self, example: Example) -> Labelled:
        """The row; one that can't be used says why and holds nothing."""
        nothing = np.zeros(0, np.float32)
        try:
            x = array_of(example)
        except ValueError as error:
            return Labelled(example.id, nothing, reason=str(error))
        if x.shape != self.shape:
            return Labelled(example.id, nothing, reason=f"its shape is {x.shape}, the others' {self.shape}")
        label = self._number.get(str(example.label), -1) if example.label is not None else -1
        why = "" if label >= 0 else f"its class {example.label!r} is none of the pool's {len(self.classes)}"
        return Labelled(example.id, x, label, why)


def array_of(example: Example) -> NDArray[Any]:
    """Pixels `[C, H, W]` (uint8 stays so) or a vector `[D]` of a row.

    Raises:
        ValueError: It holds neither, or an image that can't be decoded.
    """
    content = example.content
    if isinstance(content, bytes):
        return _decoded(content)
    if content is None:
        raise ValueError("it holds no image and no vector")
    found = np.asarray(content)
    if found.dtype != np.uint8:
        whole = found.dtype.kind in "iu" and found.ndim > 1 and found.min() >= 0 and found.max() <= 255
        found = found.astype(np.uint8 if whole else np.float32)
    if found.dtype == np.float32 and not np.isfinite(found).all():
        raise ValueError("it holds numbers that aren't finite")
    if found.ndim == 2:
        return found[None]
    last = found.ndim == 3 and found.shape[-1] in CHANNELS
    return np.ascontiguousarray(found.transpose(2, 0, 1)) if last else found


def _decoded(content: bytes) -> NDArray[np.uint8]:
    """An encoded image as RGB.

    Raises:
        MissingExtra: Pillow isn't installed.
        ValueError: It can't be decoded.
    """
    require("PIL", "an encoded image", extra="vision")
    image = importlib.import_module("PIL.Image")
    try:
        with image.open(io.BytesIO(content)) as opened:
            pixels = np.asarray(opened.convert("RGB"))
    except importlib.import_module("PIL").UnidentifiedImageError as error:  # whose text names an address in memory
        raise ValueError("its bytes are no image that can be decoded") from error
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:
        raise ValueError(f"its image can't be decoded ({str(error).splitlines()[0]})") from error
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
