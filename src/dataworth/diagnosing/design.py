"""Which pilots to train: nested sizes, chains, epochs to try at each size, and where a larger learner is tried.

Sizes are halvings, so that five span a factor of 16. A curve through points that were all trained for the same number
of epochs is half a curve of optimisation: at every size the first chain tries several, from half the recipe's epochs
upwards in doublings, up to as many rows in all as twice the recipe's epochs at the largest size, and to what the budget
pays for where the user names the sizes; the other chains train for what did best. So the largest size, too, is seen
to do worse after longer training, or not.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dataworth.errors import RequestError
from dataworth.results import duration

CHAINS, SIZES = 3, 5
LEAST_ROWS, _ROUND = 64, 125


@dataclass(frozen=True)
class Prices:
    """Seconds that one worker takes for parts of a pilot.

    `trial` whatever it trains on, `row` for a row's epoch, `larger` times both with the larger learner; `state` once
    for a row that some pilot trains on, `once` for the diagnosis.
    """

    trial: float
    row: float
    larger: float = 1.0
    state: float = 0.0
    once: float = 0.0

    def of(self, rows: int, epochs: int, larger: bool) -> float:
        """Seconds of a pilot."""
        return (self.trial + rows * epochs * self.row) * (self.larger if larger else 1.0)


@dataclass(frozen=True)
class Design:
    """Pilots to train: `epochs[k]` are tried at `sizes[k]` by the first chain; `larger` are sizes of the other learner.

    `seconds` is what they take at most, on the workers they were planned for; None where nothing was timed.
    """

    sizes: tuple[int, ...]
    chains: int
    epochs: tuple[tuple[int, ...], ...]
    larger: tuple[int, ...]
    seconds: float | None = None

    def __str__(self) -> str:
        sizes = ", ".join(f"{n:,}" for n in self.sizes)
        tried = "; ".join(f"{n:,}: {', '.join(map(str, e))}" for n, e in zip(self.sizes, self.epochs, strict=True))
        larger = f"; a larger learner at {', '.join(f'{n:,}' for n in self.larger)}" if self.larger else ""
        price = "" if self.seconds is None else f"; at most {duration(self.seconds)}"
        return f"pilots on {sizes} rows in {self.chains} nested chains (epochs tried: {tried}){larger}{price}"

    def explain(self) -> str:
        """The design, and what was left out of it."""
        return str(self) if self.seconds is not None else f"{self}; nothing was timed, so the budget doesn't count here"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "epochs": [list(e) for e in self.epochs]}


def epochs_to_try(sizes: Sequence[int], epochs: int, doublings: float = math.inf) -> tuple[tuple[int, ...], ...]:
    """Epochs of each size: half the recipe's, these, and doublings up to twice the rows that these are at the top."""
    half, out = max(1, epochs // 2), []
    for n in sizes:
        tried = sorted({half, epochs})
        while 2 * tried[-1] <= min(2 * epochs * sizes[-1] / n, epochs * 2**doublings):
            tried.append(2 * tried[-1])
        out.append(tuple(tried))
    return tuple(out)


def halvings(largest: int) -> tuple[int, ...]:
    """Five sizes up to `largest`."""
    return tuple(round(largest / 2**k) for k in reversed(range(SIZES)))


def seconds_of(design: Design, price: Prices, workers: int, rows: int) -> float:
    """What a design drawn from so many rows takes at most, in the order in which its pilots are run.

    The first chain's pilots go in waves of one number of epochs a size, each as long as its slowest; then the other
    chains; then the larger learner alike. The states of a chain's rows may all be made by one worker.
    """
    largest, others = design.sizes[-1], design.chains - 1
    made = min(rows, largest * (1 + math.ceil(others / workers)))
    total = price.once + made * price.state
    for larger in (False, True):
        tried = {
            n: [price.of(n, e, larger) for e in epochs]
            for n, epochs in zip(design.sizes, design.epochs, strict=True)
            if not larger or n in design.larger
        }
        for wave in range(max(map(len, tried.values()), default=0)):
            total += _side_by_side([took[wave] for took in tried.values() if wave < len(took)], workers)
        total += _side_by_side([max(took) for took in tried.values() for _ in range(others)], workers)
    return total


def _side_by_side(seconds: Sequence[float], workers: int) -> float:
    """How long tasks take on so many workers, the longest first."""
    busy = [0.0] * workers
    for took in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + took)
    return max(busy)


def planned(
    rows: int,
    epochs: int,
    *,
    chains: int = CHAINS,
    larger: bool = True,
    sizes: Sequence[int] = (),
    price: Prices | None = None,
    budget: float | None = None,
    workers: int = 1,
) -> Design:
    """The design with the largest size that the budget pays for.

    The larger learner is tried at the largest size and at a quarter of it.

    Args:
        rows: That can be drawn.
        epochs: Of the recipe: the largest size tries half, these, and twice as many.
        chains: At least 2.
        larger: Whether a larger learner is tried.
        sizes: The user's own instead of halvings: then the most epochs that the budget pays for are tried. Whether
            the fewest fit is said by `seconds`.
        price: None: nothing was timed, and the design is that of the whole pool.
        budget: Seconds of wall time.
        workers: Side by side.

    Raises:
        RequestError: A pool too small, or a budget that pays for no curve; says what it takes.
    """
    if chains < 2:
        raise RequestError(f"chains={chains}: expected at least 2, as their scatter is the interval; correct --chains")

    def made(sizes: Sequence[int], doublings: float = math.inf) -> Design:
        beside = tuple(dict.fromkeys((_nearest(sizes, sizes[-1] / 4), sizes[-1]))) if larger else ()
        design = Design(tuple(sizes), chains, epochs_to_try(sizes, epochs, doublings), beside)
        return design if price is None else replace(design, seconds=seconds_of(design, price, workers, rows))

    def fits(design: Design) -> bool:
        return budget is None or design.seconds is None or design.seconds <= budget

    if sizes:
        ordered = sorted(sizes)
        most = math.ceil(math.log2(ordered[-1] / ordered[0])) + 1
        found = [made(ordered, doublings) for doublings in range(most, -1, -1)]
        return next(filter(fits, found), found[-1])
    if rows < LEAST_ROWS:
        raise RequestError(f"{rows} rows to draw from: expected at least {LEAST_ROWS} for a curve; give a larger pool")
    tops = [rows]
    top = _ROUND
    while top < rows:
        tops.append(top)
        top *= 2
    found = [made(halvings(n)) for n in sorted({*tops, LEAST_ROWS}, reverse=True)]
    fitting = next(filter(fits, found), None)
    if fitting is None:
        raise RequestError(
            f"--budget {duration(budget)}: the smallest curve (up to {LEAST_ROWS:,} rows) takes at most "
            f"{duration(found[-1].seconds)}: expected at least that; raise it, or use a recipe with fewer epochs"
        )
    return fitting


def _nearest(sizes: Sequence[int], wanted: float) -> int:
    return min(sizes, key=lambda n: abs(n - wanted))
