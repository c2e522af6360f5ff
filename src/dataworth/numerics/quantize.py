"""Feature rows in a few bits: direction as codes, length apart.

A row x of width P is stored as its direction u = x / |x| in integer (or half-precision) codes q, a float32 `scale`
and its float32 `norm`:

    step = max|u| / levels,   q = round(u / step),   scale = 1 / |q|_2,   x ~ norm * scale * q

so a stored direction has unit length by construction and cosines need no correction. With levels = 127 (`int8`) or
7 (`int4`, two codes a byte) rounding moves u by a vector e with |e_j| <= step / 2, hence |e| <= d = step * sqrt(P) / 2,
and the stored direction lies within an angle asin(d) of the true one (d < 1): a cosine with any goal is off by at most
that angle. Against a goal unrelated to the rounding the error has standard deviation step / sqrt(12). `fp16` keeps
u / max|u|: relative error 2^-11 an entry.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import NonsenseRefused, RequestError

Format = Literal["int8", "fp16", "int4"]
LEVELS = {"int8": 127, "int4": 7}


class Quantized(NamedTuple):
    """Rows in codes: `codes_NP` int8 [N, P], float16 [N, P] or uint8 [N, ceil(P / 2)]; `scale_N`, `norm_N` float32."""

    codes_NP: NDArray[Any]
    scale_N: NDArray[np.float32]
    norm_N: NDArray[np.float32]


def refusals(x_NP: NDArray[Any]) -> dict[int, str]:
    """Rows that must not be stored, position -> reason: non-finite entries, or nothing but zeros."""
    peak_N = np.abs(x_NP).max(axis=1)
    bad = {int(i): "its features are not finite" for i in np.flatnonzero(~np.isfinite(peak_N))}
    return bad | {int(i): "its features are all zero" for i in np.flatnonzero(peak_N == 0)}


def quantize(x_NP: NDArray[Any], fmt: Format = "int8") -> Quantized:
    """Store rows of float features in `fmt`.

    Raises:
        NonsenseRefused: A row is zero or not finite (drop those named by `refusals` first).
        RequestError: An unknown format.
    """
    if fmt not in get_args(Format):
        raise RequestError(f"feature format {fmt!r}: expected one of {', '.join(get_args(Format))}; correct the spec")
    bad = refusals(x_NP)
    if bad:
        i, reason = next(iter(sorted(bad.items())))
        raise NonsenseRefused(f"feature row {i}: {reason}; expected a finite, nonzero row; list it as unscored instead")
    peak_N = np.abs(x_NP).max(axis=1).astype(np.float64)
    # Divided by its largest entry first, a row's squares neither overflow nor vanish.
    unit_NP = (x_NP / peak_N[:, None]).astype(np.float32)
    norm_N = (peak_N * _lengths(unit_NP)).astype(np.float32)
    if fmt == "fp16":
        codes_NP = unit_NP.astype(np.float16)
        return Quantized(codes_NP, (1.0 / _lengths(codes_NP)).astype(np.float32), norm_N)
    q_NP = np.rint(unit_NP * LEVELS[fmt]).astype(np.int8)
    scale_N = (1.0 / _lengths(q_NP)).astype(np.float32)
    return Quantized(q_NP if fmt == "int8" else pack_int4(q_NP), scale_N, norm_N)


def directions(codes_NP: NDArray[Any], scale_N: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Unit rows [N, width] from codes of any format (the format follows from the dtype)."""
    q_NP = unpack_int4(codes_NP, width) if codes_NP.dtype == np.uint8 else codes_NP
    return q_NP.astype(np.float32) * scale_N[:, None]


def pack_int4(q_NP: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Codes -7..7 as nibbles (code + 8), the even column in the low half; an odd width is padded with zero."""
    if q_NP.shape[1] % 2:
        q_NP = np.pad(q_NP, ((0, 0), (0, 1)))
    nibbles = (q_NP + 8).astype(np.uint8)
    return np.asarray(nibbles[:, 0::2] | (nibbles[:, 1::2] << 4), dtype=np.uint8)


def unpack_int4(packed: NDArray[np.uint8], width: int) -> NDArray[np.int8]:
    """The inverse of `pack_int4`."""
    out = np.empty((packed.shape[0], 2 * packed.shape[1]), dtype=np.int8)
    out[:, 0::2] = (packed & 15).astype(np.int8) - 8
    out[:, 1::2] = (packed >> 4).astype(np.int8) - 8
    return out[:, :width]


def _lengths(rows_NP: NDArray[Any]) -> NDArray[np.float64]:
    return np.sqrt(np.einsum("np,np->n", rows_NP, rows_NP, dtype=np.float64))
