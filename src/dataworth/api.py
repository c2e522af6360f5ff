"""The verbs, each readable straight down. The command line calls the same functions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dataworth import artefacts, config, options, plugins
from dataworth.errors import RequestError
from dataworth.records import Budget, Pool
from dataworth.results import PlanResult, ReplayResult, Score, Scored, ScoreResult, Selection, SelectResult
from dataworth.runs import finished_result, open_run, record_of, store_scores, store_selection
from dataworth.session import Progress, Session, open_session, silent, too_many_rejects


def select(pool: str | Path | list[str], *, progress: Progress = silent, **fields: Any) -> SelectResult:
    """Pick the rows of a pool worth training on.

    Args:
        pool: Files, globs or folders.
        progress: Called with (stage, rows done, rows in all).
        **fields: The fields of `config.SelectRequest`: model, goal, keep, method, pick, out, ...

    Raises:
        RequestError: The request is wrong: value, expectation and next action in one line.
    """
    return run_select(config.build(config.SelectRequest, {"pool": pool, **fields}), progress)


def score(pool: str | Path | list[str], *, progress: Progress = silent, **fields: Any) -> ScoreResult:
    """Score every row of a pool with one or more methods (`method="less,bm25"`).

    Raises:
        RequestError: The request is wrong.
    """
    return run_score(config.build(config.ScoreRequest, {"pool": pool, **fields}), progress)


def plan(pool: str | Path | list[str], *, progress: Progress = silent, **fields: Any) -> PlanResult:
    """Price a selection before any long work.

    Raises:
        RequestError: The request is wrong.
    """
    return run_plan(config.build(config.PlanRequest, {"pool": pool, **fields}), progress)


def run_select(request: config.SelectRequest, progress: Progress = silent) -> SelectResult:
    """`select` for a finished request object."""
    budget = Budget.parse(request.keep)
    method = choose_method(request)
    pick = plugins.pick(request.pick)
    run = open_run("select", request)
    done = finished_result(run, request)
    if done is not None:
        return done
    session = open_session(request, run.folder, progress)
    gate(session)
    scored = score_one(session, method)
    selection = pick(pick_inputs(session, method, scored, budget), budget, seed=request.seed)
    store_scores(run, session, {method.name: scored})
    result = store_selection(run, session, method, pick, scored, selection)
    failed = too_many_rejects(session, run.folder)
    if failed is not None:
        raise failed
    return result


def run_score(request: config.ScoreRequest, progress: Progress = silent) -> ScoreResult:
    """`score` for a finished request object."""
    methods = [choose_method(request, name) for name in (request.method or "").split(",")]
    run = open_run("score", request)
    session = open_session(request, run.folder, progress)
    gate(session)
    scores = {m.name: score_one(session, m) for m in methods}
    store_scores(run, session, scores)
    correlations = {name: control_correlations(session, s) for name, s in scores.items()}
    record = record_of(run, session)
    run.finish(record)
    failed = too_many_rejects(session, run.folder)
    if failed is not None:
        raise failed
    return ScoreResult(run.folder, session.pool.ids, scores, correlations, record)


def run_plan(request: config.PlanRequest, progress: Progress = silent) -> PlanResult:
    """`plan` for a finished request object."""
    from dataworth.pricing import price

    method = choose_method(request)
    run = open_run("plan", request)
    session = open_session(request, run.folder, progress)
    session.gradient, _ = options.split(config.pairs(request.option, "--option"), method)
    return price(session, method, Budget.parse(request.keep), calibrate=request.calibrate)


def replay(run: str | Path, *, from_scratch: bool = False, progress: Progress = silent) -> ReplayResult:
    """Do a finished selection again and compare ids and scores.

    Scores and picks come from the cached artefacts; `from_scratch` reruns the probes in an empty cache.

    Raises:
        RequestError: `run` is no finished selection, or its inputs changed.
    """
    from dataworth.replays import replay_run

    return replay_run(Path(run), from_scratch, progress)


def choose_method(request: config.Request, name: str | None = None) -> Score:
    """The score a request means, checked against the model and goal it brings.

    Raises:
        RequestError: No method can be chosen, or the chosen one needs a model or goal that wasn't given.
    """
    wanted = name or request.method
    if not wanted:
        if request.goal is None:
            raise RequestError("no goal and no method: expected --goal FILE, or --method random or length")
        wanted = "less" if request.model is not None else "bm25"
    method = plugins.score(wanted)
    if artefacts.needs_model(method.needs) and request.model is None:
        free = [n for n in plugins.SCORES if not artefacts.needs_model(plugins.score(n).needs)]
        raise RequestError(f"method {wanted} needs --model; without a model there are: {', '.join(free)}")
    if artefacts.needs_goal(method.needs) and request.goal is None:
        raise RequestError(f"method {wanted} needs --goal FILE with examples of what the model should become good at")
    return method


def gate(session: Session) -> None:
    """Exclude pool rows that nearly equal goal rows, before anything goal-aware sees the pool (law 3)."""
    if session.goal is None:
        return
    started = time.perf_counter()
    finding = plugins.check("DW001")(gate_inputs(session))
    rows = dict(finding.rows) if finding else {}
    kept = session.request.keep_near_goal
    if not kept:
        session.excluded.update({i: ("near-goal", why) for i, why in rows.items()})
    text = f"{len(rows):,} of {len(session.pool):,} pool rows nearly equal goal rows"
    session.guards.append({"guard": "contamination-gate", "passed": True, "evidence": text, "kept": kept})
    session.costs["gate"] = {"rows": len(session.pool), "wall_seconds": time.perf_counter() - started}
    if rows:
        session.notes.append(f"{text}: {'kept, as asked' if kept else 'excluded (--keep-near-goal keeps them)'}")


def score_one(session: Session, method: Score) -> Scored:
    """One score over the whole pool, its artefacts made where they are missing.

    Raises:
        RequestError: The pool holds kinds of example the score isn't defined for.
        NonsenseRefused: The score carries no information.
    """
    wrong = sorted(session.pool.kinds - method.kinds)
    if wrong and not session.pool.kinds & method.kinds:
        raise RequestError(f"method {method.name} is for {', '.join(sorted(method.kinds))} rows; this pool has {wrong[0]} rows")
    given = config.pairs(session.request.option, "--option")
    session.gradient, score_options = options.split(given, method)
    inputs = artefacts.resolve(session, method.needs)
    with session.costing(f"score {method.name}", len(session.pool)):
        scored = method(inputs, **seeded(method, session, score_options))
    found = scored.values_N[~np.isnan(scored.values_N)]
    spread = float(np.ptp(found)) if len(found) else 0.0
    session.guard(
        "constant-score",
        len(found) < 2 or spread > 0,
        f"{method.name}: {len(found):,} scored rows spread over {spread:.3g}",
        "a score that is the same everywhere can't rank; use another method",
    )
    return scored


def seeded(method: Score, session: Session, given: Mapping[str, Any]) -> dict[str, Any]:
    """The score's options with the request's seed where the score draws."""
    import inspect

    takes = inspect.signature(type(method).__call__).parameters
    return {**({"seed": session.request.seed} if "seed" in takes else {}), **given}


def gate_inputs(session: Session) -> dict[str, Any]:
    """What the contamination check reads: pool prompts with their sources, and the goal's, judge rows included."""
    pool, goal = session.pool, artefacts.goal_of(session)
    goal_stems = []
    for sub in (*goal.subtasks, *goal.protected):
        judged = [sub.judge.open_for("gate")] if sub.judge else []
        for rows in [sub.steer, *([sub.tune] if sub.tune else []), *judged]:
            goal_stems += [(e.id, stem_text(e.prompt, e.full_text)) for e in rows.examples()]
    return {"pool": PoolStems(pool), "goal": goal_stems}


