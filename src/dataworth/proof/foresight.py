"""What a proof will be able to see, told before its first trial.

Before there are trials their spread is a guess. What the project's own proofs had in common is its share of what
training gains: `SCATTER`. So the first word is a share of that gain, in the unit once a learning-rate search has seen
it. Trials of the same arms that are in the cache replace the guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dataworth.proof.contrast import detectable
from dataworth.proof.verdict import Arm, claim_of, seeds_of
from dataworth.results import duration

SCATTER = (0.01, 0.3)
"""Standard deviation of single trials on random rows, as shares of the gain over the untouched model: lowest and
highest seen in docs/LOG.md, on hundreds of rows of a large pool and on 36 of 144 rows."""
KNOWN = 3
"""Trials of both arms from which on their own spread is believed."""
MOST_SEEDS = 50


@dataclass(frozen=True)
class Foresight:
    """The gain that so many seeds find in 8 of 10 proofs; `low` and `high` are equal where the spread is known.

    `half` is the number of seeds that finds half of `high`; None if none up to `MOST_SEEDS` does, as one fixed subset
    can't be told from luck in the draw. `shares`: `low` and `high` are shares of what training gains.
    """

    subject: str
    comparator: str
    seeds: int
    low: float
    high: float
    half: int | None
    basis: str
    shares: bool = False

    def explain(self, unit: str, seconds: Callable[[int], float] | None = None) -> str:
        """A sentence, with the time that more seeds take where that is known.

        Args:
            unit: Of the goal's number.
            seconds: Gives the wall time of the whole proof with so many seeds.
        """
        told = "{:.0%}" if self.shares else "{:.2g}"
        low, high = told.format(self.low), told.format(self.high)
        span = low if low == high else f"{low} to {high}"
        unit = "of what training gains" if self.shares else unit
        if self.half is None:
            more = f"no number of seeds up to {MOST_SEEDS} finds half of it: one fixed subset may be as lucky as a draw"
        else:
            price = f", about {duration(seconds(self.half))}" if seconds else ""
            more = f"half of that takes {self.half} seeds{price}"
        return (
            f"{self.seeds} seeds will find a gain of {span} {unit} for {self.subject} over {self.comparator} in 8 of "
            f"10 proofs ({self.basis}); {more}"
        )


def foresee(subject: Arm, comparator: Arm, seeds: int, alpha: float, gain: float | None = None) -> Foresight:
    """What a comparison will be able to see.

    Args:
        subject: With the costs of its trials that are there already.
        comparator: Likewise.
        seeds: Trials of each.
        alpha: Two-sided level of the comparison.
        gain: What one training gained over the untouched model, on rows that don't judge; None if that isn't known.
    """
    there = seeds_of(subject, comparator)
    unit = None if gain is None or gain <= 0 else gain
    shares = there < KNOWN and unit is None
    if there >= KNOWN:
        pairs = [(float(np.std(subject.cost_R, ddof=1)), float(np.std(comparator.cost_R, ddof=1)))]
        basis = f"from the spread of {there} trials in the cache"
    else:
        pairs = [(share * (unit or 1.0),) * 2 for share in SCATTER]
        basis = "if trials scatter as in our proofs, by {:.0%} to {:.0%} of what training gains".format(*SCATTER)
        basis += f", here {unit:.2g} on tune rows" if unit else ""

    claim = claim_of(subject, comparator)

    def sees(n: int, sd: tuple[float, float]) -> float:
        return detectable(*sd, n, n, claim, alpha=alpha)

    low, high = sees(seeds, pairs[0]), sees(seeds, pairs[-1])
    more = (n for n in range(seeds + 1, MOST_SEEDS + 1) if sees(n, pairs[-1]) <= high / 2)
    half = next(more, None) if high > 0 else seeds
    return Foresight(subject.name, comparator.name, seeds, low, high, half, basis, shares)
