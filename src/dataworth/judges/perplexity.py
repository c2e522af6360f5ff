"""Perplexity of plain text, every token counted once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from dataworth.judges.trained import Trained
from dataworth.learners.render import Encoded
from dataworth.outcome import Outcome
from dataworth.records import Example


@dataclass(frozen=True)
class Perplexity:
    """Nats per token of whole texts; perplexity is exp of the trial's number, and statistics are done on nats.

    A text longer than the recipe's `max_length` is read in windows of that many tokens. A window begins with the last
    token of the one before it, as context only, so every token is predicted exactly once (lm-evaluation-harness does
    the same). A text's very first token has nothing before it and isn't counted unless the tokenizer puts a BOS there;
    the end-of-text token, which is no part of the text, isn't counted either.
    """

    name: ClassVar[str] = "ppl"
    unit: ClassVar[str] = "nats/token"
    higher: ClassVar[Literal["better", "worse"]] = "worse"

    def __call__(self, trained: Trained, rows: Sequence[Example]) -> Outcome:
        """Judge the rows; those that aren't plain text are unjudged."""
        unjudged: dict[str, str] = {}
        windows: list[Encoded] = []
        owner: list[str] = []
        for row in rows:
            reason = "" if row.kind == "text" else f"a {row.schema} row is not plain text; judge it by loss"
            whole = trained.without_end(trained.plain.encode(row))
            reason = reason or whole.reason or ("" if whole.supervised.any() else "it has a single token")
            if reason:
                unjudged[row.id] = reason
                continue
            windows += cut(whole, trained.recipe.max_length)
            owner += [row.id] * (len(windows) - len(owner))
        nats, failed = trained.nats(windows)
        unjudged |= {i: failed[w.id] for i, w in zip(owner, windows, strict=True) if w.id in failed}
        totals = {i: np.zeros(2) for i in owner if i not in unjudged}
        for row_id, window in zip(owner, windows, strict=True):
            if row_id in totals:
                totals[row_id] += nats[window.id]
        sums, tokens = np.array(list(totals.values())).reshape(-1, 2).T
        return Outcome(
            self.name,
            self.unit,
            self.higher,
            tuple(totals),
            sums / tokens,
            tokens,
            unjudged,
            {"windows": sum(i in totals for i in owner)},
        )


def cut(row: Encoded, length: int) -> Iterator[Encoded]:
    """A text in windows of at most `length` tokens, each beginning with the last token of the one before."""
    for n, start in enumerate(range(0, max(1, len(row) - 1), length - 1)):
        supervised = row.supervised[start : start + length].copy()
        supervised[:1] = False
        if supervised.any():
            yield Encoded(f"{row.id}/{n}", row.input_ids[start : start + length], supervised)
