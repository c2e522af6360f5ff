"""Gradient features over a warm-up's checkpoints, and their cosines with a goal: the probes behind `less`.

Source: Xia et al. 2024 (arXiv 2402.04333), sections 3-4. The warm-up set is frozen at first use and reused while it
lies within the pool, so that appended rows cost only themselves; features are keyed by row id and checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dataworth.artefacts import (
    MODEL_SHARD,
    goal_of,
    model_settings,
    refuse_empty,
)
from dataworth.errors import FingerprintMismatch, RequestError
from dataworth.probes.spec import FeatureSpec
from dataworth.records import Pool, hash_unit
from dataworth.rendered import as_read, encoded_payload, token_artefact, token_table
from dataworth.results import Similarity
from dataworth.session import Session, first_device
from dataworth.store.artefact import Artefact
from dataworth.store.atomic import write_atomic
from dataworth.store.cache import is_done, mark_done
from dataworth.store.fingerprint import fingerprint
from dataworth.store.json_files import read_json
from dataworth.store.lock import EntryLock
from dataworth.store.table import Table

if TYPE_CHECKING:
    from dataworth.learners.trainer import Trained
    from dataworth.probes.similarity import FeatureRows

GROWN = 1.5
LEAST_STEPS = 16
"""Optimizer steps below which a warm-up's Adam state says little."""


@dataclass(frozen=True)
class Checkpoint:
    """One point of the warm-up: adapter and moments in `folder`, and its share of the learning rate."""

    folder: Path | None
    sha256: str
    weight: float


@dataclass(frozen=True)
class WarmUp:
    """The frozen warm-up set and its checkpoints. `base` is how many rows the pool had when it was drawn."""

    ids: tuple[str, ...]
    base: int
    checkpoints: tuple[Checkpoint, ...]


UNTOUCHED = WarmUp((), 0, (Checkpoint(None, "untouched", 1.0),))
"""No warm-up: one look at the untouched learner."""


def goal_similarity(session: Session) -> Similarity:
    """Cosines of every pool row with every subtask, at each checkpoint of the warm-up."""
    from dataworth.probes.similarity import similarity

    goal, pool = goal_of(session), session.pool
    options = session.gradient.with_recipe(session.recipe)
    found = token_table(session, pool)
    refuse_empty(session, len(found), found.unscored, "the pool")
    for sub in goal.subtasks:
        found = token_table(session, sub.steer, "tokens (goal)")
        refuse_empty(session, len(found), found.unscored, f"goal subtask {sub.name!r}")
    warm = warm_up(session)
    plain = replace(options.feature, optimizer="sgd", bias_correction=False)
    subtask_Q = np.repeat(np.arange(len(goal.subtasks)), [len(s.steer) for s in goal.subtasks])
    steer = [sub.steer for sub in goal.subtasks]
    of_pool, of_goal = [], []
    for n, point in enumerate(warm.checkpoints, 1):
        label = f"checkpoint {n} of {len(warm.checkpoints)}"
        of_pool.append(features(session, [pool], point, options.feature, f"gradients, {label}"))
        of_goal.append(_goal_features(session, steer, point, plain, f"goal gradients, {label}"))
    with session.costing("similarity", len(pool)):
        return similarity(
            of_pool,
            of_goal,
            subtask_Q,
            [s.name for s in goal.subtasks],
            np.array([p.weight for p in warm.checkpoints]),
            device=first_device(session.request.device),
        )


def _rows(table: Table, feature: FeatureSpec) -> FeatureRows:
    """A table of features with the projection that made it, as stamped on each row.

    Raises:
        FingerprintMismatch: Its rows were made under several.
    """
    from dataworth.probes.similarity import FeatureRows

    stamps = np.unique(table.column("projection")) if table.scored_N.any() else np.zeros(1, np.uint64)
    if len(stamps) > 1:
        raise FingerprintMismatch(
            f"features of one table have {len(stamps)} projections: expected one; clear the cache"
        )
    return FeatureRows.of(table, width=feature.width, projection=f"{int(stamps[0]):016x}")


