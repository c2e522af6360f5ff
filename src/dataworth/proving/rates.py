"""The search for each arm's learning rate: factors of the recipe's, and on from an end where the best lies there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

FACTORS = (0.5, 1.0, 2.0)
FURTHER = 4
"""How often a best rate at an end is doubled or halved: arms of few rows take fewer steps and want a higher one."""

Costs = Mapping[tuple[str, float], float]
"""Cost on tune rows by arm and factor; none where the training failed."""


def search_factors(
    arms: Iterable[str], factors: Sequence[float], further: int, measure: Callable[[Sequence[tuple[str, float]]], Costs]
) -> tuple[dict[str, dict[float, float | None]], list[str]]:
    """Try every factor for every arm, then double or halve for the arms whose best lies at an end of what they tried.

    Arms that differ much in size want rates that differ: a grid that leaves one's out would handicap it.

    Args:
        arms: Their names.
        factors: Of the recipe's learning rate, which each arm tries first.
        further: How often an arm may go on.
        measure: Trains and judges what it is asked for.

    Returns:
        By arm, the cost at each factor, None where training failed; and the arms whose best lies at an end still.
    """
    found: dict[str, dict[float, float | None]] = {name: {} for name in arms}
    due = {name: tuple(factors) for name in found}
    for _ in range(1 + further):
        asked = [(name, f) for name, of in due.items() for f in of]
        cost = measure(asked)
        for name, f in asked:
            found[name][f] = cost.get((name, f))
        due = {name: (on,) for name, of in found.items() if (on := beyond(of)) is not None}
        if not due:
            break
    return found, list(due)


def best_factor(cost: Mapping[float, float | None]) -> float | None:
    """The factor of the lowest cost, of several what changes the recipe's rate least; None if all failed."""
    there = {f: c for f, c in cost.items() if c is not None}
    return min(there, key=lambda f: (there[f], abs(f - 1)), default=None)


def beyond(cost: Mapping[float, float | None]) -> float | None:
    """The factor to try next where the best of those tried lies at an end; beyond a rate that failed there is none."""
    best = best_factor(cost)
    return 2 * best if best == max(cost) else best / 2 if best == min(cost) else None
