"""What classifiers trained on a pool with classes show of its rows: dynamics, predictions, features, gradient norms.

Nets differ in their seed alone. They are trained on every row that can be read, and what they say of a row is said in
sample: a net that has learned its rows by heart tells little by its last predictions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from dataworth.artefacts import class_numbers, vectors_of
from dataworth.dynamics import NAMES, Dynamics, ThresholdDynamics
from dataworth.engines.runner import one_thread
from dataworth.errors import RequestError
from dataworth.records import Example, Pool, id_order
from dataworth.rendered import as_read
from dataworth.scores.threshold_classes import threshold_sets
from dataworth.session import Session
from dataworth.store.artefact import Artefact
from dataworth.store.cache import is_done
from dataworth.store.fingerprint import fingerprint
from dataworth.store.json_files import read_json
from dataworth.store.lock import EntryLock

if TYPE_CHECKING:
    from pathlib import Path

    from dataworth.learners.classifier import ClassifierCard


_LOOKED_AT, _RANGES_APART = 200, 16.0
"""Rows whose shape and largest pixel are looked at, and by what factor two ranges may differ."""


def dynamics(session: Session) -> Dynamics:
    """What the trainings recorded, `[S, E, N]` in pool order, NaN for rows that can't be read.

    `--dynamics` names recordings of the user's own.
    """
    if session.request.dynamics:
        return Dynamics.load(session.request.dynamics, session.pool.ids)
    nets = _nets(session, "dynamics")
    epochs = len(nets["dynamics"][0]) // (5 * nets["rows"])
    values_SE5n = np.stack([d.reshape(5, epochs, -1) for d in nets["dynamics"]])
    return Dynamics(*(_spread(session, nets, values_SE5n[:, q]) for q in range(5)))


def probabilities(session: Session) -> NDArray[np.float64]:
    """Mean softmax of the trained nets, `[N, K]`, in float64: the surest rows differ by less than float32 can tell."""
    nets = _nets(session, "logits")
    logits_SnK = np.stack([found.reshape(nets["rows"], -1) for found in nets["logits"]]).astype(np.float64)
    mean_nK = np.exp(log_softmax(logits_SnK, axis=2)).mean(axis=0)
    out_NK = np.full((len(session.pool), mean_nK.shape[1]), np.nan)
    out_NK[nets["place"]] = mean_nK
    return out_NK


def entropies(session: Session) -> NDArray[np.float64]:
    """Entropy of `probabilities` in nats, `[N]`."""
    p_NK = probabilities(session)
    return -(p_NK * np.log(np.maximum(p_NK, 1e-300))).sum(axis=1)


def features(session: Session) -> NDArray[np.float32]:
    """What the first net's head reads, `[N, F]`."""
    nets = _nets(session, "features")
    return _spread(session, nets, nets["features"][0].reshape(nets["rows"], -1).T).T


def goal_features(session: Session, pool: Pool) -> tuple[NDArray[np.float32], dict[str, str]]:
    """What the first net's head reads of goal rows, `[Q, F]`, NaN for those that can't be read; why they can't.

    Unlike the pool's, these rows weren't trained on.
    """
    key = ("goal features", id(pool))
    if key not in session.made:
        session.made[key] = _goal_features(session, pool)
    found: tuple[NDArray[np.float32], dict[str, str]] = session.made[key]
    return found


def _goal_features(session: Session, pool: Pool) -> tuple[NDArray[np.float32], dict[str, str]]:
    from dataworth.learners.classifier import Classifier
    from dataworth.learners.classifier_trainer import load_weights
    from dataworth.session import first_device

    _nets(session, "features")
    first, card = _jobs(session)[0], session.classifier
    session.used[fingerprint(_training_spec(session, first))] = "trainings"  # a portable run takes the net along
    net = Classifier(card, first_device(session.request.device))
    load_weights(net, _training(session, first))
    rows = [card.renderer.encode(example) for example in readable(session, pool)]
    usable = [n for n, row in enumerate(rows) if not row.reason]
    with session.costing("features (goal)", len(usable)), one_thread("cpu"):
        found = net.features([rows[n] for n in usable]) if usable else np.zeros((0, 1), np.float32)
    out = np.full((len(rows), found.shape[1]), np.nan, dtype=np.float32)
    out[usable] = found
    return out, {row.id: row.reason for row in rows if row.reason}


def gradient_norms(session: Session) -> NDArray[np.float32]:
    """Norm of each row's loss gradient in every trained net, `[S, N]`."""
    nets = _nets(session, "norms")
    return _spread(session, nets, np.stack(nets["norms"]))


