"""Compression: how much a row's text repeats itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from dataworth.errors import RequestError
from dataworth.numerics.compressed import as_bytes, checked_level, minus_peers, ratio
from dataworth.results import Scored
from dataworth.scores.assemble import assemble

Length = Literal["raw", "peers"]


def checked_length(length: str) -> bool:
    """Whether a row is compared with rows of its length.

    Raises:
        RequestError: Neither `raw` nor `peers`.
    """
    if length not in ("raw", "peers"):
        raise RequestError(f"length={length!r}: expected raw or peers; correct --option length")
    return length == "peers"


class Compression:
    """Bytes of a row's text over its bytes after compression; low ratios, little redundancy, are kept.

    Source: the per-row ratio of Yin et al. 2024, arXiv 2407.06645 (ZIP), zlib at level 9: that is `length=raw`. A short
    row has a low ratio because there is little to repeat and because of the compressor's header, so `length=peers`
    takes off the median ratio of the rows of similar length. The greedy selection of the paper is the pick `zip`.
    """

    name = "compression"
    kinds = frozenset({"sft", "text", "classify"})
    needs = frozenset({"text:pool"})
    higher: Literal["keep", "drop"] = "drop"

    def __call__(self, inputs: Mapping[str, Any], *, level: int = 9, length: Length = "peers") -> Scored:
        """Score every row from `text:pool`, read once.

        Raises:
            RequestError: A level at which zlib doesn't compress, or an unknown `length`.
        """
        peers, level = checked_length(length), checked_level(level)
        sized = [(ratio(data, level), len(data)) for data in map(as_bytes, inputs["text:pool"])]
        values_N = np.array([r for r, _ in sized], dtype=np.float64)
        return assemble(minus_peers(values_N, [n for _, n in sized]) if peers else values_N, inputs, "it is empty")