def features(
    session: Session, pools: Sequence[Pool], point: Checkpoint, feature: FeatureSpec, stage: str
) -> FeatureRows:
    """Gradient features at a checkpoint of the rows of pools that are read alike; only missing rows are computed."""
    artefact, payload = gradient_artefact(session, point, feature, pools[0]), encoded_payload(session, pools[0])
    settings = {**model_settings(session, point.folder), "feature": feature.to_dict()}
    ids = [i for pool in pools for i in pool.ids]
    runner = "dataworth.probes.gradients:open_gradients"
    return _rows(session.fill(stage, artefact, ids, runner, settings, payload, MODEL_SHARD), feature)


def _goal_features(
    session: Session, pools: Sequence[Pool], point: Checkpoint, feature: FeatureSpec, stage: str
) -> FeatureRows:
    """The same for the goal's parts, one behind another; each may have a mapping of its own."""
    from dataworth.probes.similarity import joined

    starts = np.cumsum([0, *map(len, pools)])
    alike: dict[str, list[int]] = {}
    for n, pool in enumerate(pools):
        alike.setdefault(fingerprint(as_read(pool, {})), []).append(n)
    return joined(
        [
            (
                features(session, [pools[n] for n in group], point, feature, stage),
                np.concatenate([np.arange(starts[n], starts[n + 1]) for n in group]),
            )
            for group in alike.values()
        ]
    )


def gradient_artefact(session: Session, point: Checkpoint, feature: FeatureSpec, pool: Pool) -> Artefact:
    """Where gradient features at a checkpoint are kept, for rows read as this pool's are."""
    spec = {
        "learner": session.learner.frozen_spec,
        "checkpoint": point.sha256,
        "feature": feature.to_dict(),
        "lora": session.learner.lora_spec,
    }
    return session.artefact("gradients", as_read(pool, spec))


def warm_up(session: Session) -> WarmUp:
    """The warm-up of this learner that lies within the pool, trained now if there is none.

    Warm-up rows are a hash-ordered sample of the rows that carry loss and that the gate left in.
    """
    share = session.gradient.warmup
    if share == 0:
        return UNTOUCHED
    frozen = None if session.request.rewarm else _frozen(session, share)
    ids, base = frozen or _sample(session, share)
    if base * GROWN < len(session.pool):
        session.notes.append(
            f"the warm-up was drawn from {base:,} rows; the pool has {len(session.pool):,} now: --rewarm draws it again"
        )
    _say_short(session, len(ids))
    near = sum(i in session.excluded for i in ids)
    if near:
        # A frozen warm-up was drawn for every goal: making it anew for this one would make its pool features anew too.
        session.notes.append(
            f"{near} of the {len(ids)} frozen warm-up rows are near this goal: --rewarm draws without them"
        )
    session.warmup_record = {"ids": list(ids), "base": base}
    return _warm_up_of(_trained(session, ids, base, share), ids, base)


def finished_warm_up(session: Session) -> WarmUp | None:
    """The warm-up that `warm_up` would reuse; None if it would train one."""
    share = session.gradient.warmup
    if share == 0:
        return UNTOUCHED
    frozen = None if session.request.rewarm else _frozen(session, share)
    return _warm_up_of(_trained(session, *frozen, share), *frozen) if frozen else None


def _warm_up_of(trained: Trained, ids: tuple[str, ...], base: int) -> WarmUp:
    total = sum(trained.mean_lr)
    points = [
        Checkpoint(folder, sha, lr / total)
        for folder, sha, lr in zip(trained.folders, trained.sha256, trained.mean_lr, strict=True)
    ]
    return WarmUp(ids, base, tuple(points))


def _spec(session: Session, ids: Sequence[str], share: float) -> dict[str, Any]:
    joined = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    spec = {"learner": session.learner.spec, "share": share, "seed": session.request.seed, "ids": joined}
    return as_read(session.pool, spec)


