"""What a proof will be able to see, told before its first trial.

Before there are trials their spread is a guess. What the project's own proofs had in common is its share of what
training gains: `SCATTER`. Trials of the same arms that are in the cache replace the guess.
"""

from __future__ import annotations

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
    can't be told from luck in the draw.
    """

    subject: str
    comparator: str
    seeds: int
    low: float
    high: float
    half: int | None
    basis: str

    def explain(self, unit: str, seconds_a_seed: float | None = None) -> str:
        """A sentence, with the time that more seeds take where that is known."""
        span = f"{self.low:.2g}" if self.low == self.high else f"{self.low:.2g} to {self.high:.2g}"
        if self.half is None:
            more = f"no number of seeds up to {MOST_SEEDS} finds half of it: one fixed subset may be as lucky as a draw"
        else:
            price = f", about {duration(seconds_a_seed * self.half)}" if seconds_a_seed else ""
            more = f"half of that takes {self.half} seeds{price}"
        return (
            f"{self.seeds} seeds will find a gain of {span} {unit} of {self.subject} over {self.comparator} in 8 of 10 "
            f"proofs ({self.basis}); {more}"
        )


def foresee(subject: Arm, comparator: Arm, seeds: int, alpha: float, gain: float | None = None) -> Foresight | None:
    """What a comparison will be able to see.

    Args:
        subject: With the costs of its trials that are there already.
        comparator: Likewise.
        seeds: Trials of each.
        alpha: Two-sided level of the comparison.
        gain: What one training gained over the untouched model, on rows that don't judge.

    Returns:
        None if nothing is known to go by.
    """
    there = seeds_of(subject, comparator)
    if there >= KNOWN:
        pairs = [(float(np.std(subject.cost_R, ddof=1)), float(np.std(comparator.cost_R, ddof=1)))]
        basis = f"from the spread of {there} trials in the cache"
    elif gain is not None and gain > 0:
        pairs = [(share * gain, share * gain) for share in SCATTER]
        low, high = SCATTER
        basis = (
            f"if trials scatter as in our proofs, by {low:.0%} to {high:.0%} of what training gains, here {gain:.2g} "
            "on tune rows"
        )
    else:
        return None

    claim = claim_of(subject, comparator)

    def sees(n: int, sd: tuple[float, float]) -> float:
        return detectable(*sd, n, n, claim, alpha=alpha)

    low, high = sees(seeds, pairs[0]), sees(seeds, pairs[-1])
    more = (n for n in range(seeds + 1, MOST_SEEDS + 1) if sees(n, pairs[-1]) <= high / 2)
    return Foresight(subject.name, comparator.name, seeds, low, high, next(more, None) if high > 0 else seeds, basis)
