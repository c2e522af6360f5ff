"""The verbs, each readable straight down. The command line calls the same functions."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dataworth import config, options, plugins
from dataworth.errors import TooManyRejects
from dataworth.forecasts import forecast_plan, score_forecasts
from dataworth.gating import gate
from dataworth.piloting import refuse_policy
from dataworth.previews import goal_rejects, preview_text
from dataworth.proof.budget import TrialRates
from dataworth.proving.provable import add_protected, refuse_unprovable, split_note, with_judge_rows
from dataworth.records import Budget
from dataworth.results import (
    CacheReport,
    GoalSplit,
    PlanResult,
    ReplayResult,
    ScoreResult,
    SelectResult,
    duration,
)
from dataworth.runs import (
    copy_artefacts,
    finished_diagnosis,
    finished_proof,
    finished_scores,
    finished_selection,
    open_run,
    store_diagnosis,
    store_proof,
    store_score_run,
    store_selection,
)
from dataworth.selecting import (
    best_rows,
    choose_method,
    choose_rows,
    correlations,
    refuse_kinds,
    refuse_needs,
    score_one,
)
from dataworth.session import SILENT, Progress, Session, check_rejects, open_session, worker_devices
from dataworth.sizing import budget_of, trainings
from dataworth.store.cache import Cache
from dataworth.writing import refuse_joining, write_picked

if TYPE_CHECKING:
    from dataworth.diagnosing.design import Design
    from dataworth.diagnosing.diagnosis import Diagnosis
    from dataworth.proof.result import ProofPlan, ProofResult
    from dataworth.report import Report

Result = TypeVar("Result", SelectResult, ScoreResult, GoalSplit)


def select(pool: str | Path | list[str], *, progress: Progress = SILENT, **fields: Any) -> SelectResult:
    """Pick the rows of a pool worth training on.

    Args:
        pool: Files, globs or folders.
        progress: Called with (stage, rows done, rows in all).
        **fields: The fields of `config.SelectRequest`: model, goal, keep, method, pick, out, ...

    Raises:
        RequestError: The request is wrong: value, expectation and next action in one line.
    """
    request = config.build(config.SelectRequest, {"pool": pool, **fields})
    return _with_rejects_as_warning(lambda: run_select(request, progress))


def score(pool: str | Path | list[str], *, progress: Progress = SILENT, **fields: Any) -> ScoreResult:
    """Score every row of a pool with one or more methods (`method="less,bm25"`).

    Raises:
        RequestError: The request is wrong.
    """
    request = config.build(config.ScoreRequest, {"pool": pool, **fields})
    return _with_rejects_as_warning(lambda: run_score(request, progress))


def _with_rejects_as_warning(run: Callable[[], Result]) -> Result:
    """What the command line says by exit code 3 is a warning in Python: the result is there."""
    try:
        return run()
    except TooManyRejects as error:
        warnings.warn(f"{error} (max_rejected=...)", stacklevel=3)
        result: Result = error.result
        return result


def prove(subset: str | Path | list[str], *, progress: Progress = SILENT, **fields: Any) -> ProofResult:
    """Train on a subset, on random rows of its size and on everything, and say whether the subset is better.

    Args:
        subset: A select run's folder, or a file with rows of the pool; several are compared side by side.
        progress: Called with (stage, trials done, trials in all); says interim results.
        **fields: The fields of `config.ProveRequest`: pool, model, goal, against, seeds, margin, ...

    Raises:
        RequestError: The request is wrong.
    """
    return run_prove(_trial_request(config.ProveRequest, subset, fields), progress)


def worth(subset: str | Path | list[str], *, progress: Progress = SILENT, **fields: Any) -> ProofResult:
    """Say how many random rows each subset is worth, in all and per row, and which of several is worth more.

    Args:
        subset: Select runs' folders or files with rows of the pool, of any sizes.
        progress: Called with (stage, trials done, trials in all); says interim results.
        **fields: The fields of `config.WorthRequest`: pool, model, goal, seeds, margin, ...

    Raises:
        RequestError: The request is wrong.
    """
    return run_worth(_trial_request(config.WorthRequest, subset, fields), progress)


def diagnose(pool: str | Path | list[str], *, progress: Progress = SILENT, **fields: Any) -> Diagnosis:
    """Say by small pilots whether data or model is the bottleneck, and what more rows would bring.

    Args:
        pool: Files, globs or folders.
        progress: Called with (stage, trials done, trials in all); says the design.
        **fields: The fields of `config.DiagnoseRequest`: model, goal, budget, capacity, target, ...

    Raises:
        RequestError: The request is wrong, or the budget pays for no curve.
    """
    return run_diagnose(config.build(config.DiagnoseRequest, {"pool": pool, **fields}), progress)


def _trial_request(cls: type[config.R], subset: str | Path | list[str], fields: Mapping[str, Any]) -> config.R:
    """A request from Python's arguments, of which `train_command` may be a function."""
    from dataworth.proving.trainers import spec_of

    return config.build(cls, {"subset": subset, **fields, "train_command": spec_of(fields.get("train_command"))})


