"""Words of a text, and texts as arrays of word numbers: what bm25 and the contamination gate read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

# Scripts written without spaces: one character is one word, or a sentence would be a single word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, case folded, compatibility forms unified (NFKC)."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.casefold())


class Vocabulary(dict[str, int]):
    """Word -> number in order of first sight; looking an unknown word up gives -1 and stores nothing."""

    def __missing__(self, word: str) -> int:
        return -1

    def add(self, found: Iterable[str]) -> list[int]:
        """Numbers of the words, new words numbered."""
        return [self.setdefault(w, len(self)) for w in found]


def encode(
    texts: Iterable[str], vocabulary: Mapping[str, int], batch: int = 4096
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Texts as word numbers, a batch at a time, so that no list of all texts is ever needed.

    Yields:
        `(words_T, length_B)`: the batch's word numbers one text behind another (-1 for words outside `vocabulary`) and
        how many words each text has.
    """
    stream = iter(texts)
    number = vocabulary.__getitem__
    while chunk := [words(t) for t in islice(stream, batch)]:
        length_B = np.fromiter(map(len, chunk), dtype=np.int64, count=len(chunk))
        flat = map(number, chain.from_iterable(chunk))
        yield np.fromiter(flat, dtype=np.int32, count=int(length_B.sum())), length_B
