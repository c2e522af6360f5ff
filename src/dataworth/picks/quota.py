"""Quota: the best rows of every source, each source with its share."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.picks.ledger import Ballot, within
from dataworth.records import Budget
from dataworth.results import Selection


class Quota:
    """Top-k within every source; shares are proportional to the sources' eligible rows, or equal.

    Shares are rounded by largest remainder (ties by source name); what a small source can't fill goes to the others.
    Token budgets are shared in tokens; what is left where the next row of a source costs more than the rest of
    its share goes on, row by row, to the source with the largest unspent share whose next row fits. So something is
    kept whenever the best row of the pool fits the budget, and a note says which sources got nothing.
    """

    name = "quota"
    needs = frozenset({"score", "source"})

    def __call__(
        self,
        inputs: Mapping[str, Any],
        budget: Budget,
        *,
        seed: int = 0,
        shares: Literal["proportional", "equal"] = "proportional",
    ) -> Selection:
        """Pick; `boundary` holds the last kept score of every source.

        Raises:
            RequestError: Unknown shares, or a pool without sources.
        """
        if shares not in ("proportional", "equal"):
            raise RequestError(f"shares={shares!r}: expected proportional or equal; correct --option shares")
        if inputs.get("source_N") is None:
            raise RequestError("quota needs the rows' sources: expected a pool of several files; use --pick top_k")
        ballot = Ballot.of(inputs)
        ranking = ballot.ranking()
        whole, _, notes = within(budget, ranking, inputs)
        sources = list(inputs["sources"])
        by_name = sorted(range(len(sources)), key=lambda s: sources[s])
        source_R = np.asarray(inputs["source_N"])[ranking]
        groups = [ranking[source_R == s] for s in by_name]
        if budget.unit == "tokens":
            costs = [np.asarray(inputs["tokens_N"], dtype=np.float64)[g] for g in groups]
            there = [float(c.sum()) for c in costs]
            parts = _level(there, min(budget.amount, sum(there)), shares)
            cuts = _spent(parts, costs, budget.amount)
            notes = [*notes, *_left_out([sources[s] for s in by_name], costs, cuts)]
        else:
            parts = _level([float(len(g)) for g in groups], float(len(whole)), shares)
            cuts = _whole_rows(parts, [len(g) for g in groups], len(whole))
        kept = np.concatenate([g[:cut] for g, cut in zip(groups, cuts, strict=True)])
        sign = -1.0 if inputs.get("higher", "keep") == "drop" else 1.0
        edge = {
            f"last_kept:{sources[s]}": float(sign * ballot.value_N[g[cut - 1]])
            for s, g, cut in zip(by_name, groups, cuts, strict=True)
            if cut
        }
        return ballot.select(kept, {}, kept_code="kept-quota", rest_code="below-cut", notes=notes, boundary=edge)


def _level(there: list[float], total: float, shares: str) -> list[float]:
    """Real-valued shares of `total`: proportional to what is there, or equal with overflow levelled out."""
    if shares == "proportional":
        return [total * t / max(1.0, sum(there)) for t in there]
    out, left, open_ = [0.0] * len(there), total, sorted(range(len(there)), key=lambda s: there[s])
    for n, s in enumerate(open_):
        out[s] = min(there[s], left / (len(open_) - n))
        left -= out[s]
    return out


def _whole_rows(parts: list[float], there: list[int], total: int) -> list[int]:
    cuts = [min(int(p + 1e-9), t) for p, t in zip(parts, there, strict=True)]
    order = sorted(range(len(parts)), key=lambda s: (-round(parts[s] - cuts[s], 9), s))
    for s in [s for s in order if cuts[s] < there[s]][: total - sum(cuts)]:
        cuts[s] += 1
    return cuts


def _spent(parts: list[float], costs: list[NDArray[np.float64]], budget: float) -> list[int]:
    """Rows of each source that a token budget pays for: its share first, then what all shares together left over."""
    ends = [np.cumsum(c) for c in costs]
    cuts = [int(np.searchsorted(e, p * (1 + 1e-12), side="right")) for p, e in zip(parts, ends, strict=True)]
    left = budget - sum(float(e[cut - 1]) for e, cut in zip(ends, cuts, strict=True) if cut)

    def place(s: int) -> tuple[float, int]:
        """Largest unspent share first, ties by name (sources come in that order)."""
        return -round(parts[s] - (float(ends[s][cuts[s] - 1]) if cuts[s] else 0.0), 6), s

    open_ = [place(s) for s in range(len(costs)) if cuts[s] < len(costs[s])]
    heapq.heapify(open_)
    while open_:
        _, s = heapq.heappop(open_)
        if costs[s][cuts[s]] <= left:  # else it never will: what is left only shrinks
            left -= float(costs[s][cuts[s]])
            cuts[s] += 1
            if cuts[s] < len(costs[s]):
                heapq.heappush(open_, place(s))
    return cuts


def _left_out(names: list[str], costs: list[NDArray[np.float64]], cuts: list[int]) -> list[str]:
    out = [(n, c[0]) for n, c, cut in zip(names, costs, cuts, strict=True) if len(c) and not cut]
    if not out:
        return []
    name, first = out[0]
    others = f" and {len(out) - 1:,} more" if len(out) > 1 else ""
    return [f"no row of source {name!r}{others} is kept: its best has {first:,.0f} tokens, more than is left for it"]
