"""Random projections of gradients to P columns: the signed block fold, and the dense Rademacher reference.

The fold keeps entry j of the concatenated gradient in column `j mod P` after multiplying it by a random sign:

    out[(offset_m + j) mod P] += sign_m[j] * x_m[j]          for every module m, j its row-major flat index

It is a sketch with one nonzero per entry: unbiased for dot products, with a dense Johnson-Lindenstrauss matrix's
error at the same width and the price of one addition an entry. Modules stand one behind another in the order of
their names (`offset_m` is the running sum of sizes), so the order in which a framework lists them doesn't matter.

A sign is one bit of a counter-based hash of (seed, module name, j). Nothing is stored, every device makes the same
bits, and a row's projection doesn't depend on its batch:

    k1, k2 = the two 32-bit words of sha256("<seed>:<module>")[:8], little-endian
    word_w = mix(mix((w + k1) mod 2^32) ^ k2)                 w = j // 32;   mix is MurmurHash3's 32-bit finaliser
    sign_j = +1 if bit (j mod 32) of word_w else -1

All of it is 32-bit integer arithmetic, exact in torch's int64 with masks (products wrap; the low 32 bits count).

Sources: Achlioptas 2003 (Rademacher projection); Weinberger et al. 2009 (feature hashing); Xia et al. 2024,
arXiv 2402.04333 (LESS: dense Rademacher, P = 8192), whose projection `dense` reproduces in kind, not bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import FingerprintMismatch, RequestError

MASK32 = 0xFFFFFFFF
MIX_1 = 0x85EBCA6B
MIX_2 = 0xC2B2AE35
SIGN_VERSION = 1
PROBE_LENGTH = 4096
_DENSE_ROWS = 512


def sign_keys(seed: int, module: str) -> tuple[int, int]:
    """The two 32-bit keys of a module's sign stream."""
    raw = hashlib.sha256(f"{seed}:{module}".encode()).digest()
    return int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:8], "little")


