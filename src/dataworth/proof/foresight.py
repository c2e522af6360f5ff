"""What a proof will be able to see, told before its first trial.

Before there are trials their spread is a guess. What the project's own proofs had in common is its share of what
training gains: `SCATTER`. So the first word is a share of that gain, in the unit once a learning-rate search has seen
it. Trials of the same arms that are in the cache replace the guess.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dataworth.proof.contrast import detectable, passable
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

    `half` is the number of seeds that finds half of `high`, or of `whole` where that is less; None if none up to
    `MOST_SEEDS` does, as one fixed subset can't be told from luck in the draw. `shares`: `low` and `high` are shares of
    what training gains; `whole` is all of that, in their unit, None where it isn't known. `margin` is the one of `as
    good as` with the smallest ones that equal arms pass in 8 of 10 proofs, at the spreads of `low` and `high`; None
    without a margin or its unit.
    """

    subject: str
    comparator: str
    seeds: int
    low: float
    high: float
    half: int | None
    basis: str
    shares: bool = False
    whole: float | None = None
    margin: tuple[float, float, float] | None = None

    def explain(self, unit: str, seconds: Callable[[int], float] | None = None) -> str:
        """A sentence, with the time that more seeds take where that is known.

        Args:
            unit: Of the goal's number.
            seconds: Gives the wall time of the whole proof with so many seeds.
        """
        told = "{:.0%}" if self.shares else "{:.2g}"
        of = "of what training gains" if self.shares else unit
        low, high = (f"{told.format(gain)} {of}" for gain in (self.low, self.high))
        little, widely = "where trials scatter little", "where they scatter widely"
        seen, half = f"if it is at least {low}", "half of that"
        if low != high:
            seen, half = f"{seen} {little}, or {high} {widely}", "half of the latter"
        if self.whole is not None and self.high > self.whole:
            nothing, half = "in fewer even if it is all that training gains", "half of what training gains"
            seen = nothing if self.low > self.whole else f"if it is at least {low} {little}, and {nothing} {widely}"
        if self.half is None:
            more = f"no number of seeds up to {MOST_SEEDS} finds {half}: one fixed subset may be as lucky as a draw"
        else:
            price = f", about {duration(seconds(self.half))}" if seconds else ""
            more = f"{half} takes {self.half} seeds{price}"
        return (
            f"{self.seeds} seeds: a gain of {self.subject} over {self.comparator} is found in 8 of 10 proofs {seen} "
            f"({self.basis}); {more}{self._of_margin(told)}"
        )

    def _of_margin(self, told: str) -> str:
        if self.margin is None:
            return ""
        margin, least, most = self.margin
        if margin < least:
            return f"; the margin {margin:g} is too small: arms that are equal take {told.format(least)} to pass"
        often = "in 8 of 10 proofs" if margin >= most else "only if trials scatter little"
        return f"; the margin {margin:g} lets equal arms pass {often}"


def foresee(
    subject: Arm,
    comparator: Arm,
    seeds: int,
    alpha: float,
    gain: float | None = None,
    margin: tuple[float, float] | None = None,
    per_seed: int = 1,
) -> Foresight:
    """What a comparison will be able to see.

    Args:
        subject: With the costs of its trials that are there already.
        comparator: Likewise.
        seeds: Trials of the subject.
        alpha: Two-sided level of the comparison.
        gain: What one training gained over the untouched model, on rows that don't judge; None if that isn't known.
        margin: The margin of `as good as` and the level of each of its tests; None without one.
        per_seed: Trials of the comparator to each of the subject's.
    """
    there = seeds_of(subject, comparator)
    unit = None if gain is None or gain <= 0 else gain
    shares = there < KNOWN and unit is None
    if there >= KNOWN:
        pairs = [(float(np.std(subject.cost_R, ddof=1)), float(np.std(comparator.cost_R, ddof=1)))]
        basis = f"from the spread of {there} trials in the cache"
    else:
        pairs = [(share * (unit or 1.0),) * 2 for share in SCATTER]
        basis = "in our proofs trials scattered by {:.0%} to {:.0%} of what training gains".format(*SCATTER)
        basis += f", here {unit:.2g} on tune rows" if unit else ""

    claim = claim_of(subject, comparator)

    def sees(n: int, sd: tuple[float, float]) -> float:
        return detectable(*sd, n, n * per_seed, claim, alpha=alpha)

    low, high = sees(seeds, pairs[0]), sees(seeds, pairs[-1])
    whole = 1.0 if shares else unit
    aim = (high if whole is None else min(high, whole)) / 2
    more = (n for n in range(seeds + 1, MOST_SEEDS + 1) if sees(n, pairs[-1]) <= aim)
    half = next(more, None) if high > 0 else seeds
    passes = None
    if margin is not None and not shares:
        trials = seeds, seeds * per_seed
        least, most = (passable(*sd, *trials, claim, alpha=margin[1]) for sd in (pairs[0], pairs[-1]))
        passes = margin[0], least, most
    return Foresight(subject.name, comparator.name, seeds, low, high, half, basis, shares, whole, passes)
