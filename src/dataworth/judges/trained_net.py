"""A classifier as a trial left it: what its judges ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataworth.records import Example

if TYPE_CHECKING:
    from dataworth.learners.classifier import Classifier, ClassifierCard
    from dataworth.learners.labelled import Labelled


Encoded = dict[int, tuple[Example, "Labelled"]]
"""Identity of a row -> (the row, kept so that nothing else takes its identity; as the net gets it)."""


@dataclass(frozen=True)
class Predictions:
    """Logits `[Q, K]` and right classes `[Q]` of the rows that could be read; the others with a reason."""

    ids: tuple[str, ...]
    logits_QK: NDArray[np.float32]
    label_Q: NDArray[np.int64]
    unjudged: Mapping[str, str]


class TrainedNet:
    """A classifier, untouched (initial weights by the recipe's seed) or as a training left it.

    Args:
        card: Net, recipe, classes and shape of rows.
        left: The folder a training left; None for the untouched net.
        device: auto, cpu, cuda or cuda:N.
        encoded: Rows made arrays before, by the identity of the row, as one id may stand under several labels; those of
            this net are added, so that one dict serves many trials on the same rows.
    """

    def __init__(
        self,
        card: ClassifierCard,
        left: Path | None = None,
        *,
        device: str = "cpu",
        encoded: Encoded | None = None,
    ) -> None:
        self.card, self.left, self.device = card, left, device
        self.encoded: Encoded = {} if encoded is None else encoded

    @cached_property
    def net(self) -> Classifier:
        """The net with its weights, made when first asked for."""
        from dataworth.learners.classifier import Classifier
        from dataworth.learners.classifier_trainer import load_weights

        found = Classifier(self.card, self.device)
        if self.left is not None:
            load_weights(found, self.left)
        return found

    def predictions(self, rows: Sequence[Example]) -> Predictions:
        """What the net says of rows with distinct ids.

        An untouched net has seen no rows to take its scaling of inputs from: it takes that of the rows it is judged on.

        Raises:
            NonsenseRefused: A logit isn't finite.
        """
        for row in rows:
            if id(row) not in self.encoded:
                self.encoded[id(row)] = row, self.card.renderer.encode(row)
        found = [self.encoded[id(row)][1] for row in rows]
        usable = [row for row in found if not row.reason]
        if self.left is None and usable:
            self.net.fit(usable)
        classes = len(self.card.renderer.classes)
        logits_QK = self.net.logits(usable) if usable else np.zeros((0, classes), np.float32)
        label_Q = np.array([row.label for row in usable], dtype=np.int64)
        return Predictions(
            tuple(row.id for row in usable), logits_QK, label_Q, {r.id: r.reason for r in found if r.reason}
        )

    def close(self) -> None:
        """Let go of the weights."""
        self.__dict__.pop("net", None)

    def __enter__(self) -> TrainedNet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