def plan(pool: str | Path | list[str], *, progress: Progress = SILENT, **fields: Any) -> PlanResult:
    """Price a selection before any long work.

    Raises:
        RequestError: The request is wrong.
    """
    return run_plan(config.build(config.PlanRequest, {"pool": pool, **fields}), progress)


def goal(
    file: str | Path,
    out: str | Path | None = None,
    *,
    map: Mapping[str, str] | None = None,
    judge: str | None = None,
    max_rejected: float = 0.01,
) -> GoalSplit:
    """Split one file of goal rows into steer, tune and judge parts and write the `goal.yaml` that names them.

    Args:
        file: A pool file; 40 % of its rows steer, 20 % tune, 40 % are sealed for judging, by the hash of each row.
        out: The folder to write; `<file's stem>-goal` in the working folder by default.
        map: Role -> column expression, kept in `goal.yaml`.
        judge: The judge's kind, kept in `goal.yaml`: loss, ppl, module:function or a command.
        max_rejected: Warn when a larger share of the rows can't be read.

    Raises:
        RequestError: Fewer than 20 judge rows, or another goal in the way.
    """
    return _with_rejects_as_warning(lambda: run_goal(file, out, map or {}, judge, max_rejected))


def run_goal(
    file: str | Path, out: str | Path | None, mapping: Mapping[str, str], judge: str | None, max_rejected: float
) -> GoalSplit:
    """`goal` as the command line runs it.

    Raises:
        TooManyRejects: More rows were rejected than allowed; the error carries the result.
    """
    from dataworth.formats.goal_split import split_goal
    from dataworth.formats.paths import stem_of

    result = split_goal(file, out if out is not None else f"{stem_of(Path(file))}-goal", mapping=mapping, judge=judge)
    rows = result.rejected + sum(result.rows.values())
    if result.rejected > max_rejected * rows:
        error = TooManyRejects(
            f"{result.rejected:,} of {rows:,} goal rows were rejected: the goal is written; read {result.rejects_path} "
            "or raise --max-rejected"
        )
        error.result = result
        raise error
    return result


def replay(run: str | Path, *, from_scratch: bool = False, progress: Progress = SILENT) -> ReplayResult:
    """Do a finished selection again and compare ids and scores.

    Scores and picks come from the cached artefacts; `from_scratch` reruns the probes in an empty cache.

    Raises:
        RequestError: `run` is no finished selection, or its inputs changed.
    """
    from dataworth.replays import replay_run

    return replay_run(Path(run), from_scratch, progress)


def view(run: str | Path, *, html: Literal[True] | str | Path | None = None) -> Report:
    """What a finished run has to show, from its folder alone.

    Args:
        run: The folder of a `select`, `score`, `prove`, `worth` or `diagnose` run.
        html: Also write it as one page: True for `RUN/report.html`, or the file.

    Raises:
        RequestError: No finished run of these verbs, or the page can't be written.
        MissingExtra: The page needs matplotlib.
    """
    from dataworth.reports.run import report_of, with_page

    return with_page(report_of(run), html) if html else report_of(run)


def run_select(request: config.SelectRequest, progress: Progress = SILENT) -> SelectResult:
    """`select` for a finished request object: the same request again gives the finished run back."""
    budget, method, pick = (
        budget_of(request),
        choose_method(request, request.method),
        plugins.load("picks", request.pick),
    )
    given = options.split(config.pairs(request.option, "--option"), method, pick)
    refuse_joining(request)
    refuse_policy(request, given.pick_needs)
    run = open_run("select", request)
    session: Session | None = None
    result = finished_selection(run)
    if result is None:
        with run.lock:
            with open_session(request, run.path, progress) as session:
                progress.say(preview_text(session))
                session.notes += goal_rejects(session)
                scored, selection = choose_rows(session, method, pick, budget, given)
            result = store_selection(run, session, method, pick, scored, selection)
    if request.portable:
        copy_artefacts(run, result.record)
    found = result
    result = replace(found, writer=lambda out: write_picked(found, request, run, Path(out), session))
    if request.out is not None:
        result = replace(result, written=result.write(request.out))
    check_rejects(result, request)
    return result


