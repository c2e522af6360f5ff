"""From a `diagnose` request to its diagnosis."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dataworth import artefacts, config
from dataworth.diagnosing.bits import COMPRESSOR, pool_bits
from dataworth.diagnosing.design import Design, Prices, epochs_to_try, planned
from dataworth.diagnosing.held_out import Judges, judges
from dataworth.diagnosing.larger import has_larger, larger_session
from dataworth.diagnosing.measured import SHARE, Measured
from dataworth.diagnosing.pilots import Runner
from dataworth.diagnosing.training_log import read_log
from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics.intrinsic_dimension import intrinsic_dimension
from dataworth.proof.budget import TrialRates
from dataworth.records import hash_unit
from dataworth.results import duration
from dataworth.session import Session, worker_devices
from dataworth.store.atomic import write_atomic
from dataworth.store.fingerprint import canonical_json
from dataworth.store.json_files import read_json
from dataworth.store.run import RunFolder

DESIGN = "design.json"
_VECTORS = 5000
"""Rows of which the intrinsic dimension is told, at most."""
_SPARE = 0.9
"""Share of the budget that pilots may take by their prices: the rest is for what isn't priced."""

Rates = Callable[[Session], TrialRates]


def refuse_undiagnosable(request: config.DiagnoseRequest) -> None:
    """Refuse a diagnosis that can't be one, before anything is read.

    Raises:
        RequestError: Names what is missing or wrong.
    """
    if request.model is None:
        raise RequestError("diagnose needs the learner: expected dataworth diagnose POOL --model M [--goal G]")
    config.seconds(request.budget)
    _sizes(request)
    if request.chains < 2:
        raise RequestError(
            f"chains={request.chains}: expected at least 2, as their scatter is the interval; correct --chains"
        )
    if request.target is not None and not 0 < request.target < math.inf:
        raise RequestError(f"target={request.target:g}: expected a loss above 0; correct --target")
    if request.reference not in (None, COMPRESSOR) or (request.reference and not request.capacity):
        raise RequestError(
            f"--reference {request.reference!r}: expected compressor beside --capacity, or nothing for the learner; "
            "correct it"
        )


def diagnosed(
    session: Session, run: RunFolder, request: config.DiagnoseRequest, rates: Rates, began: float
) -> tuple[bool, Measured]:
    """Plan the pilots once, train and judge them, count bits if asked; first whether nothing is to be tried again.

    Args:
        session: Pool, goal, learner; its gate has been run.
        run: Where the design is kept, so that a resumed diagnosis has the same.
        request: What is asked.
        rates: Times this machine on the session's learner.
        began: When the command did, by `time.monotonic`: its budget is that of everything.
    """
    log = read_log(Path(request.training_log).expanduser()) if request.training_log else None
    if request.reference == COMPRESSOR and session.classifies:
        raise RequestError("--reference compressor is for texts: expected none for rows with a class; leave it out")
    found = judges(session, request.chains)
    if request.target is not None and found.unit.startswith(SHARE):
        if request.target >= 1:
            raise RequestError(f"target={request.target:g}: expected an {found.unit} below 1; correct --target")
        session.notes.append(f"--target {request.target:g} is an {found.unit}")
    larger = larger_session(session, request.larger)
    design, price = _design(session, run, request, found, larger, rates, began)
    session.notes += _cut(design, session.trainee.recipe.epochs, request.budget)
    for note in session.notes:
        session.progress.say(note)
    session.progress.say(str(design))
    own = Runner(session, found, design)
    chosen, of_larger = own.choose(design.sizes, "pilots, first chain"), dict[int, int]()
    own.run(chosen, design.sizes, "pilots")
    points, notes, parameters = own.points(), own.unjudged(), own.parameters()
    mends, name = own.mends, ""
    if larger is not None:
        beside = Runner(larger[0], found, design)
        of_larger, why = _of_larger(beside, parameters)
        points += beside.points(larger=True) if of_larger else []
        notes += [f"--larger {larger[1]}{why}"] if why else []
        mends, name = mends or beside.mends, larger[1] if of_larger else ""
        beside.close()
    counted = _capacity(session, request)
    if counted is not None and not parameters:
        notes.append("no training left its numbers, so capacity can't be told: delete the run folder and try again")
    own.close()
    took = time.monotonic() - began
    if took > config.seconds(request.budget):
        notes.append(f"this took {took / 60:.0f} minutes, more than its --budget {request.budget}")
    return not mends, Measured(
        unit=found.unit,
        loss_unit=found.probed.judge.unit,
        on=found.on,
        pool_rows=len(found.rows),
        sizes=design.sizes,
        chains=design.chains,
        tried=own.tried(),
        chosen=chosen,
        chosen_larger=of_larger,
        points=tuple(points),
        untouched=own.bare(),
        untouched_loss=own.bare_loss(),
        larger=name,
        parameters=parameters,
        near=found.near,
        test_rows=sum(len(j.rows) for j in found.test),
        kept_near=session.request.keep_near_goal,
        price=price,
        capacity=counted,
        dimension=_dimension(session),
        delayed=None if log is None else log.to_dict() | {"told": log.explain()},
        notes=tuple(dict.fromkeys((*session.notes, *notes))),
    )


def _of_larger(beside: Runner, parameters: int) -> tuple[dict[int, int], str]:
    """The epochs of the larger learner, trained; without any it says nothing, and why: the own one's pilots stand."""
    try:
        chosen = beside.choose(beside.design.larger, "pilots of the larger learner, first chain")
        beside.run(chosen, beside.design.larger, "pilots of the larger learner")
    except NonsenseRefused as reason:
        return {}, f": {reason}"
    if beside.parameters() <= parameters:
        return {}, " trains no more numbers than the learner: nothing is read from it"
    return chosen, ""


