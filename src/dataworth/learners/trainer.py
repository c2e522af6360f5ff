"""The trial trainer: AdamW on a LoRA adapter, reproducible to the byte on one device, resumable at any step.

The loss of an optimizer step is the weighted mean over all supervised tokens of its rows,

    sum_i w_i sum_t loss_it / sum_i w_i n_i,

which is what transformers' `Trainer` computes with `num_items_in_batch` when every weight is 1. Rows come in a seeded
order that depends on ids, not on how the rows were listed; within a step they are cut into length-sorted micro-batches,
which changes the speed and not the sum.

A weight counts slots: weight 2 takes two of the `batch_size` slots of its step and counts twice in the mean, as the row
given twice side by side would; weight 0.5 takes half a slot. A row belongs to the step in which its first slot lies.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dataworth.errors import FingerprintMismatch, NonsenseRefused, RequestError
from dataworth.learners.adapter import adapter_tensors, trainable
from dataworth.learners.batching import batches
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.checkpoint import FINISHED, read_state, write_checkpoint, write_state
from dataworth.learners.products import widened
from dataworth.learners.render import Encoded
from dataworth.learners.seeds import seed_draws
from dataworth.learners.upper import open_forward
from dataworth.numerics.schedules import learning_rates
from dataworth.recipe import Recipe
from dataworth.records import hash_unit
from dataworth.store.atomic import write_atomic
from dataworth.store.json_files import read_json

MICRO_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Padded tokens of one forward and backward pass."""
STATE_SECONDS = 60.0
"""How often the state to resume from is written between checkpoints."""


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Axis `C`: checkpoints; `S`: optimizer steps. `folders` and `sha256` of the checkpoints, `checkpoint_steps` the steps
    done at each, `mean_lr` the mean learning rate since the one before. `losses` is the mean token loss and `lr` the
    learning rate of every step; `tokens` counts the tokens trained on (a row of weight 2 twice), `seconds` the
    time of this call.
    """

    folders: tuple[Path, ...]
    sha256: tuple[str, ...]
    checkpoint_steps: tuple[int, ...]
    mean_lr: tuple[float, ...]
    losses: tuple[float, ...]
    lr: tuple[float, ...]
    tokens: int
    seconds: float = field(compare=False)

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return len(self.losses)


@dataclass(frozen=True)
class StepPlan:
    """Which rows each optimizer step sees: `rows_S` positions by step, and the steps done at the end of each epoch."""

    rows_S: tuple[tuple[int, ...], ...]
    epoch_ends: tuple[int, ...]


def plan_steps(
    ids: Sequence[str],
    weight_N: Sequence[float] | np.ndarray,
    recipe: Recipe,
    length_N: Sequence[int] | np.ndarray = (),
    tokens: int | None = None,
) -> StepPlan:
    """Deal rows to steps: each epoch in the order of hash(id, seed, epoch), `batch_size` slots of weight a step.

    With `tokens`, rows of `length_N` tokens are dealt for as many epochs as it takes, and the last step is the one
    whose end lies nearest to that many tokens (a row of weight 2 counts twice).
    """
    weights = np.asarray(weight_N, dtype=np.float64)
    steps: list[tuple[int, ...]] = []
    ends: list[int] = []
    mass_N = weights * np.asarray(length_N, dtype=np.float64) if tokens is not None else weights
    for epoch in count() if tokens is not None else range(recipe.epochs):
        order = np.argsort(hash_unit(ids, recipe.seed, f"train order {epoch}"), kind="stable")
        order = order[weights[order] > 0]
        slots = np.cumsum(weights[order]) - weights[order]
        step = np.floor(slots / recipe.batch_size + 1e-9).astype(np.int64)
        steps += [tuple(part.tolist()) for part in np.split(order, np.flatnonzero(np.diff(step)) + 1)]
        ends.append(len(steps))
        if tokens is not None and len(ends) * float(mass_N.sum()) >= tokens:
            done_S = np.cumsum([mass_N[list(step)].sum() for step in steps])
            last = int(np.abs(done_S - tokens).argmin()) + 1
            return StepPlan(tuple(steps[:last]), (*(e for e in ends if e < last), last))
    return StepPlan(tuple(steps), tuple(ends))


def train(
    learner: CausalLM,
    rows: Sequence[Encoded],
    *,
    out: Path,
    weights: Sequence[float] | None = None,
    recipe: Recipe | None = None,
    checkpoints: int | Literal["epochs"] = "epochs",
    tokens: int | None = None,
    states: Path | None = None,
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train the learner's adapter on rows; the learner ends with the trained adapter.

    Args:
        learner: Loaded with an adapter.
        rows: Encoded rows; every one must carry loss.
        out: Folder for checkpoints, the state to resume from and the record.
        weights: One per row, >= 0; all 1 if None. A weight of 0 leaves the row out.
        recipe: Optimizer, schedule, epochs, batch size, seed; the learner's if None.
        checkpoints: How many, evenly spaced, or one at the end of every epoch.
        tokens: Train on about this many tokens, going over the rows as often as it takes; None: the recipe's epochs.
        states: Where a recipe with `lora_layers` finds and leaves hidden states of this learner's rows; None: in `out`,
            until the end.
        resume: Go on from what an interrupted call left in `out`; False starts again.
        progress: Called with (steps done, steps) after every step.

    Raises:
        RequestError: No rows, rows without loss, impossible weights or tokens, a learner without adapter.
        FingerprintMismatch: `out` holds another training.
        NonsenseRefused: The loss is not finite.
    """
    recipe = recipe or learner.recipe
    weight_N = _checked_weights(rows, weights)
    if not trainable(learner.model):
        raise RequestError("the learner has no adapter to train: expected CausalLM.load(..., lora=True)")
    if tokens is not None and tokens < 1:
        raise RequestError(f"tokens={tokens}: expected at least 1, or None for the recipe's epochs")
    plan = plan_steps([r.id for r in rows], weight_N, recipe, [len(r) for r in rows], tokens)
    marks = _checkpoint_steps(plan, checkpoints)
    out.mkdir(parents=True, exist_ok=True)
    job = _job(learner, rows, weight_N, recipe, marks) | ({} if tokens is None else {"tokens": tokens})
    previous = _claim(out, job, resume)
    if previous is not None:
        return previous
    with widened(learner.model.get_input_embeddings().weight):
        return _Run(learner, rows, weight_N, recipe, plan, marks, out, resume, states).go(progress)


