"""Training a classifier: seeded, resumable after every epoch, weights honoured, dynamics recorded.

The loss of an optimizer step is sum_i w_i loss_i / sum_i w_i over its rows, which are dealt as the trial trainer deals
them (`trainer.plan_steps`: order by hash of id, seed and epoch; a row of weight 2 takes two slots). Batch statistics
and weight decay see a row of weight 2 once, so there weights mean what they say to tolerance only.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional

from dataworth.dynamics import quantities
from dataworth.errors import NonsenseRefused, RequestError
from dataworth.learners.checkpoint import FINISHED, STATE
from dataworth.learners.classifier import Classifier, stacked
from dataworth.learners.labelled import Labelled
from dataworth.learners.seeds import seed_draws
from dataworth.learners.state import net_tensors, read_state, write_state
from dataworth.learners.trainer import STATE_SECONDS, StepPlan, claim, plan_steps, weights_of
from dataworth.numerics.schedules import learning_rates
from dataworth.store.atomic import write_atomic
from dataworth.store.json_files import read_json

WEIGHTS = "classifier.safetensors"
DYNAMICS = "dynamics.npy"
Record = Literal["no", "train", "eval"]


@dataclass(frozen=True)
class TrainedClassifier:
    """A finished training: its folder, mean loss of every epoch, rows trained on (weight 2 twice), seconds of the call.

    `values_5EN` are what `dynamics.quantities` says of every row of the training in every epoch, where they were
    recorded.
    """

    folder: Path
    losses: tuple[float, ...]
    tokens: int
    values_5EN: NDArray[np.float32] | None = field(default=None, compare=False)
    seconds: float = field(default=0.0, compare=False)


def train_classifier(
    learner: Classifier,
    rows: Sequence[Labelled],
    *,
    out: Path,
    weights: Sequence[float] | None = None,
    tokens: int | None = None,
    record: Record = "no",
    progress: Callable[[int, int], None] | None = None,
) -> TrainedClassifier:
    """Train the learner's net on rows from its initial weights; the learner ends with the trained net.

    Args:
        learner: Fresh.
        rows: Usable ones of its shape.
        out: Folder for the state to resume from and what is left in the end.
        weights: One per row, >= 0; all 1 if None. A weight of 0 leaves the row out.
        tokens: Train on about this many rows, going over them as often as it takes; None: the recipe's epochs.
        record: What every row's logits say in every epoch: `train` as the step met the row (augmented, before its
            update), `eval` without augmentation after the epoch.
        progress: Called with (epochs done, epochs) after every one.

    Raises:
        RequestError: No rows, rows that can't be used, impossible weights.
        FingerprintMismatch: `out` holds another training.
        NonsenseRefused: The loss is not finite.
    """
    weight_N = _weights(rows, weights)
    plan = plan_steps([r.id for r in rows], weight_N, learner.recipe, [1] * len(rows), tokens)  # type: ignore[arg-type]
    plan = _without_lone_rows(plan)
    out.mkdir(parents=True, exist_ok=True)
    job = _job(learner, rows, weight_N, tokens, record)
    claim(out, job)
    if (out / FINISHED).is_file():
        load_weights(learner, out)
        return load_trained_classifier(out)
    return _Run(learner, rows, weight_N, plan, out, record).go(progress)


def load_weights(learner: Classifier, folder: Path) -> None:
    """Give the learner the weights that a training left."""
    learner.model.load_state_dict(load_file(str(folder / WEIGHTS)))
    learner.model.eval()


def load_trained_classifier(out: Path) -> TrainedClassifier:
    """The record of a finished training.

    Raises:
        RequestError: `out` holds no finished one.
        FormatError: Its record is damaged.
    """
    path = out / FINISHED
    if not path.is_file():
        raise RequestError(f"{out} holds no finished training: expected {FINISHED}; run the same command to finish it")
    stored = read_json(path, f"delete the folder {out} to train again", {"losses": list, "tokens": int})
    values = np.load(out / DYNAMICS, allow_pickle=False) if (out / DYNAMICS).is_file() else None
    return TrainedClassifier(out, tuple(stored["losses"]), stored["tokens"], values)


class _Run:
    """One training in progress."""

    def __init__(
        self,
        learner: Classifier,
        rows: Sequence[Labelled],
        weight_N: NDArray[np.float64],
        plan: StepPlan,
        out: Path,
        record: Record,
    ) -> None:
        self.learner, self.rows, self.plan, self.out, self.what = learner, rows, plan, out, record
        self.weight_N = torch.from_numpy(weight_N).float()
        self.x_N = stacked(rows)
        self.label_N = torch.tensor([row.label for row in rows])
        recipe, steps = learner.recipe, len(plan.rows_S)
        learner.model.fit(self.x_N, self.weight_N)
        self.lr_S = learning_rates(steps, math.ceil(recipe.warmup_ratio * steps), recipe.lr, recipe.schedule)
        self.optimizer = _optimizer(learner)
        self.values_5EN = np.full((5, len(plan.epoch_ends), len(rows)), np.nan, dtype=np.float32)
        self.losses: list[float] = []
        kept = read_state(out / STATE, learner.model, self.optimizer)
        if kept is not None:
            self.losses, self.values_5EN = kept[0], kept[1]["values"].numpy()

    def go(self, progress: Callable[[int, int], None] | None) -> TrainedClassifier:
        """Run the epochs that are left, write what is left in the end."""
        began = saved = time.perf_counter()
        ends = self.plan.epoch_ends
        for epoch in range(len(self.losses), len(ends)):
            self._epoch(epoch)
            if time.perf_counter() - saved > STATE_SECONDS and epoch + 1 < len(ends):
                values = torch.from_numpy(self.values_5EN)
                write_state(self.out / STATE, self.learner.model, self.optimizer, self.losses, values=values)
                saved = time.perf_counter()
            if progress is not None:
                progress(epoch + 1, len(ends))
        self.learner.model.eval()
        if self.what != "no":
            write_atomic(self.out / DYNAMICS, _npy(self.values_5EN))
        write_atomic(self.out / WEIGHTS, save(net_tensors(self.learner.model), {"format": "pt"}))
        seen = round(sum(float(self.weight_N[list(step)].sum()) for step in self.plan.rows_S))
        record = {"losses": self.losses, "tokens": seen}
        write_atomic(self.out / FINISHED, (json.dumps(record, indent=1) + "\n").encode())
        (self.out / STATE).unlink(missing_ok=True)
        done = load_trained_classifier(self.out)
        return TrainedClassifier(self.out, done.losses, done.tokens, done.values_5EN, time.perf_counter() - began)

    def _epoch(self, epoch: int) -> None:
        self.learner.model.train()
        first = self.plan.epoch_ends[epoch - 1] if epoch else 0
        total = mass = 0.0
        for step in range(first, self.plan.epoch_ends[epoch]):
            loss, weight = self._step(epoch, step)
            total, mass = total + loss * weight, mass + weight
        self.losses.append(total / mass)
        if self.what == "eval":
            self.values_5EN[:, epoch] = quantities(self.learner.logits(self.rows), self.label_N.numpy())

    def _step(self, epoch: int, step: int) -> tuple[float, float]:
        """The step's loss and the weight of its rows."""
        learner, recipe = self.learner, self.learner.recipe
        rows = list(self.plan.rows_S[step])
        for group in self.optimizer.param_groups:
            group["lr"] = float(self.lr_S[step])
        x_B = augmented(self.x_N[rows], recipe.augment, _generator(recipe.seed, step)).to(learner.device)
        label_B, weight_B = self.label_N[rows].to(learner.device), self.weight_N[rows].to(learner.device)
        with torch.random.fork_rng(devices=[learner.device] if learner.device.type == "cuda" else []):
            seed_draws(_number(recipe.seed, step), learner.device)  # for nets that draw: dropout, stochastic depth
            with learner.arithmetic():
                logits_BK = self._logits(x_B)
        loss_B = functional.cross_entropy(logits_BK, label_B, reduction="none", label_smoothing=recipe.label_smoothing)
        loss = (loss_B * weight_B).sum() / weight_B.sum()
        if not math.isfinite(loss.item()):
            raise NonsenseRefused(
                f"the loss is {loss.item()} at step {step + 1} (row {self.rows[rows[0]].id} and {len(rows) - 1} more): "
                "expected a finite number; lower the learning rate, or use fp32"
            )
        if self.what == "train":
            found = quantities(logits_BK.detach().cpu().numpy(), label_B.cpu().numpy())
            self.values_5EN[:, epoch, rows] = found
        loss.backward()
        if recipe.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(list(learner.model.parameters()), recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item(), float(weight_B.sum())

    def _logits(self, x_B: Tensor) -> Tensor:
        try:
            logits_BK: Tensor = self.learner.model(x_B)
        except (ValueError, RuntimeError) as error:  # what a net can't do with so few rows, or so small ones
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RequestError(
                f"the net can't be trained on {len(x_B)} rows of shape {tuple(x_B.shape[1:])} ({said}): expected "
                "another net or batch_size; change --model or --recipe"
            ) from error
        return logits_BK.float()


def augmented(x_B: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """Images mirrored with probability 1/2; `flip_crop` shifts them, too, by up to an eighth of the side over grey."""
    if how == "none" or x_B.ndim != 4:
        return x_B
    rows, _, height, width = x_B.shape
    mirrored_B = torch.rand(rows, generator=generator) < 0.5
    out = torch.where(mirrored_B[:, None, None, None], x_B.flip(3), x_B)
    if how == "flip":
        return out
    reach = max(1, height // 8)
    fill = 128 if x_B.dtype == torch.uint8 else 0
    padded = functional.pad(out, (reach,) * 4, value=fill)
    down_B, right_B = torch.randint(0, 2 * reach + 1, (2, rows), generator=generator)
    at_BH = down_B[:, None] + torch.arange(height)
    at_BW = right_B[:, None] + torch.arange(width)
    return padded[torch.arange(rows)[:, None, None], :, at_BH[:, :, None], at_BW[:, None, :]].permute(0, 3, 1, 2)


def _number(seed: int, step: int) -> int:
    return int(hashlib.sha256(f"{seed}:{step}".encode()).hexdigest()[:15], 16)


def _generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(_number(seed, step))


def _without_lone_rows(plan: StepPlan) -> StepPlan:
    """The plan with an epoch's last step of one row joined to the one before it: a lone row has no batch statistics."""
    steps: list[tuple[int, ...]] = []
    ends: list[int] = []
    for first, end in zip((0, *plan.epoch_ends), plan.epoch_ends, strict=False):
        of_epoch = list(plan.rows_S[first:end])
        if len(of_epoch) > 1 and len(of_epoch[-1]) == 1:
            of_epoch[-2:] = [of_epoch[-2] + of_epoch[-1]]
        steps += of_epoch
        ends.append(len(steps))
    return StepPlan(tuple(steps), tuple(ends))


def _optimizer(learner: Classifier) -> torch.optim.Optimizer:
    """The recipe's optimizer; only weights with two axes or more decay."""
    recipe, parameters = learner.recipe, [p for p in learner.model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), eps=recipe.eps)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def _weights(rows: Sequence[Labelled], weights: Sequence[float] | None) -> NDArray[np.float64]:
    if not rows:
        raise RequestError("no rows to train on: expected at least one; widen the selection")
    dull = next((row for row in rows if row.reason), None)
    if dull is not None:
        raise RequestError(f"row {dull.id} can't be trained on: {dull.reason}; leave it out")
    return weights_of(len(rows), weights)


def _job(
    learner: Classifier, rows: Sequence[Labelled], weight_N: NDArray[np.float64], tokens: int | None, record: Record
) -> dict[str, Any]:
    """What makes this training this one; the recorded rows have an order."""
    content = hashlib.sha256()
    listed = list(zip(rows, weight_N.tolist(), strict=True))
    for row, weight in listed if record != "no" else sorted(listed, key=lambda pair: pair[0].id):
        content.update(f"{row.id}:{weight!r}:{row.label}:".encode() + row.x.tobytes())
    return {"learner": learner.card.spec, "rows": content.hexdigest(), "tokens": tokens, "record": record}


def _npy(values: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()