def threshold_dynamics(session: Session) -> ThresholdDynamics:
    """What two trainings with a threshold class recorded, rows in pool order; NaN for rows that can't be read.

    Both have one seed, and which rows are relabelled is drawn by that of the request.

    Raises:
        RequestError: Too few rows for two sets of them.
    """
    from dataworth.probes.nets import trained_ids

    drawn_by = session.request.seed
    seeds = {"seed": session.classifier.recipe.seed + drawn_by, "relabelled_by": drawn_by}
    names = trained_ids(inputs(session))
    sets = threshold_sets(names, len(session.classifier.renderer.classes), drawn_by)
    jobs = [_Job({**seeds, "set": r}, tuple(rows.tolist())) for r, rows in enumerate(sets)]
    nets = _trained(session, jobs, "dynamics")
    margin_2En = np.stack([d.reshape(5, -1, nets["rows"])[NAMES.index("margin")] for d in nets["dynamics"]])
    own_2N = np.ones((2, len(session.pool)), dtype=bool)
    for own_N, rows in zip(own_2N, sets, strict=True):
        own_N[nets["place"][rows]] = False
    return ThresholdDynamics(_spread(session, nets, margin_2En), own_2N)


def _spread(session: Session, nets: dict[str, Any], values: NDArray[Any]) -> NDArray[np.float32]:
    """Values whose last axis is the trained rows, over all rows of the pool."""
    out = np.full((*values.shape[:-1], len(session.pool)), np.nan, dtype=np.float32)
    out[..., nets["place"]] = values
    return out


@dataclass(frozen=True)
class _Job:
    """A net to train: `key` is what it differs by, its seed among that; `relabelled` are places of trained rows."""

    key: Mapping[str, int]
    relabelled: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        """Its row of the artefact."""
        return fingerprint(self.key)[:32]


def _nets(session: Session, what: str) -> dict[str, Any]:
    """What `_trained` says of the nets of the request."""
    return _trained(session, _jobs(session), what)


def _jobs(session: Session) -> list[_Job]:
    """The nets of the request, which differ in their seed."""
    nets = session.classifier_options.nets
    # A proof of a method selects anew in every trial, with other nets.
    first = session.classifier.recipe.seed + nets * session.request.seed
    return [_Job({"seed": first + s}) for s in range(nets)]


def _training(session: Session, job: _Job) -> Path:
    """Where a net is trained and kept."""
    return session.cache.folder("trainings", _training_spec(session, job))


def _training_spec(session: Session, job: _Job) -> dict[str, Any]:
    card = session.classifier
    return {
        "learner": {**card.spec, "recipe": {**card.recipe.to_dict(), "seed": job.key["seed"]}},
        "inputs": inputs(session).name,
        "record": session.classifier_options.record,
        **{name: value for name, value in job.key.items() if name != "seed"},
    }


def _trained(session: Session, jobs: Sequence[_Job], what: str) -> dict[str, Any]:
    """Ragged columns of trained nets, `place` of their rows in the pool, and `rows`, how many these are."""
    from dataworth.probes.nets import trained_ids

    options, card = session.classifier_options, session.classifier
    folder = inputs(session)
    recipe = card.recipe.to_dict()
    of_rows = {"inputs": folder.name, "record": options.record}
    norms = what == "norms"
    spec = {"learner": {**card.spec, "recipe": {**recipe, "seed": 0}}, **of_rows, "norms": norms}
    artefact: Artefact = session.artefact("nets", spec)
    by_id = {job.id: job for job in jobs}
    ids = list(by_id)
    settings = {
        "model": card.model,
        "recipe": recipe,
        "classes": list(card.renderer.classes),
        "shape": list(card.renderer.shape),
        "inputs": str(folder),
        "record": options.record,
        "trainings": {job.id: str(_training(session, job)) for job in jobs},
        "norms": norms,
    }

    def payload(shard: Sequence[str]) -> list[tuple[int, tuple[int, ...]]]:
        return [(by_id[i].key["seed"], by_id[i].relabelled) for i in shard]

    missing = artefact.missing(ids, retry_unscored=True)
    if missing:
        with session.costing("trainings", len(missing)):
            session.engine.run(
                artefact,
                ids,
                runner="dataworth.probes.nets:open_nets",
                config=settings,
                payload=payload,
                shard_rows=1,
                progress=lambda done, total: session.progress("trainings", done, total),
                hang_s=86_400.0,
                retry_unscored=True,  # a machine without memory is no property of a net
            )
    table = artefact.table(ids)
    for row_id, why in table.unscored.items():
        raise RequestError(
            f"the net of seed {by_id[row_id].key['seed']} can't be trained ({why}): expected all {len(ids)}; mend it, "
            "run again"
        )
    place = np.array([session.pool.position[i] for i in trained_ids(folder)], dtype=np.int64)
    return {what: table.ragged(what), "place": place, "rows": len(place)}


def inputs(session: Session) -> Path:
    """The pool as the classifier sees it, read once; rows that can't be read are unscored.

    Raises:
        RequestError: Fewer than two classes can be read.
    """
    card, pool = session.classifier, session.pool
    spec = as_read(pool, {"pool": pool.fingerprint, "renderer": card.renderer.spec, "encoder": encoder_key(session)})
    folder = session.cache.folder("inputs", spec)
    if not is_done(folder):
        with EntryLock(folder), session.costing("inputs", len(pool)):
            if not is_done(folder):  # another process may have made it a moment ago
                _write_inputs(session, folder)
    session.unscored |= unread(folder)
    return folder


