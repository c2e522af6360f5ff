"""ZIP: rows that keep the selection as a whole least compressible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.numerics.compressed import After, as_bytes
from dataworth.picks.ledger import Ballot, within
from dataworth.records import Budget
from dataworth.results import Selection

TEXTS = {
    "kept-new": "kept: it says most that the rows kept before it don't",
    "adds-less": "dropped: other rows say more that the kept ones don't",
    "no-text": "dropped: it has no text",
}


class Zip:
    """Greedy in rounds of three stages: the row that keeps bytes / compressed bytes of all kept rows lowest comes next.

    Source: Yin et al. 2024, arXiv 2407.06645 (entropy law). A round takes the `coarse` best rows by what is known of
    them, measures those again beside all kept rows, takes the `fine` best, and of these one by one the `each` best.
    Unlike the reference code: the last stage measures beside the rows of earlier rounds too, rows it looks at and
    leaves come back in later rounds, what is known of a row is the bytes it adds, so that old and new numbers compare,
    and the window holds all kept rows.
    """

    name = "zip"
    needs = frozenset({"text:pool"})

    def __call__(
        self,
        inputs: Mapping[str, Any],
        budget: Budget,
        *,
        seed: int = 0,
        coarse: int = 10_000,
        fine: int = 200,
        each: int = 100,
    ) -> Selection:
        """Pick from `text:pool`, whose texts are held in memory; `boundary` holds the ratio of the kept rows together.

        Raises:
            RequestError: Stages that don't narrow down.
        """
        if not coarse >= fine >= each >= 1:
            raise RequestError(
                f"coarse={coarse}, fine={fine}, each={each}: expected none above the one before; correct --option"
            )
        ballot = Ballot.of(inputs, np.zeros(len(inputs["ids"])))
        texts = [as_bytes(t) for t in inputs["text:pool"]]
        eligible = ballot.ranking()
        empty = np.array([i for i in eligible.tolist() if not texts[i]], dtype=np.int64)
        rows = np.setdiff1d(eligible, empty)
        within(budget, rows[:0], inputs)  # a budget of nothing is refused before the work
        greedy = _Greedy(texts, rows[np.argsort(ballot.rank_N[rows])])
        while greedy.left_n.any() and not _paid_for(budget, greedy.order, inputs):
            greedy.round(coarse, fine, each)
        kept, next_in_line, notes = within(budget, np.array(greedy.order, dtype=np.int64), inputs)
        size, packed = greedy.sizes(len(kept))
        return ballot.select(
            kept,
            {"no-text": empty, "over-budget": next_in_line},
            kept_code="kept-new",
            rest_code="adds-less",
            notes=notes,
            boundary={"kept_ratio": size / packed} if packed else {},
            texts=TEXTS,
        )


def _paid_for(budget: Budget, order: list[int], inputs: Mapping[str, Any]) -> bool:
    """Whether the ranking is long enough for the budget, with a row to spare for a token budget."""
    if budget.unit != "tokens":
        return len(order) >= budget.rows(len(inputs["ids"]))
    return bool(np.asarray(inputs["tokens_N"], np.float64)[order].sum() > budget.amount)


@dataclass(init=False)
class _Greedy:
    """Rows `n` in the order of their ids; `cost_n` is the least number of bytes a row was ever seen to add.

    What a row adds only shrinks as more is kept, so an old cost flatters a row and never hides it.
    """

    texts: list[bytes]
    rows_n: NDArray[np.int64]
    size_n: NDArray[np.float64]
    cost_n: NDArray[np.float64]
    left_n: NDArray[np.bool_]
    order: list[int]

    def __init__(self, texts: list[bytes], rows_n: NDArray[np.int64]) -> None:
        alone = After(b"")
        self.texts, self.rows_n, self.order = texts, rows_n, []
        self.size_n = np.array([len(texts[i]) for i in rows_n], dtype=np.float64)
        self.cost_n = np.array([alone.cost(texts[i]) for i in rows_n], dtype=np.float64)
        self.left_n = np.ones(len(rows_n), dtype=bool)
        self._taken: list[int] = []
        self._size, self._packed = 0.0, 0.0

    def sizes(self, first: int) -> tuple[float, float]:
        """Bytes of the first rows of the order, and what they added."""
        taken = self._taken[:first]
        return float(self.size_n[taken].sum()), float(self.cost_n[taken].sum())

    def round(self, coarse: int, fine: int, each: int) -> None:
        """Append up to `each` rows to the order."""
        known = After(self._joined(self._taken))
        some = self._best(np.flatnonzero(self.left_n), coarse)
        for n in some.tolist():
            self._measure(n, known)
        shown = self._best(some, fine)
        chosen: list[int] = []
        for _ in range(min(each, len(shown))):
            beside = After(self._joined(chosen))
            fresh = set()
            while (n := int(self._best(shown[self.left_n[shown]], 1)[0])) not in fresh:
                self._measure(n, beside)
                fresh.add(n)
            chosen.append(n)
            self._take(n)
        self.order += self.rows_n[chosen].tolist()

    def _best(self, among: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Those that leave the lowest ratio behind, best first; equal ones in the order of ids."""
        ratio = (self._size + self.size_n[among]) / (self._packed + self.cost_n[among])
        return among[np.lexsort((among, ratio))[:count]]

    def _take(self, n: int) -> None:
        self._taken.append(n)
        self._size += self.size_n[n]
        self._packed += self.cost_n[n]
        self.left_n[n] = False

    def _measure(self, n: int, after: After) -> None:
        self.cost_n[n] = min(self.cost_n[n], after.cost(self.texts[self.rows_n[n]]))

    def _joined(self, chosen: list[int]) -> bytes:
        return b"\n".join(self.texts[self.rows_n[n]] for n in chosen)
