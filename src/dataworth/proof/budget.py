"""What a wall-clock budget pays for: seeds and arms in the order in which they matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dataworth.errors import RequestError
from dataworth.proof.arms import Role
from dataworth.results import duration

LEAST_SEEDS = 3
LEAST_CURVE, FULL_CURVE = 3, 5
"""Sizes of a random curve: what is left of it under a budget at least, and what takes no note."""


@dataclass(frozen=True)
class TrialRates:
    """Seconds that one worker takes, per token of a language model and per row of a classifier.

    `training` for one epoch, `judging` once; `states` in layers that a recipe leaves alone, once for all trials;
    `opening` for a trial whatever it trains on.
    """

    training: float
    judging: float = 0.0
    states: float = 0.0
    opening: float = 0.0


@dataclass(frozen=True)
class ArmPrice:
    """Seconds of one trial of an arm on one worker; nothing where the arm that it shares its trials with runs too.

    `shown`: nothing is compared with it. `rows` of a trial, which a curve's sizes are told apart by. `per_seed` trials
    of it go with every seed.
    """

    name: str
    role: Role
    seconds: float
    shares: str = ""
    shown: bool = False
    rows: float = 0.0
    per_seed: int = 1


@dataclass(frozen=True)
class Plan:
    """Arms that a budget pays for, and how many seeds of each."""

    arms: tuple[str, ...]
    seeds: int
    seconds: float
    round: float
    """Seconds of one more seed of every arm."""

    def spares(self, budget: float, most: int) -> int:
        """How many more trials of every arm the rest of a budget pays for, up to so many."""
        return sum(self.seconds + n * self.round <= budget for n in range(1, most + 1))


def wall_seconds(prices: Sequence[ArmPrice], seeds: int, workers: int) -> float:
    """Time that so many seeds of each arm take side by side: their sum over the workers, at least the longest trial."""
    names = {p.name for p in prices}
    paid = [p for p in prices if p.shares not in names]
    total = seeds * sum(p.seconds * p.per_seed for p in paid)
    return max(total / max(1, workers), max((p.seconds for p in paid), default=0.0))


def _with_curve(
    subjects: Sequence[ArmPrice],
    sized: Sequence[ArmPrice],
    pays: Callable[[Sequence[ArmPrice], int], bool],
    seeds: int,
) -> list[ArmPrice]:
    """What worth alone takes: the subjects and the curve of random rows, without sizes that aren't paid for.

    Given up are sizes beyond the next one above the subjects', before seeds are; then, where the fewest seeds take it,
    that one, too, without which a subset that is better than random can't be read off.
    """
    largest = max(p.rows for p in subjects)
    curve = list(sized)
    for trials, beyond in ((seeds, 1), (LEAST_SEEDS, 0)):
        while not pays([*subjects, *curve], trials) and len(curve) > LEAST_CURVE and curve[-1 - beyond].rows > largest:
            curve.pop()
    return [*subjects, *curve]


def fit(
    prices: Sequence[ArmPrice],
    seeds: int,
    budget: float,
    workers: int,
    *,
    more: int = 0,
    once: Callable[[Sequence[ArmPrice]], float] = lambda arms: 0.0,
) -> Plan:
    """The most that fits: subjects against random rows first, then other controls, the full pool, then the curve.

    Arms that are only shown come last, but random rows, which come before the curve.

    The curve is taken from its smallest size up, and left out below `LEAST_CURVE` sizes; where worth alone is asked for
    it loses sizes beyond the next one above the subjects'. Fewer seeds come after that, and never fewer than
    `LEAST_SEEDS`. `more` seeds of each arm are spent on the search for learning rates;
    `once` gives a worker's seconds of what all trials of such arms share.

    Raises:
        RequestError: Not even that fits; says what it would take.
    """
    subjects = [p for p in prices if p.role == "subject"]
    shown = [p for p in prices if p.shown]
    compared = [p for p in prices if p.role not in ("subject", "curve") and not p.shown]
    controls = sorted(compared, key=lambda p: p.role == "full")
    first = next((p for p in controls if p.role == "random"), controls[0] if controls else None)

    def takes(arms: Sequence[ArmPrice], seeds: int) -> float:
        return once(arms) / max(1, workers) + wall_seconds(arms, seeds + more, workers)

    sized = [p for p in prices if p.role == "curve"]
    kept = (
        [*subjects, first] if first else _with_curve(subjects, sized, lambda arms, n: takes(arms, n) <= budget, seeds)
    )
    while takes(kept, seeds) > budget:
        if seeds <= LEAST_SEEDS:
            arms = " and of ".join(p.name for p in kept)
            raise RequestError(
                f"--budget {duration(budget)}: {LEAST_SEEDS} seeds of {arms}, and nothing else, take about "
                f"{duration(takes(kept, seeds))}: expected at least that; raise it, or use a recipe with fewer epochs"
            )
        seeds -= 1
    for price in (*(p for p in controls if p is not first), *(p for p in shown if p.role == "random")):
        if takes([*kept, price], seeds) <= budget:
            kept.append(price)
    curve: list[ArmPrice] = []
    for price in sized if first else ():
        if takes([*kept, *curve, price], seeds) > budget:
            break
        curve.append(price)
    kept += curve if len(curve) >= LEAST_CURVE else []
    for price in (p for p in shown if p.role != "random"):
        if takes([*kept, price], seeds) <= budget:
            kept.append(price)
    names = {p.name for p in kept}
    paid = tuple(p.name for p in prices if p.name in names)
    return Plan(paid, seeds, takes(kept, seeds), wall_seconds(kept, 1, workers))