def _write_inputs(session: Session, folder: Path) -> None:
    from dataworth.probes.nets import write_inputs

    encode = session.classifier.renderer.encode
    rows = [encode(example) for example in readable(session, session.pool)]
    usable = [rows[i] for i in id_order([row.id for row in rows]).tolist() if not rows[i].reason]
    if len({row.label for row in usable}) < 2:
        raise RequestError(
            f"{len(usable):,} of {len(rows):,} rows can be read, of fewer than two classes: expected two or more; "
            "check images and labels"
        )
    write_inputs(folder, usable, {row.id: row.reason for row in rows if row.reason})


def number_kind(folder: Path) -> str:
    """What numbers the rows of `inputs` are, such as uint8: pixels that are all bytes are scaled in one way."""
    return str(np.load(folder / "x.npy", mmap_mode="r", allow_pickle=False).dtype)


def unread(folder: Path) -> dict[str, str]:
    """Ids of the rows that `inputs` couldn't read, with the reason.

    Raises:
        FormatError: The list is damaged.
    """
    from dataworth.probes.nets import UNREAD

    found: dict[str, str] = read_json(folder / UNREAD, f"delete the folder {folder}")
    return found


def encoder_key(session: Session) -> dict[str, Any] | None:
    """What decides the vectors that stand for texts or images, if `--encoder` makes such."""
    from dataworth import selfsupervised
    from dataworth.probes.encoder import encoder_spec

    named = session.request.encoder
    if named is not None and selfsupervised.recipe_of(named) is not None:
        return selfsupervised.encoder_key(session)
    return encoder_spec(named) if named is not None else None


def readable(session: Session, pool: Pool) -> Iterator[Example]:
    """A pool's or goal's rows as a classifier's `LabelledEncoder` takes them: vectors stand for what an encoder reads.

    A row that the encoder can't read holds nothing.

    Raises:
        RequestError: The goal's pixels have another range than the pool's.
    """
    if pool is not session.pool:
        _refuse_other_range(session, pool)
    if session.request.encoder is None:
        yield from pool.examples()
        return
    vectors_ND, unscored = vectors_of(session, pool, "embeddings")
    session.unscored |= unscored
    for example, vector_D in zip(pool.examples(), vectors_ND, strict=True):
        yield replace(example, content=None if example.id in unscored else vector_D)


def _refuse_other_range(session: Session, goal: Pool) -> None:
    """Refuse images from 0 to 1 where the pool's go to 255, and the like: a net would see noise."""
    if "highest pixel" not in session.made:
        session.made["highest pixel"] = _highest(session.pool)
    high, pool_high = _highest(goal), session.made["highest pixel"]
    if high and pool_high and not 1 / _RANGES_APART < high / pool_high < _RANGES_APART:
        raise RequestError(
            f"the goal's pixels go to {high:g}, the pool's to {pool_high:g}: expected one range; scale one of them"
        )


def _highest(pool: Pool) -> float:
    """The largest number among the first readable images; 0 where there are none."""
    from dataworth.learners.labelled import array_of

    found = 0.0
    for example in pool.examples(range(min(len(pool), _LOOKED_AT))):
        if example.schema == "labelled_image":
            with suppress(ValueError):
                found = max(found, float(np.abs(array_of(example)).max()))
    return found


def describe(session: Session) -> ClassifierCard:
    """The classifier of the request: its classes are the pool's, its shape the commonest among the first readable rows.

    Raises:
        RequestError: No model was named, or no row can be read.
    """
    from dataworth.learners.classifier import describe_classifier
    from dataworth.learners.labelled import LabelledEncoder

    request = session.request
    if request.model is None:
        raise RequestError(
            "this needs a classifier: expected --model linear, mlp, resnet, torchvision:NAME, timm:NAME or "
            "module:function"
        )
    renderer = LabelledEncoder(list(class_numbers(session)), _shape(session))
    return describe_classifier(request.model, session.classifier_recipe, renderer, request.device)


def _shape(session: Session) -> tuple[int, ...]:
    from dataworth.learners.labelled import array_of

    if session.request.encoder is not None:
        return vectors_of(session, session.pool, "embeddings")[0].shape[1:]
    reason, found = "it is empty", Counter[tuple[int, ...]]()
    for example in session.pool.examples():
        try:
            found[array_of(example).shape] += 1
        except ValueError as error:
            reason = str(error)
        if found.total() == _LOOKED_AT:
            break
    if found:
        return found.most_common(1)[0][0]
    raise RequestError(
        f"no row of the pool can be read ({reason}): expected images or vectors, or texts and --encoder; name another "
        "pool"
    )
