"""Rows that say nearly the same: MinHash proposes pairs, the exact likeness of their word pairs decides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import MissingExtra, RequestError
from dataworth.numerics.lexical import encode
from dataworth.numerics.ngrams import WordHashes, ngrams

_RECALL = 0.99
_BLOCK = 8192


def near_duplicates(
    order_N: NDArray[np.int64],
    texts: Iterable[str],
    threshold: float = 0.8,
    *,
    width: int = 2,
    permutations: int = 128,
    seed: int = 0,
) -> NDArray[np.int64]:
    """The group of each row, `[N]`: the place of its first row in `order_N`.

    Two rows are alike if the Jaccard index of their sets of `width` neighbouring words is at least `threshold`; a group
    is what chains of such pairs connect. MinHash (rensa) with banding proposes pairs, so that one exactly at the
    threshold is proposed with a chance of at least 0.99; every proposed pair is checked exactly. With `order_N` from
    the rows' ids, groups don't depend on the order of rows. A row without words is alone.

    Sources: Broder 1997 (MinHash); Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3 (banding).
    Memory: eight bytes for each distinct n-gram of a row, four for each row and permutation.

    Args:
        order_N: Positions that sort the rows, by their ids (`records.id_order`).
        texts: The rows' texts, read once.
        threshold: Above 0, at most 1.
        width: Words of an n-gram; a shorter text is compared as a whole.
        permutations: Length of a MinHash signature.
        seed: Of the signatures; it can change what is proposed, not what is checked.

    Raises:
        MissingExtra: rensa isn't installed.
        RequestError: A threshold, width or number of permutations out of range.
    """
    if not 0 < threshold <= 1 or width < 1 or permutations < 1:
        raise RequestError(
            f"threshold={threshold}, width={width}, permutations={permutations}: expected a threshold above 0 and at "
            "most 1, and at least one word and permutation; correct --option"
        )
    rank_N = np.empty(len(order_N), dtype=np.int64)
    rank_N[order_N] = np.arange(len(order_N))
    sets = _Sets.of(texts, width)
    groups = _Groups(len(order_N))
    distinct: dict[bytes, int] = {}
    for position in order_N.tolist():  # equal sets first, so that copies cost no pairs
        grams = sets.grams(position)
        if len(grams):
            rank = int(rank_N[position])
            groups.join(distinct.setdefault(blake2b(grams.tobytes(), digest_size=16).digest(), rank), rank)
    kept_M = np.array(sorted(distinct.values()), dtype=np.int64)
    signature_MP = _signatures(sets, order_N[kept_M], permutations, seed)
    refused: set[tuple[int, int]] = set()
    for band_MR in _bands(signature_MP, threshold):
        for alike in _equal_rows(band_MR):
            _join_alike(kept_M[alike], order_N, sets, groups, refused, threshold)
    return groups.root_N()[rank_N]


def _join_alike(
    ranks: NDArray[np.int64],
    order_N: NDArray[np.int64],
    sets: _Sets,
    groups: _Groups,
    refused: set[tuple[int, int]],
    threshold: float,
) -> None:
    """Check the pairs of rows that a band proposes, but for those that are connected or were refused before."""
    for n, a in enumerate(ranks[:-1].tolist()):
        for b in ranks[n + 1 :].tolist():
            if (a, b) in refused or groups.find(a) == groups.find(b):
                continue
            if jaccard(sets.grams(order_N[a]), sets.grams(order_N[b])) >= threshold:
                groups.join(a, b)
            else:
                refused.add((a, b))


def jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    """Shared over all members of two sets given as sorted arrays without repeats, not both empty."""
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


@dataclass(frozen=True)
class _Sets:
    """The distinct n-grams of each text, sorted: those of row i are `gram_T[start_N[i]:start_N[i + 1]]`."""

    gram_T: NDArray[np.uint64]
    start_N: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str], width: int) -> _Sets:
        grams, counts = [np.empty(0, np.uint64)], [np.zeros(1, np.int64)]
        for words_T, length_B in encode(texts, WordHashes()):
            gram_T, row_T = _shingles(words_T, length_B, width)
            by = np.lexsort((gram_T, row_T))
            gram_T, row_T = gram_T[by], row_T[by]
            first_T = np.ones(len(gram_T), dtype=bool)
            first_T[1:] = (gram_T[1:] != gram_T[:-1]) | (row_T[1:] != row_T[:-1])
            grams.append(gram_T[first_T])
            counts.append(np.bincount(row_T[first_T], minlength=len(length_B)))
        return cls(np.concatenate(grams), np.cumsum(np.concatenate(counts)))

    def grams(self, position: int) -> NDArray[np.uint64]:
        return self.gram_T[self.start_N[position] : self.start_N[position + 1]]


def _shingles(
    words_T: NDArray[np.int32], length_B: NDArray[np.int64], width: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """N-grams and the text of each; a text of fewer than `width` words has one, of all its words."""
    found = []
    for short in range(1, width + 1):
        gram_T, count_B = ngrams(words_T, length_B, short)
        row_T = np.repeat(np.arange(len(length_B)), count_B)
        of_this_T = (length_B[row_T] == short) | (short == width)
        found.append((gram_T[of_this_T], row_T[of_this_T]))
    return np.concatenate([g for g, _ in found]), np.concatenate([r for _, r in found])


class _Groups:
    """Union-find in which the smallest member stands for its group."""

    def __init__(self, rows: int) -> None:
        self._parent = list(range(rows))

    def find(self, x: int) -> int:
        while self._parent[x] != x:
            self._parent[x] = self._parent[self._parent[x]]
            x = self._parent[x]
        return x

    def join(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        self._parent[max(a, b)] = min(a, b)

    def root_N(self) -> NDArray[np.int64]:
        return np.array([self.find(x) for x in range(len(self._parent))], dtype=np.int64)


def _signatures(sets: _Sets, position_M: NDArray[np.int64], permutations: int, seed: int) -> NDArray[np.uint32]:
    """MinHash signatures `[M, permutations]`."""
    minhash = _rensa()
    blocks = [np.empty((0, permutations), np.uint32)]
    for a in range(0, len(position_M), _BLOCK):
        rows = [sets.grams(i) for i in position_M[a : a + _BLOCK].tolist()]
        starts = np.cumsum([0, *map(len, rows)]).astype(np.uint64)
        made = minhash.digest_matrix_from_flat_token_hashes(np.concatenate(rows), starts, permutations, seed)
        blocks.append(np.array(made.to_rows(), dtype=np.uint32))
    return np.concatenate(blocks)


def _rensa() -> Any:
    try:
        return import_module("rensa").RMinHash
    except ImportError as error:
        raise MissingExtra("finding near-duplicates", "rensa", "methods") from error


def band_rows(threshold: float, permutations: int) -> int:
    """Most rows of a band at which a pair at the threshold still shares one of the bands with a chance of 0.99."""
    for rows in range(permutations, 1, -1):
        if 1 - (1 - threshold**rows) ** (permutations // rows) >= _RECALL:
            return rows
    return 1


def _bands(signature_MP: NDArray[np.uint32], threshold: float) -> Iterator[NDArray[np.uint32]]:
    rows = band_rows(threshold, signature_MP.shape[1])
    for first in range(0, signature_MP.shape[1] - rows + 1, rows):
        yield signature_MP[:, first : first + rows]


def _equal_rows(band_MR: NDArray[np.uint32]) -> Iterator[NDArray[np.int64]]:
    """Positions of rows with one hash, where there are at least two, rising: equal rows, and the odd pair by chance."""
    key_M = np.zeros(len(band_MR), dtype=np.uint64)
    for column_M in band_MR.T:
        key_M = (key_M ^ column_M) * np.uint64(0x9E3779B97F4A7C15)
        key_M ^= key_M >> np.uint64(29)
    by = np.argsort(key_M, kind="stable")
    new = np.flatnonzero(key_M[by][1:] != key_M[by][:-1]) + 1
    start, end = np.r_[0, new], np.r_[new, len(by)]
    several = end - start > 1
    for a, b in zip(start[several].tolist(), end[several].tolist(), strict=True):
        yield by[a:b]
