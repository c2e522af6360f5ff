"""From a request to rows kept: the method, its score, what a pick reads."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dataworth import artefacts, config, options, plugins
from dataworth.doubts import warnings_of
from dataworth.errors import RequestError
from dataworth.gating import gate
from dataworth.picks.ledger import ENDS
from dataworth.piloting import judges, piloted, policy_of, without
from dataworth.records import Budget, Pool
from dataworth.results import Pick, Score, Scored, Selection
from dataworth.session import Session
from dataworth.sizing import sized

_REASONS = 3
"""Reasons told of rows without a score."""
_WHOLE = 1e-9
"""How far from 1 rounding may leave a mean weight."""


def choose_method(request: config.Request, wanted: str | None) -> Score:
    """The score of that name, or the default one, checked against the model and goal that the request brings.

    Raises:
        RequestError: No method can be chosen, or the chosen one needs a model or goal that wasn't given.
    """
    if not wanted and isinstance(request, config.SelectRequest) and _unscored(request.pick):
        wanted = "random"
    if not wanted:
        if request.goal is None:
            raise RequestError(
                "no goal and no method: expected --goal, or a --method: random, for texts length, for images and "
                "vectors with a class el2n or aum with --model (docs/methods.md has all)"
            )
        wanted = "less" if request.model is not None else "bm25"
    method: Score = plugins.load("scores", wanted)
    if request.dynamics and "threshold_dynamics" in method.needs:
        raise RequestError(
            f"method {wanted} can't read --dynamics, whose trainings have no threshold class: expected --model; use aum"
        )
    if _lacks_learner(request, method.needs):
        free = [n for n in plugins.SCORES if not artefacts.needs_model(plugins.load("scores", n).needs)]
        raise RequestError(f"method {wanted} needs --model; without a model there are: {', '.join(free)}")
    if artefacts.needs_goal(method.needs) and request.goal is None:
        raise RequestError(f"method {wanted} needs --goal FILE with examples of what the model should become good at")
    return method


def _lacks_learner(request: config.Request, needs: frozenset[str]) -> bool:
    """Whether a learner is needed that the request doesn't name; a recording stands in for its training."""
    given = {"dynamics"} if request.dynamics else set()
    return request.model is None and bool(needs & artefacts.OF_LEARNER - given)


def _unscored(pick: str) -> bool:
    """Whether the pick of that name reads rows instead of a score."""
    needs = plugins.load("picks", pick).needs
    return bool(needs) and "score" not in needs


def choose_rows(
    session: Session, method: Score, pick: Pick, budget: Budget | None, given: options.MethodOptions
) -> tuple[Scored, Selection]:
    """Gate, score, pick: the whole of a selection once pool and goal are open; without a budget trainings decide it."""
    gate(session)
    if len(session.excluded) == len(session.pool):
        raise RequestError(
            f"all {len(session.pool):,} rows are near the goal: nothing is left to pick; --keep-near-goal keeps them"
        )
    refuse_needs(session, given.pick_needs, f"pick {pick.name}")
    # Asked before anything long begins: a goal may have no rows that judge.
    judged = judges(session, "--keep auto") if budget is None else None
    if budget is not None and session.classifies and budget.unit == "tokens":
        raise RequestError(f"keep {budget}: rows with a class have no tokens: expected rows or a share; correct --keep")
    scored = score_one(session, method, given)
    inputs = pick_inputs(session, method, given.pick_needs, scored, budget or Budget("rows", 1))
    _note(session, *artefacts.label_free(session, f"pick {pick.name}", given.pick_needs - {"score"}))

    def run(read: Mapping[str, Any], rows: Budget) -> Selection:
        return weighed(pick(read, rows, seed=session.request.seed, **given.pick))

    if budget is None or judged is not None:
        assert judged is not None
        chosen = sized(session, inputs, run, judged)
    elif policy_of(session.request):
        chosen = piloted(session, inputs, lambda read: run(read, budget))
    else:
        chosen = run(inputs, budget)
    _note(session, *warnings_of(session, method, pick, scored, chosen))
    return scored, chosen


