"""What a judge says about a trained learner: a number per row, one for the trial, and every row it couldn't judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import NonsenseRefused
from dataworth.records import Example

ALL_ROWS = "all rows"
"""The id of the one item of a judge that gives no number per row."""
SHARES = ("accuracy", "acc", "acc_norm")
"""Units of judges whose number is a share of rows, from 0 to 1."""


@dataclass(frozen=True)
class Outcome:
    """One judge's verdict on one trial, axis `Q`: the judged rows.

    `value_Q` is in `unit` and `weight_Q` says how much of the trial's number a row makes up (its tokens, or 1), both
    float64; `ids` are beside them. `unjudged` maps every other row's id to the reason. `counts` holds what is worth
    knowing about the way there (`ties`, `windows`, `truncated`).
    """

    judge: str
    unit: str
    higher: Literal["better", "worse"]
    ids: tuple[str, ...]
    value_Q: NDArray[np.float64]
    weight_Q: NDArray[np.float64]
    unjudged: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ids:
            why = f"; the first of {len(self.unjudged)}: {next(iter(self.unjudged.values()))}" if self.unjudged else ""
            raise NonsenseRefused(f"judge {self.judge}: no row could be judged{why}; give it rows of its kind")
        if not len(self.ids) == len(self.value_Q) == len(self.weight_Q):
            raise ValueError(f"{len(self.ids)} ids, {len(self.value_Q)} values, {len(self.weight_Q)} weights")
        if len(set(self.ids)) < len(self.ids) or set(self.ids) & set(self.unjudged):
            raise ValueError("a row is judged twice, or judged and unjudged")
        if not np.isfinite(self.value_Q).all() or not (np.isfinite(self.weight_Q) & (self.weight_Q > 0)).all():
            raise ValueError("a value isn't finite or a weight isn't positive: give the row a reason in `unjudged`")

    @property
    def mean(self) -> float:
        """The trial's number: sum(value * weight) / sum(weight)."""
        return float(self.value_Q @ self.weight_Q / self.weight_Q.sum())

    def explain(self) -> str:
        """One sentence, and one line per reason for rows that weren't judged."""
        told = "".join(f", {n:,} {what}" for what, n in self.counts.items() if n)
        lines = [
            f"{self.judge}: {self.mean:.4f} {self.unit} over {len(self.ids):,} rows ({self.higher} if higher{told})"
        ]
        reasons = Counter(self.unjudged.values())
        return "\n".join([*lines, *(f"  {n:>6,} not judged: {reason}" for reason, n in reasons.most_common())])

    def to_dict(self) -> dict[str, Any]:
        """The trial's number and the counts as plain JSON values; the rows' numbers are arrays of their own."""
        return {
            "judge": self.judge,
            "mean": self.mean,
            "unit": self.unit,
            "higher": self.higher,
            "rows": len(self.ids),
            "weight": float(self.weight_Q.sum()),
            "unjudged": dict(Counter(self.unjudged.values())),
            **({"counts": dict(self.counts)} if self.counts else {}),
        }


class Judge(Protocol):
    """Measures a trained learner on rows; `trained` is a `judges.trained.Trained`."""

    @property
    def name(self) -> str:
        """What the judge is called: its kind in a goal, or the user's own command."""
        ...

    @property
    def unit(self) -> str:
        """What one unit of its value is."""
        ...

    @property
    def higher(self) -> Literal["better", "worse"]:
        """What a higher value means."""
        ...

    def __call__(self, trained: Any, rows: Sequence[Example]) -> Outcome:
        """Judge the rows."""
        ...