def mix32(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """MurmurHash3's 32-bit finaliser: a bijection in which every input bit reaches every output bit."""
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(MIX_1)
    x = x ^ (x >> np.uint32(13))
    x = x * np.uint32(MIX_2)
    return x ^ (x >> np.uint32(16))


def sign_words(seed: int, module: str, first: int, count: int) -> NDArray[np.uint32]:
    """Words `first .. first + count` of a module's sign stream; bit b of word w is the sign of entry 32 w + b."""
    k1, k2 = sign_keys(seed, module)
    counters = (np.arange(first, first + count, dtype=np.uint64) + np.uint64(k1)).astype(np.uint32)
    return mix32(mix32(counters) ^ np.uint32(k2))


def signs(seed: int, module: str, start: int, stop: int) -> NDArray[np.int8]:
    """The signs (+1 or -1) of entries `start .. stop` of a module, int8."""
    first = start // 32
    words = sign_words(seed, module, first, -(-stop // 32) - first)
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")
    return (2 * bits[start - 32 * first : stop - 32 * first].astype(np.int8) - 1).astype(np.int8)


def fold(x_BL: NDArray[Any], width: int, *, seed: int, module: str, offset: int = 0) -> NDArray[Any]:
    """Signed block fold of one module's flat rows.

    Args:
        x_BL: Rows of length L, float32 or float64 (integers are summed exactly as int64).
        width: P, the number of columns kept.
        seed: Seed of the projection.
        module: Name of the module, part of the hash.
        offset: Column of the module's first entry (taken mod `width`).

    Returns:
        `[B, width]` in the dtype of `x_BL`.
    """
    x_BL = np.atleast_2d(x_BL)
    rows, length = x_BL.shape
    dtype = x_BL.dtype if np.issubdtype(x_BL.dtype, np.floating) else np.dtype(np.int64)
    start = offset % width
    blocks = max(1, -(-(start + length) // width))
    signed = np.zeros((rows, blocks * width), dtype=dtype)
    np.multiply(x_BL, signs(seed, module, 0, length), out=signed[:, start : start + length], casting="unsafe")
    return signed.reshape(rows, blocks, width).sum(axis=1)


def dense(x_BL: NDArray[Any], width: int, *, seed: int, module: str) -> NDArray[Any]:
    """Dense Rademacher projection of one module's flat rows, times sqrt(width): the audit reference, slow.

    Entry (j, p) of the matrix is sign `j * width + p` of the stream named `<module>|dense`. The sum over modules
    divided by sqrt(width) keeps norms (`Projection.project` does that).
    """
    x_BL = np.atleast_2d(x_BL)
    dtype = x_BL.dtype if np.issubdtype(x_BL.dtype, np.floating) else np.dtype(np.int64)
    out = np.zeros((x_BL.shape[0], width), dtype=dtype)
    for a in range(0, x_BL.shape[1], _DENSE_ROWS):
        part = x_BL[:, a : a + _DENSE_ROWS].astype(dtype, copy=False)
        block = signs(seed, f"{module}|dense", a * width, (a + part.shape[1]) * width)
        out += part @ block.reshape(part.shape[1], width).astype(dtype)
    return out


@dataclass(frozen=True)
class Projection:
    """One projection of a named set of modules: kind, width, seed and the modules' sizes decide it completely.

    Args:
        modules: `(name, entries)` of every module; kept sorted by name, which fixes the offsets.
        width: P.
        seed: Seed of the signs.
        kind: `fold` (default) or `dense` (reference).
    """

    modules: tuple[tuple[str, int], ...]
    width: int = 8192
    seed: int = 0
    kind: Literal["fold", "dense"] = "fold"

    def __post_init__(self) -> None:
        names = [name for name, _ in self.modules]
        if not names or len(set(names)) != len(names) or any(size <= 0 for _, size in self.modules):
            raise RequestError(f"projection modules {names[:3]}...: expected unique names with at least one entry each")
        if self.width <= 0 or self.kind not in ("fold", "dense"):
            raise RequestError(f"projection {self.kind!r}, width {self.width}: expected fold or dense and width >= 1")
        object.__setattr__(self, "modules", tuple(sorted((str(n), int(s)) for n, s in self.modules)))

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Column at which each module starts."""
        ends = np.cumsum([0, *(size for _, size in self.modules)])
        return {name: int(end % self.width) for (name, _), end in zip(self.modules, ends, strict=False)}

    @property
    def entries(self) -> int:
        """Length of the concatenated gradient."""
        return sum(size for _, size in self.modules)

    def project(self, parts: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """Project rows given as `{module: [B, entries]}`; the numpy reference of every faster way.

        Raises:
            RequestError: A module is missing, unknown or has another length.
        """
        wanted = dict(self.modules)
        got = {name: np.atleast_2d(x).shape[1] for name, x in parts.items()}
        if got != wanted:
            odd = sorted(set(got.items()) ^ set(wanted.items()))[:4]
            raise RequestError(
                f"gradient parts {odd} differ from the projection's modules: expected the same names and sizes"
            )
        total = sum(self._part(name, parts[name]) for name in wanted)
        return np.asarray(total) if self.kind == "fold" else total / np.sqrt(self.width)

    def _part(self, name: str, x_BL: NDArray[Any]) -> NDArray[Any]:
        if self.kind == "fold":
            return fold(x_BL, self.width, seed=self.seed, module=name, offset=self.offsets[name])
        return dense(x_BL, self.width, seed=self.seed, module=name)

    @staticmethod
    def probe(name: str, entries: int) -> NDArray[np.int64]:
        """The fixed vector of a module: integers in -8..7 in its first 4,096 entries, summed exactly by any device."""
        values = (sign_words(0, f"probe:{name}", 0, min(entries, PROBE_LENGTH)) & np.uint32(15)).astype(np.int64) - 8
        return values

    @cached_property
    def image_P(self) -> NDArray[np.int64]:
        """Projection of the fixed vector, unscaled: integers, equal on every device that projects alike."""
        parts = (self._part(name, self.probe(name, size)) for name, size in self.modules)
        return np.asarray(sum(parts), dtype=np.int64).reshape(self.width)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the description and the image of the fixed vector; part of every spec of projected rows."""
        described = json.dumps(self._description(), sort_keys=True, separators=(",", ":")).encode()
        return hashlib.sha256(described + self.image_P.astype("<i8").tobytes()).hexdigest()

    def _description(self) -> dict[str, Any]:
        modules = hashlib.sha256(json.dumps(self.modules).encode()).hexdigest()
        return {
            "kind": self.kind,
            "width": self.width,
            "seed": self.seed,
            "signs": SIGN_VERSION,
            "modules": modules,
        }

    def verify(self, image_P: NDArray[Any], device: str) -> None:
        """Refuse another implementation's image of the fixed vector unless it is equal, entry for entry.

        Raises:
            FingerprintMismatch: The device's projection is another one.
        """
        if not np.array_equal(np.asarray(image_P, dtype=np.int64).reshape(-1), self.image_P):
            raise FingerprintMismatch(
                f"the projection on {device} differs from the reference {self.fingerprint[:12]}: expected equal images "
                "of the fixed vector; use another device and report this"
            )


def require_same(pool: str, goal: str) -> None:
    """Refuse to compare rows made under different projections.

    Raises:
        FingerprintMismatch: The two fingerprints differ.
    """
    if pool != goal:
        raise FingerprintMismatch(
            f"pool features have projection {pool[:12]}, goal features {goal[:12]}: expected one projection; "
            "recompute one side"
        )
