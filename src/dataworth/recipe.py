"""The training recipe: the half of the learner that isn't weights. Selection is relative to it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from dataworth.errors import RequestError, nearest

MaskLike = Literal["assistant", "trl", "axolotl", "llamafactory", "verl"]

_CHOICES = {
    "schedule": ("linear", "cosine"),
    "dtype": ("auto", "bf16", "fp32"),
    "mask_like": ("assistant", "trl", "axolotl", "llamafactory", "verl"),
    "optimizer": ("sgd", "adamw"),
    "augment": ("none", "flip", "flip_crop"),
}
_POSITIVE = ("lora_r", "lora_alpha", "lr", "epochs", "batch_size", "max_length", "eps", "width", "temperature")
_BELOW = {
    "lora_dropout": (0.0, 1.0),
    "lora_layers": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "beta1": (0.0, 1.0),
    "beta2": (0.0, 1.0),
    "max_grad_norm": (0.0, math.inf),
    "momentum": (0.0, 1.0),
    "label_smoothing": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the learner is trained: LoRA shape, optimizer, schedule, masks.

    The defaults are those of `docs/methods.md`. Every field is part of the learner's fingerprint.
    """

    lora_r: int = 8
    """Rank of the LoRA adapters."""
    lora_alpha: float = 16.0
    """LoRA scale: updates are multiplied by alpha / r."""
    lora_dropout: float = 0.0
    """Dropout on the LoRA input."""
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Names of the linear modules that carry an adapter."""
    lora_layers: int = 0
    """Train adapters on this many uppermost layers only, over cached hidden states; 0 means all layers."""
    lr: float = 2e-4
    """Peak learning rate of AdamW."""
    schedule: Literal["linear", "cosine"] = "linear"
    """Decay after the warm-up steps."""
    warmup_ratio: float = 0.03
    """Share of the steps that ramp the learning rate up."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    beta1: float = 0.9
    """AdamW's first-moment decay."""
    beta2: float = 0.999
    """AdamW's second-moment decay."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    max_grad_norm: float = 1.0
    """Gradient clipping by global norm; 0 switches it off."""
    epochs: int = 2
    """Passes over the rows."""
    batch_size: int = 16
    """Rows per optimizer step."""
    max_length: int = 512
    """Rows longer than this many tokens are truncated, and counted."""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the frozen weights; auto is bf16 where the machine is fast at it. A proof goes on with its trials
    on another machine if the recipe names what auto was on the first."""
    mask_like: MaskLike = "assistant"
    """Which tokens carry loss: every assistant turn, or as the named trainer does by default."""
    seed: int = 0
    """Seed of the adapter's initial weights and of the row order."""

    def __post_init__(self) -> None:
        """Refuse values no training can mean anything with; 32 and 32.0 are one recipe."""
        _settle(self)
        if not self.lora_targets:
            raise RequestError("recipe lora_targets is empty: expected module names such as q_proj; correct the recipe")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON values, every field."""
        out = dataclasses.asdict(self)
        out["lora_targets"] = list(self.lora_targets)
        return out

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """A recipe from plain values; unknown keys are an error that names the nearest field.

        Raises:
            RequestError: An unknown key or an impossible value.
        """
        _refuse_unknown(cls, values)
        clean = dict(values)
        if "lora_targets" in clean:
            targets = clean["lora_targets"]
            targets = targets.split(",") if isinstance(targets, str) else targets
            clean["lora_targets"] = tuple(targets) if isinstance(targets, list) else targets
        return cls(**clean)


CLASSIFIERS = ("linear", "mlp", "resnet")
"""Nets of our own by name."""
CLASSIFIER_LIBRARIES = ("torchvision", "timm")
"""What may stand before a colon and another's name; further ones are modules of the user's."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """A recipe whose fields are plain values."""

    def __post_init__(self) -> None:
        """Refuse values no training can mean anything with."""
        _settle(self)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON values, every field."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """A recipe from plain values; unknown keys are an error that names the nearest field.

        Raises:
            RequestError: An unknown key or an impossible value.
        """
        _refuse_unknown(cls, values)
        return cls(**values)


@dataclass(frozen=True, slots=True)
class ClassifierRecipe(_Settings):
    """How a classifier is trained: optimizer, schedule, augmentation. Every field is part of its fingerprint."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum, or AdamW."""
    lr: float = 0.1
    """Peak learning rate."""
    momentum: float = 0.9
    """SGD's momentum."""
    schedule: Literal["linear", "cosine"] = "linear"
    """Decay after the warm-up steps."""
    warmup_ratio: float = 0.15
    """Share of the steps that ramp the learning rate up."""
    weight_decay: float = 5e-4
    """Decay of weights with two axes or more (AdamW: decoupled)."""
    beta1: float = 0.9
    """AdamW's first-moment decay."""
    beta2: float = 0.999
    """AdamW's second-moment decay."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    max_grad_norm: float = 0.0
    """Gradient clipping by global norm; 0 switches it off."""
    label_smoothing: float = 0.0
    """Share of a label's mass spread over all classes in training; judged and recorded losses have none."""
    augment: Literal["none", "flip", "flip_crop"] = "none"
    """Random mirror images, and with flip_crop shifts by up to an eighth of the side; drawn by seed, step and row."""
    width: int = 32
    """Channels of the small ResNet's first stage; hidden units of an MLP are 8 times as many."""
    epochs: int = 15
    """Passes over the rows."""
    batch_size: int = 128
    """Rows per optimizer step."""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the products; auto is bf16 where the machine is fast at it. Weights stay fp32."""
    seed: int = 0
    """Seed of the initial weights, the row order and the augmentation."""


@dataclass(frozen=True, slots=True)
class SelfSupervisedRecipe(_Settings):
    """How an encoder of images is trained without labels. Every field is part of its fingerprint."""

    epochs: int = 20
    """Passes over the images, two views of each."""
    batch_size: int = 256
    """Images per optimizer step, at least: each is told from the others of its batch."""
    width: int = 32
    """Channels of the small ResNet's first stage; vectors are 4 times as wide."""
    lr: float = 2e-3
    """Peak learning rate of AdamW, decaying by a cosine."""
    warmup_ratio: float = 0.1
    """Share of the steps that ramp the learning rate up."""
    weight_decay: float = 1e-4
    """AdamW's decoupled weight decay, of weights with two axes or more."""
    temperature: float = 0.2
    """Divides similarities in the loss; low looks at the nearest others."""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the products; auto is bf16 where the machine is fast at it. Weights stay fp32."""


def _settle(recipe: Any) -> None:
    """Check every field of a recipe, and make whole numbers of float fields floats.

    Raises:
        RequestError: A value that can't be.
    """
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        _check_type(field.name, value, str(field.type))
        object.__setattr__(recipe, field.name, float(value) if field.type == "float" else value)
    names = {field.name for field in dataclasses.fields(recipe)}
    for name in names & set(_BELOW):
        low, high = _BELOW[name]
        if not low <= getattr(recipe, name) < high:
            raise RequestError(
                f"recipe {name}={getattr(recipe, name)!r}: expected at least {low:g} and less than {high:g}; "
                "correct the recipe"
            )
    if not 0 <= recipe.warmup_ratio <= 1:
        raise RequestError(f"recipe warmup_ratio={recipe.warmup_ratio!r}: expected 0 to 1; correct the recipe")
    for name in sorted(names & set(_POSITIVE)):
        if not getattr(recipe, name) > 0:
            raise RequestError(
                f"recipe {name}={getattr(recipe, name)!r}: expected a positive number; correct the recipe"
            )
    for name in sorted(names & set(_CHOICES)):
        if getattr(recipe, name) not in _CHOICES[name]:
            raise RequestError(
                f"recipe {name}={getattr(recipe, name)!r}: expected one of {', '.join(_CHOICES[name])}; "
                "correct the recipe"
            )


def _refuse_unknown(cls: type, values: dict[str, Any]) -> None:
    names = [f.name for f in dataclasses.fields(cls)]
    for key in values:
        if key not in names:
            raise RequestError(f"recipe key {key!r} is unknown; {nearest(key, names, 'known keys')}")


def _check_type(name: str, value: Any, annotation: str) -> None:
    """Refuse a value of another type, such as the text that YAML makes of `2e-4`.

    Raises:
        RequestError: The value, what was expected, and what to do.
    """
    if annotation == "float":
        fits = type(value) in (int, float) and math.isfinite(value)
        wanted = "a finite number (in YAML with a dot: 2.0e-4)"
    elif annotation == "int":
        fits, wanted = type(value) is int, "a whole number"
    elif annotation == "tuple[str, ...]":
        fits = isinstance(value, tuple) and all(isinstance(v, str) for v in value)
        wanted = "module names such as q_proj"
    else:
        fits, wanted = isinstance(value, str), "a word"
    if not fits:
        raise RequestError(f"recipe {name}={value!r}: expected {wanted}; correct the recipe")
