"""Response length: words and marks of what the learner is to say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import numpy as np

from dataworth.errors import RequestError
from dataworth.numerics.lexical import spelled
from dataworth.results import Scored
from dataworth.scores.assemble import assemble

_WORDS = r"{word}(?:[-./,:]{word})*|'{word}|\.{{3}}|--|[^\w\s]"
"""Words and punctuation marks, nearly as the Penn Treebank (and NLTK's `word_tokenize`) splits them."""
_OF_ASCII = re.compile(_WORDS.format(word=r"\w+"))


@cache
def _of_any() -> re.Pattern[str]:
    unspaced, word = spelled()
    return re.compile(f"{unspaced}|{_WORDS.format(word=word)}")


def words_and_marks(text: str) -> int:
    """How many words and punctuation marks a text has; each character of a script without spaces is a word."""
    return sum(1 for _ in (_OF_ASCII if text.isascii() else _of_any()).finditer(text))


class ResponseLength:
    """Length of the row's last answer (of plain text: of all of it); longer is higher.

    Source: Zhao et al. 2024, arXiv 2402.04833 ("Long Is More for Alignment"): the 1,000 longest responses of Alpaca,
    which count words and marks (`python -m reproductions.alpaca_checks`).
    """

    name = "response_length"
    kinds = frozenset({"sft", "text"})
    needs = frozenset({"text:response"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any], *, count: Literal["words", "characters"] = "words") -> Scored:
        """Score every row from `text:response`; rows without an answer are unscored.

        Raises:
            RequestError: Something else to count.
        """
        if count not in ("words", "characters"):
            raise RequestError(f"count={count!r}: expected words or characters; correct --option count")
        texts = inputs["text:response"]
        values = np.fromiter(map(len if count == "characters" else words_and_marks, texts), dtype=np.float64)
        values[values == 0] = np.nan
        return assemble(values, inputs, "its answer is empty")
