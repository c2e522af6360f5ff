"""Arms: which rows each trial of a proof trains on.

Random rows come as nested chains: chain c is one order of the pool by hash(id, seed, c), and its first n rows are its
draw of size n. So the random arm, the random curve and the full pool share trials wherever their sizes meet, and a
larger pool, another seed or one more chain leaves the draws that were made as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.records import hash_unit

Role = Literal["subject", "random", "baseline", "full", "curve"]

RANDOM_DRAWS = 2
"""Draws to each seed of a random arm that fixed subsets are compared with: whether one is luck is told from how draws
scatter, which its own seeds don't narrow. Means of methods are compared at equal numbers, where Welch's t keeps its
level: with twice the draws three looks erred in 11 % where the method scattered twice as much (`proof_levels`)."""
LEAST_SIZES = 5
MOST_ALIKE = 0.1


@dataclass(frozen=True)
class Draw:
    """Rows of one trial: ids in pool order and a weight for each; no weights stand for all 1.

    `goal` is empty for rows of the pool; for the goal's steer rows it is a hash of what they say.
    """

    ids: tuple[str, ...]
    weights: tuple[float, ...] = ()
    goal: str = ""

    @property
    def rows(self) -> int:
        """Rows as training counts them: one of weight 2 is two."""
        return round(sum(self.weights)) if self.weights else len(self.ids)

    def tokens(self, of: Mapping[str, int]) -> int:
        """Training tokens of one epoch, given those of each row."""
        weights = self.weights or (1.0,) * len(self.ids)
        return round(sum(w * of[i] for i, w in zip(self.ids, weights, strict=True)))


@dataclass(frozen=True)
class ArmPlan:
    """What an arm trains on. `draws` is one draw for all its trials, or one for each (`redrawn`).

    `alike` draws share more rows than chance explains: they are judged as one subset. `per_seed` trials of it go with
    every seed of a proof.
    """

    name: str
    role: Role
    draws: tuple[Draw, ...]
    redrawn: bool = False
    alike: bool = False
    per_seed: int = 1

    @property
    def independent(self) -> bool:
        """Whether its trials are draws of their own, so that their mean is that of drawing."""
        return self.redrawn and not self.alike

    def draw(self, trial: int) -> Draw:
        """The rows of trial number `trial`."""
        return self.draws[trial] if self.redrawn else self.draws[0]

    @property
    def rows(self) -> int:
        """Rows of a draw, of the largest if they differ."""
        return max(d.rows for d in self.draws)

    @property
    def everything(self) -> bool:
        """Whether it trains on all rows: the full pool, or random chains at their end, where they are the same."""
        return self.role == "full" or (self.role == "curve" and len(self.draws) > 1 and len(set(self.draws)) == 1)


@dataclass(frozen=True)
class Trial:
    """One training and its judging: number `number` of an arm, in round `round`, with the seed it trains with."""

    arm: str
    number: int
    round: int
    draw: Draw
    seed: int


def chain(ids: Sequence[str], number: int, seed: int = 0) -> NDArray[np.int64]:
    """Positions of `ids` in the order of chain `number`; rows that join the pool are merged in, never reshuffle it."""
    return np.argsort(hash_unit(ids, seed, f"random chain {number}"), kind="stable")


def random_arm(ids: Sequence[str], rows: int, chains: int, *, seed: int = 0) -> ArmPlan:
    """Uniform draws of a size, one per chain."""
    orders = [chain(ids, c, seed)[:rows] for c in range(chains)]
    return ArmPlan("random", "random", tuple(_draw(ids, order) for order in orders), redrawn=True)


def token_matched_arm(
    ids: Sequence[str], tokens_N: NDArray[np.int64], tokens: int, chains: int, *, seed: int = 0
) -> ArmPlan:
    """Uniform draws with as many training tokens as a subset has: the prefix of each chain that comes nearest.

    Raises:
        RequestError: The pool has fewer tokens.
    """
    if tokens > int(tokens_N.sum()):
        raise RequestError(f"{tokens:,} tokens can't be drawn from a pool of {int(tokens_N.sum()):,}: give its subset")
    draws = []
    for c in range(chains):
        order = chain(ids, c, seed)
        total = np.cumsum(tokens_N[order])
        draws.append(_draw(ids, order[: int(np.abs(total - tokens).argmin()) + 1]))
    return ArmPlan("random, same tokens", "random", tuple(draws), redrawn=True)


def stratified_arm(
    ids: Sequence[str], source_N: NDArray[np.integer[Any]], rows: int, chains: int, *, seed: int = 0
) -> ArmPlan:
    """Draws with the pool's own shares of sources, exactly (largest remainders), uniform within a source."""
    sources, of = np.unique(source_N, return_inverse=True)
    exact = np.bincount(of) * (rows / len(ids))
    quota = np.floor(exact).astype(np.int64)
    quota[np.argsort(quota - exact, kind="stable")[: rows - int(quota.sum())]] += 1
    draws = []
    for c in range(chains):
        order = chain(ids, c, seed)
        taken = [order[of[order] == s][: quota[s]] for s in range(len(sources))]
        draws.append(_draw(ids, np.concatenate(taken)))
    return ArmPlan("random, by source", "random", tuple(draws), redrawn=True)


