"""What training leaves on disk: adapters with Adam's moments by parameter name, and the state to go on from.

Everything is safetensors and JSON, written aside and renamed, so a checkpoint exists whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from dataworth.errors import RequestError
from dataworth.learners.adapter import CONFIG, ORIGIN, WEIGHTS, adapter_config, adapter_tensors, trainable
from dataworth.learners.causal_lm import CausalLM
from dataworth.store.atomic import TEMPORARY, sync, write_atomic

MOMENTS = "moments.safetensors"
STATE = "state.safetensors"
FINISHED = "trained.json"


@dataclass(frozen=True)
class Moments:
    """Adam's state: optimizer steps done, and fp32 first and second moments by parameter name."""

    step: int
    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]


def read_moments(folder: Path) -> Moments:
    """The moments beside an adapter.

    Raises:
        RequestError: The folder holds none.
    """
    path = folder / MOMENTS
    if not path.is_file():
        raise RequestError(
            f"checkpoint {folder} has no {MOMENTS}: expected one written by the trial trainer; train again"
        )
    tensors, meta = _read(path)
    first = {n.removeprefix("exp_avg."): t for n, t in tensors.items() if n.startswith("exp_avg.")}
    second = {n.removeprefix("exp_avg_sq."): t for n, t in tensors.items() if n.startswith("exp_avg_sq.")}
    return Moments(int(meta["step"]), first, second)


def write_checkpoint(learner: CausalLM, optimizer: torch.optim.Optimizer, step: int, folder: Path) -> str:
    """Write adapter, moments and origin as one folder; returns the sha256 over adapter and moments.

    A folder already there is a checkpoint of the same bytes from before an interruption, and is replaced.
    """
    aside = folder.with_name(TEMPORARY + folder.name)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    weights = save(adapter_tensors(learner.model), {"format": "pt"})
    moments = save(moment_tensors(learner.model, optimizer), {"step": str(step)})
    origin = {"weights_sha256": learner.card.source.weights_sha256, "step": step}
    write_atomic(aside / WEIGHTS, weights)
    write_atomic(aside / MOMENTS, moments)
    write_atomic(aside / CONFIG, _json(adapter_config(learner.model, learner.card.source.model)))
    write_atomic(aside / ORIGIN, _json(origin))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    sync(folder.parent)
    return hashlib.sha256(hashlib.sha256(weights).digest() + hashlib.sha256(moments).digest()).hexdigest()


def moment_tensors(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's moments under `exp_avg.NAME` and `exp_avg_sq.NAME`, fp32 on the CPU."""
    out = {}
    for name, p in trainable(model).items():
        for key in ("exp_avg", "exp_avg_sq"):
            out[f"{key}.{name}"] = optimizer.state[p][key].detach().float().cpu().contiguous()
    return out


def write_state(learner: CausalLM, optimizer: torch.optim.Optimizer, record: dict[str, Any], out: Path) -> None:
    """The state after a step, replacing the one before: parameters, moments and the record so far."""
    tensors = {f"parameter.{n}": p.detach().cpu().contiguous() for n, p in trainable(learner.model).items()}
    tensors |= moment_tensors(learner.model, optimizer)
    write_atomic(out / STATE, save(tensors, {"record": json.dumps(record)}))


def read_state(learner: CausalLM, optimizer: torch.optim.Optimizer, out: Path) -> dict[str, Any] | None:
    """Put a stored state back into learner and optimizer; its record, or None if there is no state."""
    if not (out / STATE).is_file():
        return None
    tensors, meta = _read(out / STATE)
    record: dict[str, Any] = json.loads(meta["record"])
    with torch.no_grad():
        for name, p in trainable(learner.model).items():
            p.copy_(tensors[f"parameter.{name}"])
            optimizer.state[p] = {
                "step": torch.tensor(float(record["step"]), device=p.device),
                "exp_avg": tensors[f"exp_avg.{name}"].to(p.device),
                "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(p.device),
            }
    return record


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(str(path), framework="pt") as handle:
        return {n: handle.get_tensor(n) for n in handle.keys()}, dict(handle.metadata() or {})


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
