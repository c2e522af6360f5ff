"""Small pictures of image rows, stored with a run so that its page shows what was kept and dropped."""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import MissingExtra
from dataworth.records import Example

WIDEST = 64
"""Most pixels of a thumbnail either way."""
_CHANNELS = (1, 3, 4)


def thumbnail(example: Example) -> bytes | None:
    """An image row as a small PNG; None for other rows, for an image that can't be decoded here, and without Pillow."""
    from dataworth.learners.labelled import array_of
    from dataworth.learners.load import require

    if example.schema != "labelled_image":
        return None
    try:
        require("PIL", "a small picture", extra="vision")
        x_CHW = array_of(example)
    except (ValueError, MissingExtra):  # what shows rows is no reason to end a run
        return None
    if x_CHW.ndim != 3 or x_CHW.shape[0] not in _CHANNELS:
        return None
    x_HWC = _bytes_of(x_CHW).transpose(1, 2, 0)
    picture = importlib.import_module("PIL.Image").fromarray(x_HWC[:, :, 0] if x_HWC.shape[2] == 1 else x_HWC)
    picture.thumbnail((WIDEST, WIDEST))
    png = io.BytesIO()
    picture.save(png, "PNG")
    return png.getvalue()


def _bytes_of(x_CHW: NDArray[Any]) -> NDArray[np.uint8]:
    """Brightness as bytes; numbers beyond 0 to 1, as standardised ones are, from the darkest to the brightest."""
    if x_CHW.dtype == np.uint8:
        return x_CHW
    low, high = float(x_CHW.min()), float(x_CHW.max())
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    return np.round(255 * (x_CHW.astype(np.float64) - low) / (high - low if high > low else 1.0)).astype(np.uint8)
