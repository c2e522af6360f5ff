"""Small pictures of image rows, stored with a run so that its page shows what was kept and dropped."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import MissingExtra
from dataworth.records import Example

WIDEST = 64
"""Most pixels of a thumbnail either way."""
_COLOURS = {1: 0, 3: 2, 4: 6}
"""Channels -> PNG's number for grey, RGB and RGBA."""


def thumbnail(example: Example) -> bytes | None:
    """An image row as a small PNG; None for other rows, and for an image that can't be decoded here."""
    from dataworth.learners.labelled import array_of

    if example.schema != "labelled_image":
        return None
    try:
        x_CHW = array_of(example)
    except (ValueError, MissingExtra):  # what shows rows is no reason to end a run
        return None
    if x_CHW.ndim != 3 or x_CHW.shape[0] not in _COLOURS:
        return None
    return _png(_bytes_of(_shrunk(x_CHW.transpose(1, 2, 0).astype(np.float64)), x_CHW.dtype == np.uint8))


def _shrunk(x_HWC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of equal blocks, those at the far edges perhaps smaller."""
    step = -(-max(x_HWC.shape[:2]) // WIDEST)
    for axis in (0, 1):
        starts = np.arange(0, x_HWC.shape[axis], step)
        size = np.diff(np.append(starts, x_HWC.shape[axis]))
        x_HWC = np.add.reduceat(x_HWC, starts, axis=axis) / np.expand_dims(size, [a for a in range(3) if a != axis])
    return x_HWC


def _bytes_of(x_HWC: NDArray[np.float64], is_bytes: bool) -> NDArray[np.uint8]:
    """Brightness as bytes; numbers beyond 0 to 1, as standardised ones are, from the darkest to the brightest."""
    if not is_bytes:
        low, high = float(x_HWC.min()), float(x_HWC.max())
        low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
        x_HWC = 255 * (x_HWC - low) / (high - low if high > low else 1.0)
    return np.round(x_HWC).astype(np.uint8)


def _png(x_HWC: NDArray[Any]) -> bytes:
    """Bytes `[H, W, C]` as a PNG; Pillow is an extra, which arrays of pixels do without."""
    height, width, channels = x_HWC.shape
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    lines = np.pad(x_HWC.reshape(height, -1), ((0, 0), (1, 0)))  # each line begins with its filter, 0 for none
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    told = (struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(told)
