"""Runs of neighbouring words as 64-bit hashes: the same in every process and whatever was read before."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


class WordHashes(dict[str, int]):
    """Word -> 31-bit hash of its bytes; what `lexical.encode` takes for a vocabulary that knows all words."""

    def __missing__(self, word: str) -> int:
        found = self[word] = zlib.crc32(word.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF
        return found


def ngrams(
    words_T: NDArray[np.integer], length_B: NDArray[np.int64], width: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of every `width` neighbouring words, text behind text, and how many each text has.

    Args:
        words_T: Word hashes, one text behind another.
        length_B: Words of each text; one of fewer than `width` words has no n-gram.
        width: Words of an n-gram, from 1.
    """
    text_T = np.repeat(np.arange(len(length_B)), length_B)
    starts = max(0, len(words_T) - width + 1)
    gram_T = words_T[:starts].astype(np.uint64)
    for step in range(1, width):
        gram_T = _mixed(gram_T) + words_T[step : starts + step].astype(np.uint64)
    within_T = text_T[:starts] == text_T[width - 1 : width - 1 + starts]
    return _mixed(gram_T)[within_T], np.maximum(length_B - width + 1, 0)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: near numbers become unrelated ones."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), np.uint64)
