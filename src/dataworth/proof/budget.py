"""What a wall-clock budget pays for: seeds and arms in the order in which they matter, and what those can detect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataworth.errors import RequestError
from dataworth.proof.arms import Role
from dataworth.proof.contrast import Claim, detectable
from dataworth.results import duration

LEAST_SEEDS = 3
LEAST_CURVE = 3


@dataclass(frozen=True)
class ArmPrice:
    """Seconds of one trial of an arm on one worker; 0 where another arm runs the same trials."""

    name: str
    role: Role
    seconds: float


@dataclass(frozen=True)
class Plan:
    """Arms that a budget pays for, and how many seeds of each."""

    arms: tuple[str, ...]
    seeds: int
    seconds: float


def wall_seconds(prices: Sequence[ArmPrice], seeds: int, workers: int) -> float:
    """Time that trials take side by side: their sum over the workers, at least the longest."""
    total = seeds * sum(p.seconds for p in prices)
    return max(total / max(1, workers), max((p.seconds for p in prices), default=0.0))


def fit(prices: Sequence[ArmPrice], seeds: int, budget: float, workers: int) -> Plan:
    """The most that fits: subjects against random rows first, then other controls, the full pool, then the curve.

    The curve is taken from its smallest size up, and left out below `LEAST_CURVE` sizes. Fewer seeds are the last
    resort, and never fewer than `LEAST_SEEDS`.

    Raises:
        RequestError: Not even that fits; says what it would take.
    """
    core = [p for p in prices if p.role in ("subject", "random")][: 1 + sum(p.role == "subject" for p in prices)]
    while wall_seconds(core, seeds, workers) > budget:
        if seeds <= LEAST_SEEDS:
            raise RequestError(
                f"--budget {duration(budget)}: {LEAST_SEEDS} seeds of the subset and of random rows alone take about "
                f"{duration(wall_seconds(core, LEAST_SEEDS, workers))}: expected at least that; raise it, or use a "
                "recipe with fewer epochs"
            )
        seeds -= 1
    kept = list(core)
    more = [p for p in prices if p not in core and p.role != "curve"]
    for price in sorted(more, key=lambda p: p.role == "full"):
        if wall_seconds([*kept, price], seeds, workers) <= budget:
            kept.append(price)
    curve: list[ArmPrice] = []
    for price in (p for p in prices if p.role == "curve"):
        if wall_seconds([*kept, *curve, price], seeds, workers) > budget:
            break
        curve.append(price)
    kept += curve if len(curve) >= LEAST_CURVE else []
    names = {p.name for p in kept}
    return Plan(tuple(p.name for p in prices if p.name in names), seeds, wall_seconds(kept, seeds, workers))


def outlook(sd: float, seeds: int, seconds: float, claim: Claim, unit: str, alpha: float) -> str:
    """What so many seeds can detect if trials scatter with this sd, and what more of them would."""
    now = detectable(sd, sd, seeds, seeds, claim, alpha=alpha)
    more = [(n, detectable(sd, sd, n, n, claim, alpha=alpha)) for n in (2 * seeds, 4 * seeds)]
    then = "; ".join(f"{size:.2g} needs {n} seeds ({duration(seconds * n / seeds)})" for n, size in more)
    return f"{seeds} seeds ({duration(seconds)}) can detect a gain of {now:.2g} {unit} in 8 of 10 proofs; {then}"
