"""Response loss: negative log-probability of the tokens the learner is trained on, nats per token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from dataworth.judges.trained import Trained
from dataworth.outcome import Outcome
from dataworth.records import Example


@dataclass(frozen=True)
class Loss:
    """Nats per supervised token under the recipe's own mask and length; the trial's number is per token, not row."""

    name: ClassVar[str] = "loss"
    unit: ClassVar[str] = "nats/token"
    higher: ClassVar[Literal["better", "worse"]] = "worse"

    def __call__(self, trained: Trained, rows: Sequence[Example]) -> Outcome:
        """Judge the rows; one without a token that carries loss is unjudged, one that was cut is counted."""
        encoded = [trained.card.renderer.encode(row) for row in rows]
        nats, unjudged = trained.nats(encoded)
        judged = [row for row in encoded if row.id in nats]
        sums, tokens = np.array([nats[row.id] for row in judged], dtype=np.float64).reshape(-1, 2).T
        return Outcome(
            self.name,
            self.unit,
            self.higher,
            tuple(row.id for row in judged),
            sums / tokens,
            tokens,
            unjudged,
            {"truncated": sum(row.truncated for row in judged)},
        )
