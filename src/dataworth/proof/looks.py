"""Looks: how often a proof may decide, and the level of each decision so that the whole proof errs as often as stated.

Looking at 3, 5 and 8 seeds with the level of a single look would give about twice the false verdicts. One constant
level serves all looks (Pocock 1977); as trials are few, it was found by simulating t statistics and not from normal
boundaries (`python -m benchmarks.proof_levels`). It holds while one arm scatters at most twice as much as the
other; at four times and six comparisons a proof of three looks errs in 8 % instead of 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from dataworth.errors import RequestError

ONE_LOOK = (5,)
THREE_LOOKS = (3, 5, 8)


@dataclass(frozen=True)
class Looks:
    """Seeds at which a verdict word may be said, and what each decision's level is for a proof at 5 %.

    `share` multiplies the level of two-sided decisions (`better`, `worse`), `share_margin` that of the one-sided tests
    of `as good as`.
    """

    seeds: tuple[int, ...]
    share: float
    share_margin: float

    def planned(self, seeds: int) -> bool:
        """Whether a verdict word may be said after this many seeds."""
        return seeds in self.seeds


def looks_at(seeds: tuple[int, ...]) -> Looks:
    """The plan of one look, or of the looks at 3, 5 and 8 seeds.

    Raises:
        RequestError: Several looks that were never simulated, or too few seeds.
    """
    if seeds == THREE_LOOKS:
        return Looks(seeds, *_SHARES)
    if len(seeds) != 1:
        raise RequestError(f"looks at {seeds} seeds: expected 3, 5, 8, whose level was simulated; give --looks alone")
    if seeds[0] < 3:
        raise RequestError(f"--seeds {seeds[0]}: expected 3 or more, as two trials tell too little; give --seeds 3")
    return Looks(seeds, 1.0, 1.0)


_SHARES = (0.4, 0.4)
"""Of three looks; Welch with one arm half or twice as noisy as the other needs 0.42, equal arms 0.51."""