def _frozen(session: Session, share: float) -> tuple[tuple[str, ...], int] | None:
    """Ids and base of the largest finished warm-up of this learner whose rows are all in the pool."""
    if session.warmup_ids is not None:
        return session.warmup_ids, len(session.pool)
    found = []
    for path in sorted((session.cache.root / "warmup").glob("*/base.json")):
        stored = read_json(path, f"delete the folder {path.parent} to train it again", {"ids": list, "base": int})
        ids = tuple(stored["ids"])
        same = fingerprint(_spec(session, ids, share)) == path.parent.name
        if same and _within(session, ids) and is_done(path.parent):
            found.append((stored["base"], path.parent.name, ids))
    return (max(found)[2], max(found)[0]) if found else None


def _within(session: Session, ids: Sequence[str]) -> bool:
    return all(i in session.pool.position for i in ids)


def warm_up_rows(session: Session, share: float, usable: int) -> int:
    """How many rows the warm-up trains on: the asked number, or the asked share of the pool but enough for a direction.

    After a step or two Adam's map is noise, so a share is raised to `LEAST_STEPS` optimizer steps, though never above
    half of the usable rows.
    """
    recipe = session.recipe
    if share >= 1:
        return min(int(share), usable)
    least = min(-(-LEAST_STEPS * recipe.batch_size // recipe.epochs), usable // 2)
    return max(1, least, min(usable, int(share * len(session.pool) + 1e-9)))


def _say_short(session: Session, rows: int) -> None:
    """A note where the warm-up is too short to trust what follows, or longer than the share that was asked for."""
    recipe, share = session.recipe, session.gradient.warmup
    steps = recipe.epochs * -(-rows // recipe.batch_size)
    if steps < LEAST_STEPS:
        session.notes.append(
            f"the warm-up is {steps} optimizer steps on {rows} rows: scores may be close to noise; give more rows "
            "(--option warmup=...), a smaller batch_size in --recipe, or use --method rds"
        )
    elif share < 1 and rows > share * len(session.pool) + 1:
        session.notes.append(
            f"the warm-up trains on {rows} rows ({steps} steps), as {share:.1%} of the pool is too few"
        )


def _sample(session: Session, share: float) -> tuple[tuple[str, ...], int]:
    pool = session.pool
    unscored = token_table(session, pool).unscored
    usable = [i for i in pool.ids if i not in unscored and i not in session.excluded]
    if not usable:
        raise RequestError("no row is left to warm up on: all are near the goal or carry no loss; check the pool")
    count = warm_up_rows(session, share, len(usable))
    order = np.argsort(hash_unit(usable, session.request.seed, "warm-up"), kind="stable")
    return tuple(sorted(usable[n] for n in order[:count])), len(pool)


def _trained(session: Session, ids: tuple[str, ...], base: int, share: float) -> Trained:
    """Train the adapter on the warm-up rows, or read what an earlier run trained."""
    from dataworth.learners.causal_lm import CausalLM
    from dataworth.learners.trainer import load_trained, train
    from dataworth.probes.tokens import encoded_rows

    folder = session.cache.folder("warmup", _spec(session, ids, share))
    session.used[folder.name] = "warmup"
    if not is_done(folder):
        with EntryLock(folder), session.costing("warm-up", len(ids)):
            write_atomic(folder / "base.json", json.dumps({"ids": list(ids), "base": base}).encode())
            rows = encoded_rows(token_artefact(session, session.pool).table(list(ids)), ids)
            learner = CausalLM.load(
                str(session.learner.source.folder), recipe=session.recipe, device=first_device(session.request.device)
            )
            train(
                learner,
                rows,
                recipe=session.recipe,
                out=folder,
                progress=lambda done, total: session.progress("warm-up", done, total),
            )
            mark_done(folder)
    return load_trained(folder)