def fixed_arm(name: str, role: Role, ids: Sequence[str], weights: Sequence[float] = ()) -> ArmPlan:
    """One set of rows for every trial; all-1 weights are dropped, so that they don't make another training."""
    plain = all(w == 1 for w in weights)
    return ArmPlan(name, role, (Draw(tuple(ids), () if plain else tuple(weights)),))


def method_arm(name: str, draws: Sequence[Sequence[str]], pool_rows: int) -> ArmPlan:
    """Selections of a method, one per trial.

    What they share beyond chance doesn't average out over trials: it is the luck of one subset. With a tenth of it
    (Cohen's kappa of the pairs) the claim about expected costs would err visibly more often than stated.
    """
    sets = [frozenset(draw) for draw in draws]
    share = float(np.mean([len(a & b) / max(1, len(a)) for a, b in combinations(sets, 2)]))
    chance = len(sets[0]) / pool_rows
    alike = share - chance > MOST_ALIKE * (1 - chance)
    return ArmPlan(name, "subject", tuple(Draw(tuple(draw)) for draw in draws), redrawn=True, alike=alike)


def curve_sizes(pool_rows: int, *, count: int = LEAST_SIZES, include: Sequence[int] = ()) -> tuple[int, ...]:
    """Sizes of the random curve: halvings of the pool, so that they span 16x at five, and the sizes of interest.

    Raises:
        RequestError: A pool too small for that many sizes.
    """
    if pool_rows < 2 ** (count - 1) * 4:
        raise RequestError(
            f"a pool of {pool_rows} rows: expected at least {2 ** (count - 1) * 4} for a curve of {count} halvings"
        )
    halvings = {round(pool_rows / 2**k) for k in range(count)}
    return tuple(sorted(halvings | {n for n in include if 0 < n <= pool_rows}))


def curve_arms(ids: Sequence[str], sizes: Sequence[int], chains: int, *, seed: int = 0) -> list[ArmPlan]:
    """One arm per size; the draws of a chain are nested."""
    orders = [chain(ids, c, seed) for c in range(chains)]
    return [
        ArmPlan(f"random {n:,}", "curve", tuple(_draw(ids, order[:n]) for order in orders), redrawn=True) for n in sizes
    ]


def schedule(arms: Sequence[ArmPlan], seeds: int, *, seed: int = 0) -> Iterator[Trial]:
    """All trials, round by round: after each every arm has one seed more, so that all comparisons tighten at once.

    Trial number r of every arm trains with seed + r.
    """
    for n in range(seeds):
        for arm in arms:
            for number in range(n * arm.per_seed, (n + 1) * arm.per_seed):
                yield Trial(arm.name, number, n, arm.draw(number), seed + number)


def _draw(ids: Sequence[str], order: NDArray[np.int64]) -> Draw:
    return Draw(tuple(ids[i] for i in np.sort(order)))