def run_score(request: config.ScoreRequest, progress: Progress = SILENT) -> ScoreResult:
    """`score` for a finished request object."""
    methods = [choose_method(request, name.strip()) for name in (request.method or "").split(",")]
    given = options.split_each(config.pairs(request.option, "--option"), methods)
    run = open_run("score", request)
    result = finished_scores(run)
    if result is None:
        with run.lock, open_session(request, run.path, progress) as session:
            progress.say(preview_text(session))
            session.notes += goal_rejects(session)
            gate(session)
            scores = {m.name: score_one(session, m, g) for m, g in zip(methods, given, strict=True)}
            result = store_score_run(run, session, scores, {n: correlations(session, s) for n, s in scores.items()})
    check_rejects(result, request)
    return result


def run_prove(request: config.ProveRequest, progress: Progress = SILENT) -> ProofResult:
    """`prove` for a finished request object: an interrupted proof goes on, a finished one comes back from the cache."""
    return _prove("prove", request, progress)


def run_worth(request: config.WorthRequest, progress: Progress = SILENT) -> ProofResult:
    """`worth` for a finished request object; the trials are those of `prove`."""
    return _prove("worth", request, progress)


def _prove(verb: str, request: config.TrialRequest, progress: Progress) -> ProofResult:
    from dataworth.proving.proposal import sealed_parts
    from dataworth.proving.propose import propose
    from dataworth.proving.prover import Prover
    from dataworth.proving.trial_work import AGAIN
    from dataworth.reports.run import write_card

    began = time.monotonic()
    refuse_unprovable(verb, request)
    run = open_run(verb, request)
    done = finished_proof(run)
    if done is not None:
        write_card(done.run)
        check_rejects(done, request)
        return done
    split = with_judge_rows(request, run.path)
    with run.lock, open_session(split, run.path, progress) as session:
        progress.say(preview_text(session))
        session.notes += split_note(split, request, session)
        add_protected(session, request)
        sealed_parts(session)  # a goal without judge rows is refused before rows are tokenised
        session.notes += goal_rejects(session)
        gate(session)
        prover = Prover(session, run, propose(session, request, partial(best_rows, session)))
        if request.budget is not None:
            workers = max(1, len(worker_devices(request.device, request.workers)))
            rates = prover.timed if session.trainer else partial(training_rates, session)
            progress.say(prover.afford(config.seconds(request.budget), workers, rates))
        proof = prover.prove(progress.say)
        keys = {name: key for name, (_, key) in prover.proposal.forecasts.items()}
        proof = replace(proof, notes=(*proof.notes, *score_forecasts(session.cache.root, proof, keys)))
        took = time.monotonic() - began
        if request.budget is not None and took > config.seconds(request.budget):
            more = f"this command took {duration(took)}, more than its --budget {request.budget}"
            proof = replace(proof, notes=(*proof.notes, more))
        mends = any(why.startswith(AGAIN) for why in proof.failed.values())
        if mends:
            more = "trials failed for reasons that may pass: the same command tries them again"
            proof = replace(proof, notes=(*proof.notes, more))
        result = store_proof(run, session, proof, prover.proposal.subjects, final=not mends)
    write_card(run.path)
    check_rejects(result, request)
    return result


def run_diagnose(request: config.DiagnoseRequest, progress: Progress = SILENT) -> Diagnosis:
    """`diagnose` for a finished request object: an interrupted one goes on, a finished one comes back."""
    from dataworth.diagnosing.diagnosis import Diagnosis
    from dataworth.diagnosing.run import diagnosed, refuse_undiagnosable

    began = time.monotonic()
    refuse_undiagnosable(request)
    run = open_run("diagnose", request)
    result = finished_diagnosis(run)
    if result is None:
        split = with_judge_rows(request, run.path)
        with run.lock, open_session(split, run.path, progress) as session:
            progress.say(preview_text(session))
            session.notes += split_note(split, request, session)
            session.notes += goal_rejects(session)
            gate(session)
            final, measured = diagnosed(session, run, request, training_rates, began)
            result = store_diagnosis(run, session, Diagnosis(run.path, measured, request.target), final=final)
    check_rejects(result, request)
    return result


def plan_diagnosis(request: config.DiagnoseRequest, progress: Progress = SILENT) -> Design:
    """The pilots of a diagnosis whose budget pays for the whole pool: nothing is timed, run or left behind."""
    from dataworth.diagnosing.run import proposed, refuse_undiagnosable

    refuse_undiagnosable(request)
    with TemporaryDirectory() as aside:
        split = with_judge_rows(request, Path(aside))
        with open_session(split, None, progress) as session:
            session.cache, session.dry = Cache(aside), True
            return proposed(session, request)


