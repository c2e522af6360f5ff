"""What a selection from rows with a class will cost: trainings of classifiers, and passes of what they became.

Rates are CPU-seconds per row on this machine (seconds of the device on a GPU), timed on a hash-chosen sample.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
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
from dataworth.piloting import policy_of
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
_OF_NETS = frozenset({"dynamics", "probabilities", "entropies", "grad_norms"}) | artefacts.OF_VECTORS
_UNPRICED = frozenset({"neighbours", "clusters", "near_duplicates"}) | artefacts.OF_HALVES


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
        if session.request.encoder is not None:  # what it costs to train one is timed apart
            fresh["request"] = replace(session.request, encoder=selfsupervised.shortest(session.request.encoder))
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

    The cache isn't asked for nets, so a request that shares some with an earlier one costs less than this.
    """
    needs, rate, how = method.needs | of_pick, None, {}
    if calibrate:
        began = time.perf_counter()
        timed = net_rates(session, norms="grad_norms" in needs) if session.request.model else {}
        sample = draw(session, session.pool, False)
        rate = {**sample.seconds, **text_costs(session, sample, method), **timed, **selfsupervised.rates(session)}
        how = {"seconds": time.perf_counter() - began, "seconds_per_unit": rate, "device": session.request.device}
    book = _Book(session, needs, rate, min(1.0, budget.rows(len(session.pool)) / len(session.pool)))
    pick, full = book.training("train on the pick", book.kept), book.training("train on everything", 1.0)
    result = PlanResult(tuple(book.selection()), pick, full, how, session.classifier_recipe.to_dict())
    return replace(result, notes=(*book.notes(), *wall_time(result), *comparison(result)))


class _Book:
    """The price list in the making; `kept` is the share of the rows that is kept."""

    def __init__(self, session: Session, needs: frozenset[str], rate: Mapping[str, float] | None, kept: float) -> None:
        self.session, self.needs, self.rate, self.kept = session, needs, rate, kept
        self.rows, self.recipe = len(session.pool), session.classifier_recipe
        self.encodes = session.request.encoder is not None and bool(needs & (artefacts.OF_VECTORS | _OF_NETS))
        own = session.request.encoder is not None or artefacts.has_own_vectors(session.pool)
        asked = needs & (_OF_NETS - (artefacts.OF_VECTORS if own else frozenset()))
        if session.request.dynamics:
            asked -= {"dynamics"}
        self.nets = session.classifier_options.nets if asked else 0
        self.trained = self.nets + (_THRESHOLD_NETS if "threshold_dynamics" in needs else 0)
        self.workers = max(1, len(worker_devices(session.request.device, session.request.workers)))

    def selection(self) -> Iterator[Stage]:
        """Every step in the order in which it would run."""
        rows, nets, epochs = self.rows, self.trained, self.recipe.epochs
        reading = self.session.costs["reading"]["cpu_seconds"]
        yield Stage("read the pool", rows, 0, 0, 1, 0, None if self.rate is None else reading)
        if self.session.goal is not None:
            yield self._stage("gate", 1, {"read": rows, "gate": rows})
        if self.encodes and selfsupervised.makes_vectors(self.session):
            yield self._stage("train the encoder", 1, {"encoder training": rows})
        if self.encodes:
            yield self._stage("the encoder's pass", 1, {"encoder": rows}, at_once=self.workers)
        if nets:
            at_once = min(self.workers, nets)
            yield self._stage("rows as arrays", 1, {"read": rows})
            named, seen = f"train {nets} net{'s' if nets > 1 else ''}", nets * epochs * rows
            yield self._stage(named, nets * epochs, {"training": seen, "net": nets}, at_once=at_once)
            yield self._stage("what nets say of rows", 2 * nets, {"pass": 2 * nets * rows}, at_once=at_once)
        if "grad_norms" in self.needs:
            at_once = max(1, min(self.workers, self.nets))
            yield self._stage("gradient norms", self.nets, {"norms": self.nets * rows}, at_once=at_once)
        if policy_of(self.session.request):
            seen_by_pilots = 2 * epochs * self.kept * rows
            cost = {"training": seen_by_pilots, "net": 2}
            yield self._stage("pilots of --policy auto", 2 * epochs, cost, at_once=min(2, self.workers))
        out = round(sum(f.size for f in self.session.pool.files) * self.kept) + rows * _ROW_BYTES
        yield self._stage("pick and write", 1, {"read": rows}, disk=out)

    def _stage(self, name: str, passes: float, cost: Mapping[str, float], *, disk: int = 0, at_once: int = 1) -> Stage:
        price = None if self.rate is None else sum(self.rate.get(unit, 0.0) * n for unit, n in cost.items())
        return Stage(name, self.rows, 0, 0, passes, disk, price, at_once)

    def training(self, name: str, share: float) -> Stage:
        """Training on a share of the rows with the recipe's epochs."""
        seen = self.recipe.epochs * share * self.rows
        cost = None if self.rate is None or "training" not in self.rate else self.rate["training"] * seen
        return Stage(name, round(share * self.rows), 0, 0, self.recipe.epochs, 0, cost)

    def notes(self) -> list[str]:
        """What the reader must know to read the figures."""
        unpriced = sorted(self.needs & _UNPRICED)
        if self.encodes and self.session.request.model is None and not selfsupervised.makes_vectors(self.session):
            unpriced.append("the encoder's pass")
        found = [f"not priced: {', '.join(unpriced)} (processor time that grows with the rows)"] if unpriced else []
        return [*found, "priced as if the cache held none of these nets"] if self.trained else found
