"""How a pick stands beside the pool and simple baselines: its share of the tokens, and what they would have picked too.

A clever score that picks what `length` or `bm25` picks has cost a model for nothing; this says so where it can be
seen, for the time of two passes over the texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth import artefacts, plugins, rendered
from dataworth.errors import NonsenseRefused
from dataworth.numerics.vendi import vendi_score
from dataworth.records import Budget, hash_unit
from dataworth.results import Pick, Score, Scored, Selection
from dataworth.selecting import correlations
from dataworth.session import Session

BASELINES = ("bm25", "length")
COMPARED = 5000
"""Rows of which the diversity is told, at most."""
LARGEST = 200_000
"""Rows above which the overlap isn't worth its time."""


def beside(session: Session, method: Score, pick: Pick, scored: Scored, selection: Selection) -> dict[str, Any]:
    """What `SelectResult.beside` says, as plain JSON values.

    `tokens` holds the tokens kept and in the pool, where this run counted them. `overlap` holds, for a pick by a score
    that is no baseline, the share of the picked rows that each baseline picks at the same size from the rows that
    the method scored, and that a random draw shares on average; `correlations`, of rows with text, the score's rank
    correlation with length and with random. `diversity` holds, where the run had vectors, the Vendi
    score of the picked rows and of as many random ones.
    """
    found: dict[str, Any] = {}
    if "tokens" in session.used.values():
        table = rendered.token_artefact(session, session.pool).table(session.pool.ids)
        tokens_N = table.column("tokens", fill=0)
        found["tokens"] = {"kept": int(tokens_N[selection.kept_N].sum()), "pool": int(tokens_N.sum())}
    clever = method.name not in (*BASELINES, "random") and "score" in pick.needs
    if clever and len(selection.ids) and len(session.pool) <= LARGEST:
        with session.costing("overlap with baselines", len(session.pool)):
            found["overlap"] = _overlap(session, scored, selection)
            rho = correlations(session, scored) if "length" in found["overlap"] else {}
        told = {name: r for name, r in rho.items() if not np.isnan(r)}
        found |= {"correlations": told} if told else {}
    if (method.needs | pick.needs) & artefacts.OF_VECTORS:
        found["diversity"] = _diversity(session, selection)
    return found


def _diversity(session: Session, selection: Selection) -> dict[str, float]:
    """Of at most `COMPARED` picked rows by hash, and of as many of all that could be picked."""
    vectors_ND, _ = artefacts.vectors_of(session, session.pool, "embeddings")
    usable_N = np.isfinite(vectors_ND).all(1) & (np.abs(vectors_ND).max(1) > 0)
    usable_N &= np.array([i not in session.excluded for i in session.pool.ids], dtype=bool)
    order = hash_unit(session.pool.ids, session.request.seed, "diversity").argsort(kind="stable")
    kept, could = (order[mask_N[order]] for mask_N in (usable_N & selection.kept_N, usable_N))
    n = min(len(kept), COMPARED)
    if n < 2:
        return {}
    return {"kept": vendi_score(vectors_ND[kept[:n]]), "random": vendi_score(vectors_ND[could[:n]]), "rows": n}


def _overlap(session: Session, scored: Scored, selection: Selection) -> dict[str, float]:
    pool, size = session.pool, len(selection.ids)
    eligible_N = ~np.isnan(scored.values_N) & np.array([i not in session.excluded for i in pool.ids], dtype=bool)
    shares = {}
    for name in BASELINES:
        baseline: Score = plugins.load("scores", name)
        if artefacts.needs_goal(baseline.needs) and session.goal is None:
            continue
        try:
            values = baseline(artefacts.resolve(session, baseline.needs))
        except NonsenseRefused:  # a goal without words is no reason to refuse a pick by another score
            continue
        if np.isnan(values.values_N).all():  # images have no text to be long
            continue
        shares[name] = float((_best(session, baseline, values, eligible_N, size) & selection.kept_N).sum() / size)
    return {**shares, "random": size / max(size, int(eligible_N.sum()))}


def _best(
    session: Session, baseline: Score, values: Scored, eligible_N: NDArray[np.bool_], size: int
) -> NDArray[np.bool_]:
    """The `size` eligible rows that the baseline would pick."""
    inputs = {
        "ids": session.pool.ids,
        "eligible_N": eligible_N,
        f"score:{baseline.name}": values,
        "higher": baseline.higher,
    }
    top: Pick = plugins.load("picks", "top_k")
    return top(inputs, Budget("rows", size), seed=0).kept_N
