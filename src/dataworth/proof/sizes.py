"""What sizes say: worth of a subset on the random curve, beyond it by a law, and how few random rows would do.

Costs are lower-is-better; axes: `C` chains, `K` sizes, `R` trials.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from dataworth.errors import RequestError
from dataworth.laws.curve import Prediction, fit_curve
from dataworth.laws.worth import Floats, RandomCurve, Worth, worth
from dataworth.proof.verdict import LEVEL, Arm, retained

_CHAINS = 3
ENOUGH = 0.95
"""Share of the full pool's improvement that a smallest size must be shown to keep."""


def random_curve(sized: Sequence[tuple[float, Mapping[int, float]]]) -> RandomCurve | None:
    """The curve of the chains that have a trial at every size; None with fewer than two of either.

    Args:
        sized: For each size, growing: the rows, and the cost of each chain's trial by number.
    """
    chains = sorted(set.intersection(*(set(costs) for _, costs in sized))) if sized else []
    if len(sized) < 2 or len(chains) < 2:
        return None
    cost_CK = np.array([[costs[c] for _, costs in sized] for c in chains])
    return RandomCurve(np.array([rows for rows, _ in sized]), cost_CK)


def worth_more_each(
    cost_of: Mapping[str, Floats], rows_of: Mapping[str, float], curve: RandomCurve
) -> tuple[tuple[str, str], ...]:
    """Pairs of subsets of which each row of the first is shown to be worth more than each of the second.

    Sets of worth per row that lie apart, at 5 % shared by all pairs of subsets of different sizes (Bonferroni). Each
    set has that level itself: where one is much narrower than the other, the wide one's alone decides.

    Args:
        cost_of: Each subset's costs of at least two trials.
        rows_of: Each subset's own size.
        curve: Costs of random subsets on the same judge rows.
    """
    pairs = [(a, b) for a, b in combinations(cost_of, 2) if rows_of[a] != rows_of[b]]
    level = 1 - LEVEL / max(1, len(pairs))
    found = {name: worth(cost_R, curve, level=level) for name, cost_R in cost_of.items()} if pairs else {}
    return tuple(
        (more, less)
        for pair in pairs
        for more, less in (pair, pair[::-1])
        if found[more].each_more_than(found[less], rows_of[more], rows_of[less])
    )


def uneven(curve: RandomCurve, sign: float = 1.0) -> list[str]:
    """Sizes that train to a worse cost than a smaller one, in the unit's own direction (`sign`), a sentence each.

    A one-sided paired t-test over chains, as their draws are nested, at 5 % shared by all pairs of sizes.
    """
    told, sizes = [], curve.sizes_K
    level = LEVEL / (len(sizes) * (len(sizes) - 1) / 2)
    for k in range(1, len(sizes)):
        best = int(curve.cost_CK[:, :k].mean(0).argmin())
        worse_C = curve.cost_CK[:, k] - curve.cost_CK[:, best]
        # Two chains of a counted judge often differ alike by chance, and a spread of rounding alone says nothing.
        if len(worse_C) < _CHAINS or worse_C.mean() <= 0 or np.ptp(worse_C) < 1e-9:
            continue
        if stats.ttest_1samp(worse_C, 0, alternative="greater").pvalue < level:
            small, large = (sign * float(curve.cost_CK[:, n].mean()) for n in (best, k))
            told.append(
                f"{sizes[k]:,.0f} random rows train to {large:.4f} where {sizes[best]:,.0f} reach {small:.4f}: more "
                "rows hurt there, or their learning rate is wrong; a worth that is read there means little"
            )
    return told


def apart(arms: Iterable[Arm], untouched: float | None) -> list[str]:
    """Trials that keep less than a tenth of what their arm's median trial gained, a sentence each.

    Looked for in arms whose median gains at least half of what the best one's does: there it isn't their rows.
    """
    if untouched is None:
        return []
    # A size of the random curve may have the trials of an arm before it.
    distinct = {tuple(arm.cost_R.tolist()): arm for arm in reversed(list(arms)) if len(arm.cost_R) > 2}
    gained = [(arm.name, untouched - arm.cost_R, untouched - float(np.median(arm.cost_R))) for arm in distinct.values()]
    most = max((median for _, _, median in gained), default=0.0)
    return [
        f"a trial of {name} gained {one:.3g} where its arm's median trial gained {median:.3g}: a training that came "
        "apart (a lower lr in --recipe may hold), or rows that do where each trial draws its own"
        for name, gained_R, median in reversed(gained)
        if median >= most / 2 > 0
        for one in gained_R[gained_R < median / 10]
    ]


@dataclass(frozen=True)
class Smallest:
    """The fewest random rows shown to keep `share` of the full pool's improvement; None if no size is.

    `rows` may be the smallest size measured, and then fewer might do (`at_most`).
    """

    rows: float | None
    share: float
    at_most: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"rows": self.rows, "share": self.share, "at_most": self.at_most}

    def __str__(self) -> str:
        if self.rows is None:
            return f"no fewer random rows than all are shown to keep {self.share:.0%} of the full pool's improvement"
        fewer = " or fewer" if self.at_most else ""
        return f"{self.rows:,.0f} random rows{fewer} are shown to keep {self.share:.0%} of the full pool's improvement"


def smallest_keeping(
    curve: RandomCurve, full: Arm, untouched: float, *, share: float = ENOUGH, pool_rows: int
) -> Smallest:
    """The smallest size from which on every size of the curve keeps `share`, by the lower end of `retained`'s interval.

    Between measured sizes chains are interpolated as for worth. The whole pool keeps all of itself, whatever its noise.
    A size whose trainings all came to one number, as the pool's did, shows nothing.

    Raises:
        RequestError: The full pool isn't shown to improve on the untouched model.
    """
    size_M, flat = curve.grid(), not np.ptp(full.cost_R)
    low_M = np.array(
        [
            -np.inf if flat and not np.ptp(cost_C) else retained(Arm("", cost_C, True), full, untouched).low
            for cost_C in curve.at(size_M).T
        ]
    )
    short = np.flatnonzero((low_M < share) & (size_M < pool_rows))
    first = int(short[-1]) + 1 if len(short) else 0
    shown = first < len(size_M) and size_M[first] < pool_rows
    return Smallest(float(size_M[first]) if shown else None, share, at_most=first == 0)


def beyond(subset_R: Floats, curve: RandomCurve, found: Worth) -> Prediction | None:
    """Worth by the fitted law where the measured curve only says "at least"; None where it says more.

    The law's interval is taken at both ends of the subset's own, so it is wider than its level says. Laws are of
    losses: where a score of which higher is better is proved (costs below zero) there is none.
    """
    cost, nan = float(subset_R.mean()), float("nan")
    if found.side != "above" or min(cost, float(curve.cost_CK.min())) <= 0:
        return None
    try:
        law = fit_curve(curve.sizes_K, curve.cost_CK)
        at = law.rows_for(cost, found.level)
    except RequestError as reason:
        return Prediction("rows", cost, nan, nan, nan, found.level, nan, True, refusal=str(reason))
    half = float(stats.t.ppf((1 + found.level) / 2, len(subset_R) - 1) * subset_R.std(ddof=1) / len(subset_R) ** 0.5)
    low = min(at.low, law.rows_for(cost + half, found.level).low)
    best = law.rows_for(cost - half, found.level).high if cost > half else nan
    return replace(at, low=low) if at.refusal else replace(at, low=low, high=best)
