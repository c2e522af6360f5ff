"""What a subset is made of, beside its pool: rows per source and per length; kept in the record for reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth import artefacts, rendered
from dataworth.session import Session

MOST_BINS = 24
MOST_SOURCES = 20
"""Sources listed by name; the others are one group."""
MOST_MOVED = 3
"""Classes named as those that a part has lost, or gained, most of."""
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
_DRAWS, _CHANCE = 400, 0.99
_WIDE = 20.0  # longest over shortest row above which bins are even in log length


def composition(session: Session, parts: Mapping[str, NDArray[np.bool_]]) -> dict[str, Any]:
    """Rows per source and per length of the pool and of each part of it, as plain JSON values.

    Lengths are tokens as the learner reads them where the run counted them, else characters of all turns. A row that
    can't be tokenized has no length; a row that training counts twice is one row here.

    Args:
        session: The pool, and what the run counted.
        parts: Name -> which rows of the pool it holds, axis `N`.

    Returns:
        `unit`; `edges` of the length bins, the last one closed, even in the logarithm if `log`; `by`, what rows are
        grouped by: source, or class where they have one; these `sources` by name, `further_sources` in the last group;
        `parts`, the pool first: each one's `rows`, `source_rows`, `length_rows`, `quantiles` (of `QUANTILES`; None
        where no row has a length) and the `sum` of lengths, and of rows with a class but the pool's the `shift`.
    """
    pool = session.pool
    with session.costing("composition", len(pool)):
        unit, length_N = _lengths(session)
        whole = "whole pool" if "pool" in parts else "pool"  # a subset may be a file of that name
        masks = {whole: np.ones(len(pool), dtype=np.bool_), **parts}
        by, own_N, every = "source", pool.source_N, pool.sources
        if session.classifies:
            by, own_N = "class", artefacts.labels(session).astype(np.int32)
            every = tuple(artefacts.class_numbers(session))
        names, group_N, further = _groups(own_N, every, masks, "classes" if by == "class" else "sources")
        edges, log = _edges(length_N, bins_for(min(int(mask.sum()) for mask in masks.values())))
        told = []
        for name, mask_N in masks.items():
            length = length_N[mask_N & np.isfinite(length_N)]
            found = {
                "name": name,
                "rows": int(mask_N.sum()),
                "source_rows": np.bincount(group_N[mask_N], minlength=len(names)).tolist(),
                "length_rows": np.histogram(length, bins=edges)[0].tolist(),
                "quantiles": np.quantile(length, QUANTILES).tolist() if len(length) else None,
                "sum": float(length.sum()),
            }
            if by == "class" and name != whole:
                found["shift"] = _shift(np.bincount(own_N, minlength=len(every)), own_N[mask_N], every)
            told.append(found)
    return {
        "unit": unit,
        "edges": edges.tolist(),
        "log": log,
        "by": by,
        "sources": names,
        "further_sources": further,
        "parts": told,
    }


def _lengths(session: Session) -> tuple[str, NDArray[np.float64]]:
    pool = session.pool
    if "tokens" in session.used.values():
        table = rendered.token_artefact(session, pool).table(pool.ids)
        length_N = np.asarray(table.column("tokens", fill=0), dtype=np.float64)
        unknown_N = np.fromiter((i in table.unscored for i in pool.ids), dtype=np.bool_, count=len(pool))
        return "tokens", np.where(unknown_N, np.nan, length_N)
    texts = artefacts.PoolText(pool)
    return "characters", np.fromiter((len(t) for t in texts), dtype=np.float64, count=len(texts))


def _groups(
    source_N: NDArray[np.int32], sources: tuple[str, ...], masks: Mapping[str, NDArray[np.bool_]], what: str
) -> tuple[list[str], NDArray[np.int64], int]:
    """Names of the groups, each row's group, and how many sources the last group joins (0: none does).

    The sources named are those with the largest share in any part, so that what a part is full of is always named.
    """
    rows = np.array([np.bincount(source_N[mask], minlength=len(sources)) for mask in masks.values()])
    share = (rows / np.maximum(1, rows.sum(axis=1, keepdims=True))).max(axis=0)
    order = np.argsort(-share, kind="stable")
    named = order if len(order) <= MOST_SOURCES else order[: MOST_SOURCES - 1]
    group_of = np.full(len(sources), len(named), dtype=np.int64)
    group_of[named] = np.arange(len(named))
    further = len(order) - len(named)
    names = [sources[i] for i in named] + ([f"{further:,} further {what}"] if further else [])
    return names, group_of[source_N], further


def _shift(there_K: NDArray[np.int64], own_n: NDArray[np.int32], names: tuple[str, ...]) -> dict[str, Any]:
    """How far a part's shares of classes are from the pool's, how far random rows' are, and which moved most.

    Returns:
        `distance`, the total variation; `chance`, which 99 of 100 draws of as many rows don't pass; `lost` and
        `gained`, each up to three classes as name, share of the pool, share of the part.
    """
    rows, pool_K = len(own_n), there_K / there_K.sum()
    part_K = np.bincount(own_n, minlength=len(there_K)) / max(1, rows)
    draw_RK = np.random.default_rng(0).multivariate_hypergeometric(there_K, rows, _DRAWS, method="marginals")
    distance_R = abs(draw_RK / max(1, rows) - pool_K).sum(axis=1) / 2
    order = np.argsort(part_K - pool_K, kind="stable").tolist()

    def told(classes: list[int], sign: int) -> list[tuple[str, float, float]]:
        moved = [k for k in classes[:MOST_MOVED] if sign * (part_K[k] - pool_K[k]) > 0]
        return [(names[k], float(pool_K[k]), float(part_K[k])) for k in moved]

    return {
        "distance": float(abs(part_K - pool_K).sum() / 2),
        "chance": float(np.quantile(distance_R, _CHANCE)),
        "lost": told(order, -1),
        "gained": told(order[::-1], 1),
    }


def bins_for(rows: int) -> int:
    """How many bins so many rows fill (Rice's rule), from 6 to 24."""
    return min(MOST_BINS, max(6, round(2 * rows ** (1 / 3))))


def _edges(length_N: NDArray[np.float64], bins: int) -> tuple[NDArray[np.float64], bool]:
    """Whole-number edges from the shortest to the longest row, few where these differ little; even in log length?"""
    known = length_N[np.isfinite(length_N)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if high - low < 1:
        return np.array([low, low + 1]), False
    wide = low >= 1 and high > _WIDE * low
    even = np.geomspace(low, high, bins + 1) if wide else np.linspace(low, high, bins + 1)
    return np.unique(np.round(even)), wide
