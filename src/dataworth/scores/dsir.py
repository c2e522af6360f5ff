"""DSIR: importance weights of hashed words and word pairs, the goal's distribution over the pool's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics.lexical import encode
from dataworth.numerics.ngrams import WordHashes, ngrams
from dataworth.results import Scored
from dataworth.scores.assemble import Reduce, assemble, over_subtasks

_MOST_BUCKETS = 65_536


class DSIR:
    """Log of how much likelier a row's words and word pairs are under the goal than under the pool.

    Source: Xie et al. 2023, arXiv 2302.03169. Words and pairs of neighbouring words are hashed into buckets; goal and
    pool are bags with bucket probabilities p_goal and p_pool; the weight is the sum over the row's n-grams of
    log p_goal - log p_pool. The pool's probabilities are its shares; the goal's are smoothed towards them with the mass
    m = `smoothing` n-grams a bucket: p_goal(b) = (n_goal(b) + m * buckets * p_pool(b)) / (n_goal + m * buckets). The
    paper's resampling is the pick `gumbel`.
    """

    name = "dsir"
    kinds = frozenset({"sft", "text", "classify"})
    needs = frozenset({"text:pool", "text:goal"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(
        self,
        inputs: Mapping[str, Any],
        *,
        buckets: int = 10_000,
        smoothing: float = 1.0,
        normalise: bool = False,
        reduce: Reduce = "max",
    ) -> Scored:
        """Score every row; `normalise=true` takes the mean over a row's n-grams instead of the sum.

        Reads `text:pool` (texts in the order of `ids`, read once) and `text:goal` (subtask -> texts). Memory: two bytes
        for each n-gram of the pool, and its distinct words.

        Raises:
            NonsenseRefused: A subtask of the goal has no words.
            RequestError: A wrong number of buckets, or no smoothing.
        """
        if not 2 <= buckets <= _MOST_BUCKETS:
            raise RequestError(f"buckets={buckets}: expected 2 to {_MOST_BUCKETS:,}; correct --option buckets")
        if not 0 < smoothing < float("inf"):
            raise RequestError(f"smoothing={smoothing}: expected a number above 0; correct --option smoothing")
        hashed = WordHashes()
        goals_GB = [_goal_counts(name, rows, hashed, buckets) for name, rows in inputs["text:goal"].items()]
        pool = _Bags.of(inputs["text:pool"], hashed, buckets)
        ratio_GB = [_log_ratio(goal_B, pool.total_B, smoothing * buckets) for goal_B in goals_GB]
        values_NG = np.stack([pool.sums(ratio_B) for ratio_B in ratio_GB], axis=1)
        values_NG[pool.length_N == 0] = np.nan
        if normalise:
            values_NG /= np.maximum(pool.length_N, 1)[:, None]
        return assemble(over_subtasks(values_NG, reduce), inputs, "it has no words")


@dataclass(frozen=True)
class _Bags:
    """The n-grams of texts as buckets, batch by batch: `(bucket_T uint16, length_B int64)`."""

    batches: list[tuple[NDArray[np.uint16], NDArray[np.int64]]]
    buckets: int

    @classmethod
    def of(cls, texts: Iterable[str], hashed: Mapping[str, int], buckets: int) -> _Bags:
        return cls([_grams(words_T, length_B, buckets) for words_T, length_B in encode(texts, hashed)], buckets)

    @property
    def length_N(self) -> NDArray[np.int64]:
        """N-grams of each text."""
        return np.concatenate([np.empty(0, np.int64), *(length_B for _, length_B in self.batches)])

    @property
    def total_B(self) -> NDArray[np.int64]:
        """How often each bucket occurs."""
        total_B = np.zeros(self.buckets, np.int64)
        for bucket_T, _ in self.batches:
            total_B += np.bincount(bucket_T, minlength=self.buckets)
        return total_B

    def sums(self, ratio_B: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of `ratio_B` over each text's n-grams, in the order of the text: copies get the same bits."""
        found: list[NDArray[np.float64]] = []
        for bucket_T, length_B in self.batches:
            row_T = np.repeat(np.arange(len(length_B)), length_B)
            found.append(np.bincount(row_T, weights=ratio_B[bucket_T], minlength=len(length_B)).astype(np.float64))
        return np.concatenate([np.empty(0), *found])


def _grams(
    words_T: NDArray[np.int32], length_B: NDArray[np.int64], buckets: int
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Buckets of each text's words, then of its word pairs, and how many it has."""
    grams = [ngrams(words_T, length_B, width) for width in (1, 2)]
    row_T = np.concatenate([np.repeat(np.arange(len(length_B)), count_B) for _, count_B in grams])
    bucket_T = np.concatenate([gram_T for gram_T, _ in grams]) % np.uint64(buckets)
    order = np.argsort(row_T, kind="stable")
    return bucket_T[order].astype(np.uint16), grams[0][1] + grams[1][1]


def _goal_counts(name: str, texts: Sequence[str], hashed: Mapping[str, int], buckets: int) -> NDArray[np.int64]:
    counts_B = _Bags.of(texts, hashed, buckets).total_B
    if not counts_B.any():
        raise NonsenseRefused(
            f"goal subtask {name!r} holds no words: expected text to compare with; check the goal's columns"
        )
    return counts_B


def _log_ratio(goal_B: NDArray[np.int64], pool_B: NDArray[np.int64], mass: float) -> NDArray[np.float64]:
    """Of each bucket, log p_goal - log p_pool; 0 where the pool has none, which no row then asks for."""
    share_B = pool_B / max(1, pool_B.sum())
    smooth_B = (goal_B + mass * share_B) / (goal_B.sum() + mass)
    out = np.zeros(len(share_B))
    there = share_B > 0
    out[there] = np.log(smooth_B[there] / share_B[there])
    return out