def stem_text(prompt: str, full: str) -> str:
    """What the gate compares: the question, or the text itself where there is no question."""
    return prompt or full


class PoolStems:
    """(id, source, stem) of every pool row, read as they are iterated."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return len(self.pool)

    def __iter__(self) -> Any:
        for i, e in enumerate(self.pool.examples()):
            yield e.id, self.pool.source_of(i), stem_text(e.prompt, e.full_text)


def pick_inputs(session: Session, method: Score, scored: Scored, budget: Budget) -> dict[str, Any]:
    """What a pick reads."""
    pool = session.pool
    excluded = session.excluded
    inputs: dict[str, Any] = {
        "ids": pool.ids,
        "eligible_N": np.array([i not in excluded for i in pool.ids], dtype=bool),
        "excluded": excluded,
        "scored": scored,
        "higher": method.higher,
        "source_N": pool.source_N,
        "sources": pool.sources,
    }
    if budget.unit == "tokens":
        inputs["tokens_N"] = artefacts.tokens(session)
    return inputs


def control_correlations(session: Session, scored: Scored) -> dict[str, float]:
    """Rank correlation of a score with length and with random: what it might only be measuring."""
    from dataworth.numerics.ranks import spearman

    out = {}
    for name in ("length", "random"):
        control = plugins.score(name)
        values = control(artefacts.resolve(session, control.needs), **seeded(control, session, {})).values_N
        both = ~np.isnan(values) & ~np.isnan(scored.values_N)
        out[name] = float(spearman(values[both], scored.values_N[both]))
    return out


__all__ = ["PlanResult", "ReplayResult", "ScoreResult", "SelectResult", "Selection", "plan", "replay", "score", "select"]
