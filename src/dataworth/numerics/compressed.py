"""Sizes of texts after compression: alone, beside another text, and after all that was kept before.

zlib looks back 32 KiB and no further: what a longer text repeats from before that, it doesn't see. So longer texts are
measured by zstandard, whose window holds them. One measurement never mixes the two.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import zstandard
from numpy.typing import NDArray

from dataworth.errors import RequestError

WINDOW = 32 * 1024
"""Bytes that zlib looks back."""
_WIDE_LEVEL = 12
_WIDE_FRAME = len(zstandard.ZstdCompressor(level=_WIDE_LEVEL, write_content_size=False).compress(b""))


def as_bytes(text: str) -> bytes:
    """UTF-8 bytes; half a surrogate pair, which has none, is kept as the three bytes it would have."""
    return text.encode("utf-8", "surrogatepass")


def checked_level(level: int) -> int:
    """The level, if zlib compresses at it.

    Raises:
        RequestError: 0, at which zlib only copies and every distance is alike, or no level.
    """
    if not isinstance(level, int) or not 1 <= level <= 9:
        raise RequestError(f"level={level!r}: expected 1 to 9 (0 does not compress); correct --option level")
    return level


def ratio(data: bytes, level: int = 9) -> float:
    """Bytes before over bytes after compression: how redundant a text is in itself; NaN for an empty one."""
    return len(data) / _size(data, level, wide=len(data) > WINDOW) if data else float("nan")


def ncd(x: bytes, y: bytes, level: int = 9) -> float:
    """Normalised compression distance, (C(xy) - min(C(x), C(y))) / max(C(x), C(y)): near 0 for copies, 1 for strangers.

    Source: Cilibrasi and Vitanyi 2005.
    """
    wide = len(x) + len(y) > WINDOW
    alone = _size(x, level, wide), _size(y, level, wide)
    return (_size(x + y, level, wide) - min(alone)) / max(alone)


def _size(data: bytes, level: int, wide: bool) -> int:
    if not wide:
        return len(zlib.compress(data, level))
    chosen = zstandard.ZstdCompressionParameters.from_level(
        _WIDE_LEVEL, source_size=len(data), window_log=max(10, min(27, len(data).bit_length()))
    )
    return len(zstandard.ZstdCompressor(compression_params=chosen).compress(data))


class After:
    """What texts cost after an anchor text that has been seen, however long: a zstandard dictionary of it."""

    def __init__(self, anchor: bytes) -> None:
        if anchor:
            seen = zstandard.ZstdCompressionDict(anchor, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
            seen.precompute_compress(level=_WIDE_LEVEL)
            self._by = zstandard.ZstdCompressor(level=_WIDE_LEVEL, dict_data=seen, write_content_size=False)
        else:
            self._by = zstandard.ZstdCompressor(level=_WIDE_LEVEL, write_content_size=False)

    def cost(self, data: bytes) -> int:
        """Bytes that `data` adds, without the frame that every compressed text has; at least 1."""
        return max(1, len(self._by.compress(data)) - _WIDE_FRAME)


def minus_peers(values_N: NDArray[np.float64], bytes_N: Sequence[int]) -> NDArray[np.float64]:
    """Each value minus the median of the rows of similar length: of the same power of two in bytes."""
    out = np.array(values_N, dtype=np.float64)
    bucket_N = np.fromiter((n.bit_length() for n in bytes_N), dtype=np.int64, count=len(bytes_N))
    known_N = ~np.isnan(out)
    for bucket in np.unique(bucket_N[known_N]):
        peers = np.flatnonzero(known_N & (bucket_N == bucket))
        out[peers] -= np.median(out[peers])
    return out