def proposed(session: Session, request: config.DiagnoseRequest) -> Design:
    """The design of a request without prices, counted on rows that nobody has read or compared yet."""
    sizes = _sizes(request)
    if sizes and sizes[-1] > len(session.pool):
        raise RequestError(
            f"--sizes up to {sizes[-1]:,} of a pool of {len(session.pool):,}: expected fewer; correct --sizes"
        )
    return planned(
        len(session.pool),
        session.trainee.recipe.epochs,
        chains=request.chains,
        larger=has_larger(session, request.larger),
        sizes=sizes,
    )


def _sizes(request: config.DiagnoseRequest) -> tuple[int, ...]:
    """The sizes that the user wants; none where the budget decides."""
    if request.sizes is None:
        return ()
    parts = [part.strip().replace("_", "") for part in request.sizes.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts) or len(set(parts)) < 4:
        raise RequestError(
            f"--sizes {request.sizes!r}: expected at least 4 different numbers of rows, such as 125,250,500,1000"
        )
    return tuple(sorted({int(part) for part in parts}))


def _design(
    session: Session,
    run: RunFolder,
    request: config.DiagnoseRequest,
    found: Judges,
    larger: tuple[Session, str] | None,
    rates: Rates,
    began: float,
) -> tuple[Design, dict[str, float]]:
    """The design of this run and its prices, made once and kept in its folder."""
    path = run.path / DESIGN
    if path.exists():
        told = read_json(path, "delete the run folder; trials stay in the cache", {"design": dict, "price": dict})
        kept = told["design"]
        tuples = {name: tuple(kept[name]) for name in ("sizes", "larger")}
        return Design(**{**kept, **tuples, "epochs": tuple(map(tuple, kept["epochs"]))}), told["price"]
    sizes, epochs = _sizes(request), session.trainee.recipe.epochs
    if sizes and sizes[-1] > len(found.rows):
        raise RequestError(
            f"--sizes up to {sizes[-1]:,}: {len(found.rows):,} rows can be drawn; expected fewer, correct --sizes"
        )
    workers = max(1, len(worker_devices(request.device, request.workers)))
    price = _prices(session, found, larger, rates)
    left = _SPARE * (config.seconds(request.budget) - (time.monotonic() - began))
    design = planned(
        len(found.rows),
        epochs,
        chains=request.chains,
        larger=larger is not None,
        sizes=sizes,
        price=price,
        budget=left,
        workers=workers,
    )
    told = asdict(price) | {"workers": workers, "epochs": epochs}
    write_atomic(path, canonical_json({"design": design.to_dict(), "price": told}))
    return design, told


def _cut(design: Design, epochs: int, budget: str) -> list[str]:
    """What the budget didn't pay for."""
    out, whole = [], epochs_to_try(design.sizes, epochs)
    most, wanted = (max(max(tried) for tried in of) for of in (design.epochs, whole))
    if most < wanted:
        out.append(
            f"--budget {budget} pays for at most {most} epochs of a size, not {wanted}: where the longest training did "
            "best, only a longer budget tells what more epochs would do"
        )
    if design.seconds is not None and design.seconds > config.seconds(budget):
        out.append(f"--budget {budget} doesn't pay for these sizes: they take at most {duration(design.seconds)}")
    return out


def _prices(session: Session, found: Judges, larger: tuple[Session, str] | None, rates: Rates) -> Prices:
    """What a pilot's parts take on this machine."""
    rate, trainee = rates(session), session.trainee
    judged = sum(trainee.length(row) for judged in found.sets for row in judged.rows)
    position = session.pool.position
    length = float(np.mean(trainee.size_N[[position[i] for i in found.rows]]))
    trial, row = rate.opening + judged * rate.judging, length * rate.training
    more, states = 1.0, rate.states
    if larger is not None and (larger[0].request.model != session.request.model or session.classifies):
        beside = rates(larger[0])
        theirs = (beside.opening + judged * beside.judging, length * beside.training)
        more = max([1.0, *(a / b for a, b in zip(theirs, (trial, row), strict=True) if b > 0)])
        states += beside.states  # the layers of another model are others
    return Prices(trial=trial, row=row, larger=more, state=length * states, once=judged * states)


def _dimension(session: Session) -> dict[str, Any] | None:
    """The intrinsic dimension of the pool's vectors; None where neither the rows nor an encoder bring any."""
    if session.request.encoder is None and not artefacts.has_own_vectors(session.pool):
        return None
    vectors_ND, _ = artefacts.vectors_of(session, session.pool, "embeddings")
    there = np.flatnonzero(np.isfinite(vectors_ND).all(1))
    ids = [session.pool.ids[n] for n in there]
    drawn = there[hash_unit(ids, session.request.seed, "dimension").argsort(kind="stable")[:_VECTORS]]
    try:
        found = intrinsic_dimension(vectors_ND[drawn], np.arange(len(drawn)))
    except RequestError as reason:
        session.notes.append(f"no intrinsic dimension: {reason}")
        return None
    return {**found.to_dict(), "told": str(found)}


def _capacity(session: Session, request: config.DiagnoseRequest) -> dict[str, Any] | None:
    if not request.capacity:
        return None
    return {**pool_bits(session, request.reference), "adapter": not session.classifies}