def plan_proof(request: config.TrialRequest, progress: Progress = SILENT) -> ProofPlan:
    """What `prove` or `worth` would train, without running a model or leaving anything behind.

    Arms of scores stand for as many rows as they would have, so their tokens are those of other rows.
    """
    from dataworth.proof.result import ProofPlan
    from dataworth.proving.proposal import refuse_seen, sealed_parts
    from dataworth.proving.propose import propose

    refuse_unprovable("prove" if isinstance(request, config.ProveRequest) else "worth", request)
    with TemporaryDirectory() as aside:
        request = with_judge_rows(request, Path(aside))
        with open_session(request, None, progress) as session:
            session.cache, session.dry = Cache(aside), True
            add_protected(session, request)
            sealed_parts(session)
            gate(session)
            session.notes += session.trainer.plan_notes if session.trainer else []
            ids = session.pool.ids
            proposal = propose(session, request, lambda _, rows, seed: ids[:rows])
            judged = (rows.open_for("proof").ids for _, rows in sealed_parts(session))
            refuse_seen(session, proposal.seen, set().union(*judged))
            scored = [a for a in proposal.arms if a.role == "baseline" or a.name in request.subset]
            if stand_ins := [a.name for a in scored if a.draws[0].ids == ids[: a.rows]]:
                more = f"a dry run scores no row: the tokens of {', '.join(stand_ins)} are those of as many other rows"
                session.notes.append(more)
            seeds, searches = proposal.rules.looks.seeds[-1], len(proposal.lr_factors) - 1
            shared = proposal.owners()
            if proposal.lr_further:
                session.notes.append(
                    f"up to {proposal.lr_further} more trials, not counted here, go to an arm whose best learning rate "
                    "lies at an end of the search"
                )
            if request.budget is not None:
                more = f"a dry run times nothing: --budget {request.budget} would cut this to what the time pays for"
                session.notes.append(more)
            return ProofPlan(
                tuple(
                    (arm.name, arm.role, arm.rows, tokens, arm.per_seed * (seeds + searches))
                    for arm, tokens in proposal.sizes(session)
                    if arm.role != "curve" or arm.name not in shared
                ),
                proposal.protocol(session),
                proposal.rules.looks.seeds,
                proposal.rules.comparisons,
                proposal.rules.margin,
                tuple(session.notes),
                session.trainee.length_name,
            )


def training_rates(session: Session) -> TrialRates:
    """What training and judging take, timed on this pool for a minute."""
    if session.classifies:
        from dataworth.pricing_nets import net_rates

        with session.costing("timing", 0):
            rate = net_rates(session)
        return TrialRates(rate["training"], rate["pass"], opening=rate["net"])
    from dataworth.calibration import draw, measure

    sample = draw(session, session.pool, True)
    session.progress.say("timing this machine on the pool, about a minute")
    with session.costing("timing", 0):
        found, _ = measure(session, sample, plugins.load("scores", "random"), ["judging"], len(session.pool))
    return TrialRates(
        found["training"], found["judging"], found["states"], found["load training"] + found["load judging"]
    )


def run_plan(request: config.PlanRequest, progress: Progress = SILENT) -> PlanResult:
    """`plan` for a finished request object; it leaves nothing in the cache."""
    from dataworth.pricing import price
    from dataworth.pricing_nets import price_nets

    method, pick = choose_method(request, request.method), plugins.load("picks", request.pick)
    given = options.split(config.pairs(request.option, "--option"), method, pick)
    refuse_policy(request, given.pick_needs)
    with open_session(request, None, progress) as session:
        refuse_kinds(session, method)
        of_pick = given.pick_needs
        refuse_needs(session, method.needs | of_pick, f"method {method.name} with pick {pick.name}")
        session.gradient, session.geometry = given.gradient, given.geometry
        session.classifier_options = given.classifier
        priced = price_nets if session.classifies else price
        budget = budget_of(request)
        asked = Budget("fraction", 1.0) if budget is None else budget
        result = priced(session, method, asked, calibrate=request.calibrate, of_pick=of_pick)
        if budget is None:
            sizes = f"--keep auto also trains at its sizes, which takes {trainings()} training on everything"
            result = replace(result, notes=(*result.notes, sizes))
        if session.goal is None or result.train_pick is None:
            return result
        foretold = forecast_plan(session, method, pick, result.train_pick.rows, len(session.pool))
        return replace(result, notes=(f"forecast of the pick's worth: {foretold}", *result.notes))


def cache_size() -> CacheReport:
    """What the cache holds."""
    return CacheReport("on disk", Cache().size())


def clear_cache() -> CacheReport:
    """Empty the cache; runs keep their results.

    Raises:
        RequestError: A live process is writing to it.
    """
    found = Cache()
    before = found.size()
    found.clear()
    return CacheReport("freed", before)
