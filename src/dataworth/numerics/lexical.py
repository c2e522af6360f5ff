"""Words of a text, and texts as arrays of word numbers: what bm25 and the contamination gate read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

# Scripts written without spaces: one character is one word, or a sentence would be a single word.
_UNSPACED = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana and Han
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
)
_JOINERS = "\u200c\u200d"
_BEYOND = "\U00010000-\U0001efff"
_ASCII_WORD = re.compile(r"\w+", re.ASCII)


def words(text: str) -> list[str]:
    """Runs of letters, digits, underscores and combining marks, case folded, compatibility forms unified (NFKC).

    In scripts without spaces, each character with its marks is a word.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.casefold())
    return _word().findall(unicodedata.normalize("NFKC", text).casefold())


@cache
def spelled() -> tuple[str, str]:
    """What a word looks like, as regular expressions: one of a script without spaces, and any other.

    For Python, combining marks are no part of words, but they spell the vowels of Hindi and many others: they continue
    a word, and so do joiners between its letters. Variation selectors choose a glyph and spell nothing.
    """
    found = map(chr, range(0x300, 0x1F000))
    marks = [c for c in found if unicodedata.category(c) in ("Mn", "Mc")]
    marks = [c for c in marks if not unicodedata.name(c).startswith("VARIATION SELECTOR")]
    near = "".join(c for c in marks if c <= "\uffff")
    far = "".join(c for c in marks if c > "\uffff")
    letter = rf"[^\W{_UNSPACED}]"
    # Ranges of `far` are tried one by one: without looking ahead first, this is four times as slow.
    mark = f"(?:[{near}]|(?=[{_BEYOND}])[{far}])"
    joined = f"[{_JOINERS}]+(?={mark}|{letter})"
    return f"[{_UNSPACED}][{near}]*", f"{letter}+(?:(?:{mark}|{joined}){letter}*)*"


@cache
def _word() -> re.Pattern[str]:
    """Compiled when first needed: texts of ASCII alone can do without."""
    return re.compile("|".join(spelled()))


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