def weighed(selection: Selection) -> Selection:
    """The selection with weights that count as many rows as were kept, and a note of them.

    A pick's weights may say how many rows of the pool a kept one stands for. Training takes a row of weight 2 twice, so
    that 30 rows which stand for 600 would be trained on, judged and paid for as 600.
    """
    weight_K = selection.weights
    if not len(weight_K) or (weight_K == 1).all():
        return selection
    mean, notes = float(weight_K.mean()), []
    if np.ptp(weight_K) > 0:
        weight_K = weight_K / mean
        notes.append(
            f"the kept rows have weights, {weight_K.min():.3g} to {weight_K.max():.3g}, in weights.parquet: a trainer "
            "that ignores them trains another subset"
        )
    else:
        weight_K = np.ones(len(weight_K))
    if abs(mean - 1) > _WHOLE:
        notes.append(
            f"weights were divided by their mean, {mean:.6g}, so that they count as the {len(weight_K):,} kept rows: "
            "times that they are those of the method, which sum to the rows stood for"
        )
    return replace(selection, weights=weight_K, notes=(*selection.notes, *notes))


def score_one(session: Session, method: Score, given: options.MethodOptions) -> Scored:
    """One score over the whole pool, its artefacts made where they are missing.

    Raises:
        RequestError: The pool holds kinds of example the score isn't defined for.
        NonsenseRefused: The score carries no information.
    """
    refuse_kinds(session, method)
    refuse_needs(session, method.needs, f"method {method.name}")
    _refuse_unread(session, method.needs | given.pick_needs, given.classifier)
    session.gradient, session.geometry, session.classifier_options = given.gradient, given.geometry, given.classifier
    inputs = artefacts.resolve(session, method.needs)
    seed = {"seed": session.request.seed} if "seed" in inspect.signature(method).parameters else {}
    with session.costing(f"score {method.name}", len(session.pool)):
        scored = answered_only(method(inputs, **seed, **given.score), session.pool)
    _note(session, *scored.notes, *artefacts.label_free(session, f"method {method.name}", method.needs))
    if session.classifies and scored.unscored:
        _note(session, _unread(method.name, scored))
    out = {*session.excluded, *session.pool.unanswered}
    taken_N = np.array([i not in out for i in session.pool.ids]) if out else np.ones(len(session.pool), dtype=bool)
    found = scored.values_N[taken_N & ~np.isnan(scored.values_N)]
    why = f" ({next(iter(scored.unscored.values()))})" if scored.unscored else ""
    session.guard(
        "constant-score",
        len(found) > 0 and (taken_N.sum() < 2 or float(np.ptp(found)) > 0),
        f"{method.name}: {len(found):,} of {taken_N.sum():,} rows scored, {len(np.unique(found)):,} values{why}",
        "a score that is the same everywhere can't rank; use another method",
    )
    return scored


def _refuse_unread(session: Session, needs: frozenset[str], given: options.ClassifierOptions) -> None:
    """Refuse options of trainings where none is trained: a recording says what was recorded.

    Raises:
        RequestError: Such an option beside --dynamics.
    """
    trains = needs & {"probabilities", "grad_norms", "threshold_dynamics"}
    if session.request.dynamics and not trains and given != options.ClassifierOptions():
        raise RequestError(
            f"--option nets={given.nets} record={given.record} beside --dynamics: expected neither, as nothing is "
            "trained and the recording alone decides; leave them out"
        )


def _note(session: Session, *notes: str) -> None:
    session.notes += [note for note in notes if note not in session.notes]


def _unread(name: str, scored: Scored) -> str:
    """Which rows have no score, by reason: an image that can't be read is easily overlooked in a table."""
    reasons = Counter(scored.unscored.values()).most_common(_REASONS)
    told = "; ".join(f"{n:,} as {why}" for why, n in reasons)
    return f"{name}: {len(scored.unscored):,} rows have no score ({told})"


def answered_only(scored: Scored, pool: Pool) -> Scored:
    """The score without rows that carry no answer: there is nothing to learn from them, whatever ranks them."""
    if not pool.unanswered:
        return scored
    empty_N = np.fromiter((i in pool.unanswered for i in pool.ids), dtype=bool, count=len(pool))
    why = {pool.ids[n]: "its answer is empty" for n in np.flatnonzero(empty_N).tolist()}
    values_N = np.where(empty_N, np.nan, scored.values_N)
    return replace(scored, values_N=values_N, unscored={**scored.unscored, **why})


