"""LoRA adapters through PEFT: fresh ones with reproducible weights, or the user's own, from safetensors only."""

from __future__ import annotations

import hashlib
import math
import warnings
from pathlib import Path
from typing import Any

from dataworth.errors import FingerprintMismatch, RequestError
from dataworth.learners.load import require, safetensors_only
from dataworth.recipe import Recipe
from dataworth.store.json_files import read_json

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
ORIGIN = "origin.json"
"""Beside adapters we train: the hash of the weights they belong to."""


def fresh_adapter(base: Any, recipe: Recipe) -> Any:
    """Put the recipe's LoRA on a frozen model: A uniform as in PEFT, drawn per parameter name from the seed; B zero.

    Raises:
        RequestError: A target names no linear layer of the model, or there are fewer layers than `lora_layers`.
    """
    peft = require("peft", "LoRA")
    have = sorted({name.rsplit(".", 1)[-1] for name, _ in _linears(base)})
    missing = [t for t in recipe.lora_targets if t not in have]
    if missing:
        raise RequestError(
            f"recipe lora_targets: the model has no linear layer {missing[0]!r}; it has {', '.join(have)}"
        )
    config = peft.LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=list(recipe.lora_targets),
        layers_to_transform=_upper_layers(base, recipe.lora_layers),
        bias="none",
        task_type="CAUSAL_LM",
    )
    model = _wrapped(base, config)
    _initialise(model, recipe.seed)
    return model


def _wrapped(base: Any, config: Any) -> Any:
    """The base model with the adapter that `config` describes."""
    peft = require("peft", "LoRA")
    with warnings.catch_warnings():
        # PEFT 0.21 reads a property that transformers 5.23 has renamed; nothing a user could do about it.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        # Ours is the right name for local files; the rename that PEFT tells of is for hub models.
        warnings.filterwarnings("ignore", message=".*base_model_name_or_path", category=UserWarning)
        return peft.get_peft_model(base, config)


def attach_adapter(base: Any, folder: Path, weights_sha256: str) -> Any:
    """Put the user's LoRA on a frozen model, trainable.

    Raises:
        RequestError: Pickled, not LoRA, or its tensors don't fit the model.
        FingerprintMismatch: It was trained by us on other weights.
    """
    peft = require("peft", "LoRA")
    if not (folder / CONFIG).is_file():
        raise RequestError(f"adapter {folder} has no {CONFIG}: expected a PEFT LoRA folder; correct --adapter")
    safetensors_only(folder, f"adapter {folder}")
    config, tensors, belongs_to = _read(folder)
    if belongs_to not in (None, weights_sha256):
        raise FingerprintMismatch(
            f"adapter {folder} was trained on other weights than this model's: give the model it belongs to"
        )
    if config.peft_type != peft.PeftType.LORA:
        raise RequestError(f"adapter {folder} is {config.peft_type}: expected LoRA; train or export a LoRA adapter")
    try:
        model = _wrapped(base, config)
        result = peft.set_peft_model_state_dict(model, tensors)
    except (ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise RequestError(
            f"adapter {folder} does not fit the model: {first}; give the model it was trained on"
        ) from error
    lost = [k for k in result.missing_keys if "lora_" in k]
    if lost or result.unexpected_keys:
        odd = (lost or result.unexpected_keys)[0]
        raise RequestError(f"adapter {folder} does not fit the model at {odd}: give the model it was trained on")
    for name, p in model.named_parameters():
        p.requires_grad_("lora_" in name)
    return model


def _read(folder: Path) -> tuple[Any, dict[str, Any], str | None]:
    """Config, tensors, and the hash of the weights it belongs to, if it is one of ours."""
    broken, origin = require("safetensors", "LoRA").SafetensorError, folder / ORIGIN
    try:
        config = require("peft", "LoRA").PeftConfig.from_pretrained(str(folder))
        tensors = require("safetensors.torch", "LoRA").load_file(str(folder / WEIGHTS))
    except (OSError, ValueError, LookupError, TypeError, broken) as error:
        first = str(error).strip().splitlines()[0]
        raise RequestError(
            f"adapter {folder} can't be read: {first}; expected {CONFIG} and {WEIGHTS}, whole; copy it again"
        ) from error
    if not origin.is_file():
        return config, tensors, None
    said = read_json(origin, "delete it if the adapter belongs to this model", {"weights_sha256": str})
    return config, tensors, said["weights_sha256"]


def trainable(model: Any) -> dict[str, Any]:
    """Trainable parameters by name, in name order."""
    return {n: p for n, p in sorted(model.named_parameters()) if p.requires_grad}


def adapter_tensors(model: Any) -> dict[str, Any]:
    """The adapter under the names PEFT saves, fp32 on the CPU."""
    state = require("peft", "LoRA").get_peft_model_state_dict(model)
    return {n: t.detach().float().cpu().contiguous() for n, t in sorted(state.items())}


def adapter_config(model: Any, base_name: str) -> dict[str, Any]:
    """The adapter's PEFT config as plain JSON values, ready to be loaded for inference."""
    config = model.peft_config["default"].to_dict()
    config.update(base_model_name_or_path=base_name, inference_mode=True)
    for key, value in config.items():
        if isinstance(value, set):
            config[key] = sorted(value)
    return config


def _linears(model: Any) -> list[tuple[str, Any]]:
    torch = require("torch", "LoRA")
    head = model.get_output_embeddings()
    found = model.named_modules()
    return [
        (n, m) for n, m in found if (isinstance(m, torch.nn.Linear) or type(m).__name__ == "Conv1D") and m is not head
    ]


def _upper_layers(base: Any, count: int) -> list[int] | None:
    if count == 0:
        return None
    layers = base.config.num_hidden_layers
    if not 0 < count <= layers:
        raise RequestError(f"recipe lora_layers={count}: the model has {layers} layers; expected 0 (all) to {layers}")
    return list(range(layers - count, layers))


def _initialise(model: Any, seed: int) -> None:
    """Draw each A from its own stream, so that neither device nor the order of modules matters."""
    torch = require("torch", "LoRA")
    with torch.no_grad():
        for name, p in trainable(model).items():
            if "lora_A" not in name:
                continue
            stream = torch.Generator().manual_seed(int(hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()[:15], 16))
            bound = 1.0 / math.sqrt(p.shape[1])  # kaiming_uniform with a = sqrt(5), PEFT's default
            p.copy_(torch.rand(p.shape, generator=stream) * (2 * bound) - bound)
