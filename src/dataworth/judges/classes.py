"""Judges of classifiers: the share of rows whose class wins, and the loss of the right class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.special import log_softmax

from dataworth.judges.trained_net import TrainedNet
from dataworth.outcome import Outcome
from dataworth.records import Example


@dataclass(frozen=True)
class Accuracy:
    """Share of rows whose class has the largest logit (top-1); a tie goes to the earlier class and is counted."""

    name: ClassVar[str] = "accuracy"
    unit: ClassVar[str] = "accuracy"
    higher: ClassVar[Literal["better", "worse"]] = "better"

    def __call__(self, trained: TrainedNet, rows: Sequence[Example]) -> Outcome:
        """Judge the rows; one that can't be read, or of a class that the net doesn't know, is unjudged."""
        found = trained.predictions(rows)
        tied = (found.logits_QK == found.logits_QK.max(axis=1, keepdims=True)).sum(axis=1) > 1
        right_Q = (found.logits_QK.argmax(axis=1) == found.label_Q).astype(np.float64)
        counts = {"ties": int(tied.sum())}
        return Outcome(
            self.name, self.unit, self.higher, found.ids, right_Q, np.ones_like(right_Q), found.unjudged, counts
        )


@dataclass(frozen=True)
class ClassLoss:
    """Cross-entropy of the row's class, without label smoothing, whatever the recipe's."""

    name: ClassVar[str] = "loss"
    unit: ClassVar[str] = "nats/row"
    higher: ClassVar[Literal["better", "worse"]] = "worse"

    def __call__(self, trained: TrainedNet, rows: Sequence[Example]) -> Outcome:
        """Judge the rows; one that can't be read, or of a class that the net doesn't know, is unjudged."""
        found = trained.predictions(rows)
        logp_QK = log_softmax(found.logits_QK.astype(np.float64), axis=1)
        nats_Q = -np.take_along_axis(logp_QK, found.label_Q[:, None], axis=1)[:, 0]
        return Outcome(self.name, self.unit, self.higher, found.ids, nats_Q, np.ones_like(nats_Q), found.unjudged)