def load_trained(out: Path) -> Trained:
    """The record of a finished training.

    Raises:
        RequestError: `out` holds no finished one.
        FormatError: Its record is damaged.
    """
    path = out / FINISHED
    if not path.is_file():
        raise RequestError(f"{out} holds no finished training: expected {FINISHED}; run the same command to finish it")
    stored = read_json(path, _again(out), {"checkpoints": list, "sha256": list, "mean_lr": list, "tokens": int})
    names = stored.pop("checkpoints")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return Trained(folders=tuple(out / n for n in names), seconds=0.0, **values)


def _again(out: Path) -> str:
    return f"delete the folder {out} to train again"


class _Run:
    """One training in progress."""

    def __init__(
        self,
        learner: CausalLM,
        rows: Sequence[Encoded],
        weight_N: np.ndarray,
        recipe: Recipe,
        plan: StepPlan,
        marks: tuple[int, ...],
        out: Path,
        resume: bool,
        states: Path | None,
    ) -> None:
        self.learner, self.rows, self.recipe, self.plan, self.marks, self.out = learner, rows, recipe, plan, marks, out
        self.weight_N = weight_N
        steps = len(plan.rows_S)
        self.lr_S = learning_rates(steps, math.ceil(recipe.warmup_ratio * steps), recipe.lr, recipe.schedule)
        self.parameters = list(trainable(learner.model).values())
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=recipe.lr,
            betas=(recipe.beta1, recipe.beta2),
            eps=recipe.eps,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.record: dict[str, Any] = {"step": 0, "losses": [], "tokens": 0, "sha256": {}}
        if resume:
            self.record = read_state(learner, self.optimizer, out) or self.record
        self.forward = open_forward(learner, recipe, out, states)

    def go(self, progress: Callable[[int, int], None] | None) -> Trained:
        """Run the steps that are left, write what has to be written, and return the record."""
        began = saved = time.perf_counter()
        total = len(self.plan.rows_S)
        self.learner.model.train(self.recipe.lora_dropout > 0)
        with closing(self.forward):
            while self.record["step"] < total:
                self._step(self.record["step"])
                done = self.record["step"]
                if done in self.marks:
                    name = f"checkpoint-{done}"
                    self.record["sha256"][name] = write_checkpoint(self.learner, self.optimizer, done, self.out / name)
                if done in self.marks or time.perf_counter() - saved > STATE_SECONDS:
                    write_state(self.learner, self.optimizer, self.record, self.out)
                    saved = time.perf_counter()
                if progress is not None:
                    progress(done, total)
        self.learner.model.eval()
        return self._finish(time.perf_counter() - began)

    def _step(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = float(self.lr_S[step])
        if self.recipe.lora_dropout:
            number = int(hashlib.sha256(f"{self.recipe.seed}:{step}".encode()).hexdigest()[:15], 16)
            seed_draws(number, self.learner.device)
        among = self.plan.rows_S[step]
        mass = sum(self.weight_N[i] * self.rows[i].targets for i in among)
        budget = MICRO_TOKENS[self.learner.device.type]
        loss = 0.0
        for batch in batches(self.rows, budget, self.learner.device, among):
            weight_B = torch.as_tensor(self.weight_N[list(batch.rows)] / mass, dtype=torch.float32)
            part = (self.forward.losses(batch) * weight_B.to(self.learner.device)[batch.row_n]).sum()
            part.backward()
            loss += part.item()
        if not math.isfinite(loss):
            first = self.rows[among[0]].id
            raise NonsenseRefused(
                f"the loss is {loss} at step {step + 1} (row {first} and {len(among) - 1} more): expected a finite "
                "number; lower the learning rate or use dtype fp32"
            )
        if self.recipe.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.record["step"] = step + 1
        self.record["losses"].append(loss)
        self.record["tokens"] += round(sum(self.weight_N[i] * len(self.rows[i]) for i in among))

    def _finish(self, seconds: float) -> Trained:
        edges = [0, *self.marks]
        names = [f"checkpoint-{m}" for m in self.marks]
        record = {
            "checkpoints": names,
            "sha256": [self.record["sha256"][n] for n in names],
            "checkpoint_steps": list(self.marks),
            "mean_lr": [float(self.lr_S[a:b].mean()) for a, b in pairwise(edges)],
            "losses": self.record["losses"],
            "lr": self.lr_S.tolist(),
            "tokens": self.record["tokens"],
        }
        write_atomic(self.out / FINISHED, (json.dumps(record, indent=1) + "\n").encode())
        return replace(load_trained(self.out), seconds=seconds)


def _checked_weights(rows: Sequence[Encoded], weights: Sequence[float] | None) -> np.ndarray:
    if not rows:
        raise RequestError("no rows to train on: expected at least one; widen the selection")
    dull = [r for r in rows if r.reason or not r.targets]
    if dull:
        why = dull[0].reason or "no token of it carries loss"
        raise RequestError(
            f"{len(dull)} of {len(rows)} rows carry no loss (first: {dull[0].id}, {why}): "
            "expected rows with an answer; leave them out"
        )
    return weights_of(len(rows), weights)


def weights_of(rows: int, weights: Sequence[float] | None) -> np.ndarray:
    """One weight a row, all 1 if None.

    Raises:
        RequestError: Another number of them, or impossible ones.
    """
    weight_N = np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight_N.shape != (rows,) or not np.isfinite(weight_N).all() or (weight_N < 0).any() or not weight_N.sum():
        raise RequestError(
            f"weights of shape {weight_N.shape} for {rows} rows: expected one finite number >= 0 each, not all 0"
        )
    return weight_N


def _checkpoint_steps(plan: StepPlan, checkpoints: int | str) -> tuple[int, ...]:
    steps = len(plan.rows_S)
    if checkpoints == "epochs":
        return plan.epoch_ends
    if not isinstance(checkpoints, int) or not 1 <= checkpoints <= steps:
        raise RequestError(
            f"checkpoints={checkpoints!r}: expected 'epochs' or 1 to {steps} (the steps of this training)"
        )
    return tuple(round(steps * (k + 1) / checkpoints) for k in range(checkpoints))


def _job(
    learner: CausalLM, rows: Sequence[Encoded], weight_N: np.ndarray, recipe: Recipe, marks: tuple[int, ...]
) -> dict[str, Any]:
    """What makes this training this one."""
    content = hashlib.sha256()
    for row, weight in sorted(zip(rows, weight_N.tolist(), strict=True), key=lambda pair: pair[0].id):
        content.update(f"{row.id}:{weight!r}:".encode() + row.input_ids.tobytes() + row.supervised.tobytes())
    return {
        "learner": learner.card.frozen_spec,
        "recipe": recipe.to_dict(),
        "rows": content.hexdigest(),
        "checkpoints": list(marks),
        "start": hashlib.sha256(
            b"".join(t.numpy().tobytes() for t in adapter_tensors(learner.model).values())
        ).hexdigest(),
    }


def _claim(out: Path, job: dict[str, Any], resume: bool) -> Trained | None:
    """Mark `out` as this training's folder; the finished record if there is one."""
    claim(out, job)
    return load_trained(out) if resume and (out / FINISHED).is_file() else None


def claim(out: Path, job: dict[str, Any]) -> None:
    """Mark `out` as a training's folder.

    Raises:
        FingerprintMismatch: It belongs to another training.
        FormatError: What it holds is damaged.
    """
    path = out / "job.json"
    if path.is_file():
        stored = read_json(path, _again(out))
        differing = sorted(k for k in {*job, *stored} if stored.get(k) != job.get(k))
        if differing:
            raise FingerprintMismatch(
                f"{out} holds a training with other {', '.join(differing)}: choose another folder or remove it"
            )
    write_atomic(path, (json.dumps(job, indent=1, sort_keys=True) + "\n").encode())
