"""BM25: lexical likeness to the goal's texts, no model needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics.lexical import Vocabulary, encode, words
from dataworth.results import Scored
from dataworth.scores.assemble import Reduce, assemble, over_subtasks


class BM25:
    """Okapi BM25 of a pool row as the document and each goal row as the query; mean in a subtask, max over subtasks.

    Source: Robertson and Zaragoza 2009, with Lucene's positive idf, `ln(1 + (N - df + 0.5) / (df + 0.5))`, document
    frequencies and mean length from the pool. A word that a query repeats counts each time; lone
    letters are no query words.
    """

    name = "bm25"
    kinds = frozenset({"sft", "text", "preference", "rl"})
    needs = frozenset({"text:pool", "text:goal"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(
        self, inputs: Mapping[str, Any], *, k1: float = 1.2, b: float = 0.75, reduce: Reduce = "max"
    ) -> Scored:
        """Score every row.

        Reads `text:pool` (an iterable of texts in the order of `ids`, read once) and `text:goal` (subtask -> texts).
        Memory grows with the pool's occurrences of goal words, not with its texts.

        Raises:
            NonsenseRefused: The goal has no words.
            RequestError: A `k1` or `b` out of range.
        """
        if not 0 <= k1 < float("inf"):
            raise RequestError(f"k1={k1}: expected a number of at least 0; correct --option k1")
        if not 0 <= b <= 1:
            raise RequestError(f"b={b}: expected 0 to 1; correct --option b")
        vocabulary = Vocabulary()
        query_GV = _queries(inputs["text:goal"], vocabulary)
        tf_NV, length_N = _counts(inputs["text:pool"], vocabulary)
        rows = max(1, int((length_N > 0).sum()))
        df_V = np.bincount(tf_NV.indices, minlength=len(vocabulary))
        idf_V = np.log1p((rows - df_V + 0.5) / (df_V + 0.5))
        norm_N = k1 * (1 - b + b * length_N / max(1.0, length_N.sum() / rows))
        tf = tf_NV.data
        tf_NV.data = tf * (k1 + 1) / (tf + np.repeat(norm_N, np.diff(tf_NV.indptr)))
        values_NG = tf_NV @ (query_GV * idf_V).T
        values_NG[length_N == 0] = np.nan  # before the reduction: zmax measures spread over scored rows
        return assemble(over_subtasks(values_NG, reduce), inputs, "it has no words")


def _queries(goal: Mapping[str, Sequence[str]], vocabulary: Vocabulary) -> NDArray[np.float64]:
    """Mean word counts of each subtask's rows: BM25 is linear in the query, so the mean query gives the mean score."""
    counted = [[vocabulary.add(filter(_is_query_word, words(text))) for text in texts] for texts in goal.values()]
    if not vocabulary:
        raise NonsenseRefused("the goal's texts hold no words: expected text to compare with; check the goal's columns")
    query_GV = np.zeros((len(counted), len(vocabulary)))
    for g, rows in enumerate(counted):
        for found in rows:
            np.add.at(query_GV[g], found, 1.0 / len(rows))
    return query_GV


def _is_query_word(word: str) -> bool:
    """Not a lone letter: the labels of a goal's options would outweigh its words, since a pool has few of them."""
    return not (len(word) == 1 and word.isascii() and word.isalpha())


def _counts(texts: Iterable[str], vocabulary: Vocabulary) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """How often each pool row holds each goal word `[N, V]`, and its length in words."""
    width = len(vocabulary)
    columns, counts, per_row, lengths = [], [], [], []
    for words_T, length_B in encode(texts, vocabulary):
        row_T = np.repeat(np.arange(len(length_B)), length_B)
        known = words_T >= 0
        keys, tf = np.unique(row_T[known] * width + words_T[known], return_counts=True)
        columns.append((keys % width).astype(np.int32))
        counts.append(tf.astype(np.float32))
        per_row.append(np.bincount(keys // width, minlength=len(length_B)))
        lengths.append(length_B)
    if not lengths:
        return sparse.csr_array((0, width), dtype=np.float32), np.empty(0)
    starts = np.concatenate([[0], np.cumsum(np.concatenate(per_row))])
    stored = (np.concatenate(counts), np.concatenate(columns), starts)
    return sparse.csr_array(stored, shape=(len(starts) - 1, width)), np.concatenate(lengths).astype(np.float64)
