"""NCD: likeness to the goal's texts by how well they compress together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from dataworth.errors import NonsenseRefused
from dataworth.numerics.compressed import as_bytes, checked_level, minus_peers, ncd
from dataworth.results import Scored
from dataworth.scores.assemble import Reduce, assemble, over_subtasks
from dataworth.scores.compression import Length, checked_length


class NCD:
    """One minus the mean normalised compression distance of a row to the goal rows of a subtask.

    Source: ZIP-FIT, Obbad et al. 2024, arXiv 2410.18194. Their helper compresses at level 0, which is no compression
    and makes all distances alike; here that is refused. Pairs of more than 32 KiB, of which gzip sees only the tail,
    are measured by zstandard. Rows of a length unlike the goal's are far from it for that alone; `length=peers` takes
    the median of rows of similar length off.
    """

    name = "ncd"
    kinds = frozenset({"sft", "text", "classify"})
    needs = frozenset({"text:pool", "text:goal"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(
        self, inputs: Mapping[str, Any], *, level: int = 9, length: Length = "raw", reduce: Reduce = "max"
    ) -> Scored:
        """Score every row from `text:pool` (read once) and `text:goal`; one compression for each row and goal row.

        Raises:
            NonsenseRefused: A subtask of the goal has no text.
            RequestError: A level at which zlib doesn't compress, an unknown `length` or reduction.
        """
        peers, level = checked_length(length), checked_level(level)
        goals = {name: _goal_rows(name, texts) for name, texts in inputs["text:goal"].items()}
        sizes: list[int] = []
        values: list[list[float]] = []
        for data in map(as_bytes, inputs["text:pool"]):
            sizes.append(len(data))
            values.append([_alignment(data, rows, level) for rows in goals.values()])
        values_NG = np.array(values, dtype=np.float64).reshape(len(sizes), len(goals))
        if peers:
            values_NG = np.stack([minus_peers(column_N, sizes) for column_N in values_NG.T], axis=1)
        return assemble(over_subtasks(values_NG, reduce), inputs, "it is empty")


def _goal_rows(name: str, texts: Sequence[str]) -> list[bytes]:
    rows = [as_bytes(t) for t in texts if t]
    if not rows:
        raise NonsenseRefused(
            f"goal subtask {name!r} holds no text: expected text to compare with; check the goal's columns"
        )
    return rows


def _alignment(data: bytes, rows: Sequence[bytes], level: int) -> float:
    return 1.0 - sum(ncd(data, row, level) for row in rows) / len(rows) if data else float("nan")