def refuse_kinds(session: Session, method: Score) -> None:
    """Refuse a pool with kinds of example the score isn't defined for.

    Raises:
        RequestError: Names the first such kind.
    """
    wrong = sorted(session.pool.kinds - method.kinds)
    if wrong:
        fits = ", ".join(sorted(method.kinds))
        if session.classifies:
            raise RequestError(
                f"method {method.name} is for {fits} rows, but this pool has rows with a class: expected a method of "
                "classes, such as --method el2n or aum with --model resnet, or random"
            )
        raise RequestError(
            f"method {method.name} is for {fits} rows, but this pool has {wrong[0]} rows: leave them out"
        )


def refuse_needs(session: Session, needs: frozenset[str], who: str) -> None:
    """Refuse a score or pick that reads what this request can't give, before anything long starts.

    Raises:
        RequestError: It needs vectors that nobody makes, classes that the rows haven't, or a goal.
    """
    request, given = session.request, artefacts.has_own_vectors(session.pool)
    if needs & artefacts.OF_CLASSES:
        artefacts.class_numbers(session)
    if needs & artefacts.OF_VECTORS and request.model is None and request.encoder is None and not given:
        raise RequestError(f"{who} needs vectors of the rows: expected --model or --encoder; name one")
    if _lacks_learner(request, needs):
        raise RequestError(f"{who} needs --model: expected the learner; name it")
    if artefacts.needs_goal(needs) and session.goal is None:
        raise RequestError(f"{who} needs --goal FILE with examples of what the model should become good at")


def pick_inputs(
    session: Session, method: Score, needs: frozenset[str], scored: Scored, budget: Budget
) -> dict[str, Any]:
    """What a pick reads: the score, who is eligible, sources, and the artefacts that it needs."""
    pool = session.pool
    excluded = {**dict.fromkeys(pool.unanswered, ("unscored", "")), **session.excluded}
    tokens_N = artefacts.tokens(session) if budget.unit == "tokens" and session.request.model is not None else None
    if tokens_N is not None:  # a row of unknown length has no place in a token budget
        uncounted = (pool.ids[i] for i in np.flatnonzero(np.isnan(tokens_N)).tolist())
        excluded = {**dict.fromkeys(uncounted, ("no-tokens", "")), **excluded}
    inputs: dict[str, Any] = {
        "ids": pool.ids,
        "eligible_N": np.array([i not in excluded for i in pool.ids], dtype=bool),
        "excluded": excluded,
        f"score:{method.name}": scored,
        "higher": scored.higher or method.higher,
        "ends": getattr(method, "ends", ENDS),
        "source_N": pool.source_N,
        "sources": pool.sources,
    }
    inputs |= {need: artefacts.resolve_once(session, need) for need in sorted(needs & set(artefacts.MAKERS))}
    return inputs if tokens_N is None else {**inputs, "tokens_N": tokens_N}


def best_rows(session: Session, name: str, rows: int, seed: int) -> tuple[str, ...]:
    """Ids of the best rows of the pool by a score under its defaults, its warm-up and other draws made by `seed`."""
    method, budget, asked = choose_method(session.request, name), Budget("rows", rows), session.request
    session.request = replace(asked, seed=seed)
    try:
        scored, top = score_one(session, method, options.split({}, method)), plugins.load("picks", "top_k")
        inputs = pick_inputs(session, method, top.needs, scored, budget)
        inputs = without(inputs, frozenset(session.trainee.unscored))  # nothing is trained on them
    finally:
        session.request = asked
    ids: tuple[str, ...] = top(inputs, budget, seed=seed).ids
    if len(ids) < rows:
        session.notes.append(f"{name}: only {len(ids):,} rows could be picked, fewer than the subset's {rows:,}")
    return ids


def correlations(session: Session, scored: Scored) -> dict[str, float]:
    """Rank correlation of a score with length and with random: what it might only be measuring."""
    from dataworth.numerics.ranks import rank_correlation

    out = {}
    for name in ("length", "random"):
        control: Score = plugins.load("scores", name)
        seed = {"seed": session.request.seed} if name == "random" else {}
        values = control(artefacts.resolve(session, control.needs), **seed).values_N
        both = ~np.isnan(values) & ~np.isnan(scored.values_N)
        usable = both.sum() > 1 and np.ptp(values[both]) > 0 and np.ptp(scored.values_N[both]) > 0
        out[name] = rank_correlation(values[both], scored.values_N[both]) if usable else float("nan")
    return out
