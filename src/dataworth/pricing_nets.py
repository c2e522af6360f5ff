"""What a selection from rows with a class will cost: trainings of classifiers, and passes of what they became.

Rates are CPU-seconds per row on this machine (seconds of the device on a GPU), timed on a hash-chosen sample.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dataworth import artefacts, classifying, selfsupervised
from dataworth.calibration import draw, text_costs
from dataworth.engines.runner import one_thread
from dataworth.errors import RequestError
from dataworth.pricing import comparison, wall_time
from dataworth.records import Budget, hash_unit
from dataworth.results import PlanResult, Score, Stage
from dataworth.session import Session, first_device, worker_devices
from dataworth.store.cache import Cache

_SECONDS = 8.0
"""Timed seconds of the training."""
_BATCHES = 8
"""Optimizer steps of a timed turn, at most."""
_ROW_BYTES = 96
_THRESHOLD_NETS = 2
_OF_NETS = frozenset({"dynamics", "probabilities", "entropies", "grad_norms", "vectors", "neighbours", "clusters"})
_UNPRICED = frozenset({"neighbours", "clusters", "near_duplicates"})


def net_rates(session: Session, *, norms: bool = False) -> dict[str, float]:
    """Seconds of making a net (`net`), and per row of `training`, of a forward `pass`, and of gradient `norms`.

    Also of reading a row (`read`), and of an `encoder`'s pass where one is named.

    Raises:
        RequestError: No sampled row can be read.
    """
    from dataworth.formats import take_rows

    wanted = _BATCHES * session.classifier_recipe.batch_size
    drawn_N = hash_unit(session.pool.ids, session.request.seed, "plan sample").argsort(kind="stable")[:wanted]
    with TemporaryDirectory() as aside:
        sampled = take_rows(session.pool, np.sort(drawn_N))
        fresh: dict[str, Any] = {"cache": Cache(aside), "made": {}, "costs": {}, "unscored": {}, "used": {}}
        with replace(session, pool=sampled, **fresh) as small:
            return _timed(small, Path(aside), norms)


def _timed(session: Session, folder: Path, norms: bool) -> dict[str, float]:
    from dataworth.learners.classifier import Classifier
    from dataworth.learners.classifier_trainer import train_classifier

    card, device = session.classifier, first_device(session.request.device)
    now = time.process_time if device == "cpu" else time.perf_counter
    began = time.process_time()
    encoded = [card.renderer.encode(example) for example in classifying.readable(session, session.pool)]
    found = {"read": (time.process_time() - began) / len(encoded)}
    found["encoder"] = session.costs.get("embeddings", {}).get("cpu_seconds", 0.0) / len(encoded)
    rows = [row for row in encoded if not row.reason]
    if not rows:
        raise RequestError(f"no sampled row can be read ({encoded[0].reason}): expected images, vectors or --encoder")
    once = replace(card, recipe=replace(card.recipe, epochs=1))
    folders = (folder / f"net-{n}" for n in count())
    with one_thread(device):
        train_classifier(Classifier(once, device), rows[: card.recipe.batch_size], out=next(folders))  # imports, warms
        spent, seen = 0.0, 0
        while spent < _SECONDS:
            began = now()
            net = Classifier(once, device)
            found["net"] = now() - began
            train_classifier(net, rows, out=next(folders))
            spent, seen = spent + now() - began - found["net"], seen + len(rows)
        found["training"] = spent / seen
        for name, run in (("pass", net.logits), ("norms", net.gradient_norms))[: 2 if norms else 1]:
            part = rows if name == "pass" else rows[:100]
            began = now()
            run(part)
            found[name] = (now() - began) / len(part)
    return found


def price_nets(
    session: Session, method: Score, budget: Budget, *, calibrate: bool, of_pick: frozenset[str] = frozenset()
) -> PlanResult:
    """Stages of a selection by classifiers, and both trainings beside them; arguments are those of `pricing.price`.

    Nets that the cache holds aren't counted: a finished selection costs less than this.
    """
    needs, rows = method.needs | of_pick, len(session.pool)
    recipe, nets = session.classifier_recipe, session.classifier_options.nets
    own = session.request.encoder is not None or artefacts.has_own_vectors(session.pool)
    asked = needs & (_OF_NETS - ({"vectors", "neighbours", "clusters"} if own else frozenset()))
    if session.request.dynamics:
        asked -= {"dynamics"}
    trained = (nets if asked else 0) + (_THRESHOLD_NETS if "threshold_dynamics" in needs else 0)
    rate: Mapping[str, float] | None = None
    how: dict[str, Any] = {}
    if calibrate:
        began = time.perf_counter()
        timed = net_rates(session, norms="grad_norms" in needs) if session.request.model else {}
        sample = draw(session, session.pool, False)
        rate = {**sample.seconds, **text_costs(session, sample, method), **timed, **selfsupervised.rates(session)}
        how = {"seconds": time.perf_counter() - began, "seconds_per_unit": rate, "device": session.request.device}
    at_once = max(1, min(len(worker_devices(session.request.device, session.request.workers)), trained))

    def stage(name: str, passes: float, cost: Mapping[str, float], disk: int = 0, workers: int = 1) -> Stage:
        price = None if rate is None else sum(rate.get(unit, 0.0) * n for unit, n in cost.items())
        return Stage(name, rows, 0, 0, passes, disk, price, workers)

    kept = min(1.0, budget.rows(rows) / rows)
    reading = session.costs["reading"]["cpu_seconds"]
    stages = [Stage("read the pool", rows, 0, 0, 1, 0, None if rate is None else reading)]
    if session.goal is not None:
        stages.append(stage("gate", 1, {"read": rows, "gate": rows}))
    encodes = session.request.encoder is not None and (trained or needs & artefacts.OF_VECTORS)
    if encodes:
        workers = len(worker_devices(session.request.device, session.request.workers))
        trains = [stage("train the encoder", 1, {"encoder training": rows})]
        stages += trains if selfsupervised.makes_vectors(session) else []
        stages.append(stage("the encoder's pass", 1, {"encoder": rows}, workers=max(1, workers)))
    if trained:
        stages.append(stage("rows as arrays", 1, {"read": rows}))
        seen = trained * recipe.epochs * rows
        nets_of = f"train {trained} net{'s' if trained > 1 else ''}"
        stages.append(stage(nets_of, trained * recipe.epochs, {"training": seen, "net": trained}, 0, at_once))
        stages.append(stage("what nets say of rows", 2 * trained, {"pass": 2 * trained * rows}, 0, at_once))
    if "grad_norms" in needs:
        stages.append(stage("gradient norms", nets, {"norms": nets * rows}, 0, at_once))
    out = round(sum(f.size for f in session.pool.files) * kept) + rows * _ROW_BYTES
    stages.append(stage("pick and write", 1, {"read": rows}, out))

    def training(name: str, share: float) -> Stage:
        cost = None if rate is None or "training" not in rate else rate["training"] * recipe.epochs * share * rows
        return Stage(name, round(share * rows), 0, 0, recipe.epochs, 0, cost)

    pick, full = training("train on the pick", kept), training("train on everything", 1.0)
    result = PlanResult(tuple(stages), pick, full, how, recipe.to_dict())
    return replace(result, notes=(*_notes(session, needs, trained), *wall_time(result), *comparison(result)))


def _notes(session: Session, needs: frozenset[str], trained: int) -> list[str]:
    """What the reader must know to read the figures."""
    unpriced = sorted(needs & _UNPRICED)
    untimed = session.request.model is None and not selfsupervised.makes_vectors(session)
    if session.request.encoder is not None and untimed and needs & artefacts.OF_VECTORS:
        unpriced.append("the encoder's pass")
    found = [f"not priced: {', '.join(unpriced)} (processor time that grows with the rows)"] if unpriced else []
    if trained:
        found.append("nets that the cache holds already aren't counted")
    return found
