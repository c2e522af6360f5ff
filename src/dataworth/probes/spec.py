"""What a row of gradient features is: the description that decides its fingerprint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from dataworth.errors import FingerprintMismatch, RequestError
from dataworth.numerics.projection import SIGN_VERSION
from dataworth.numerics.quantize import Format

FeatureKind = Literal["lora", "onesided"]
OptimizerMap = Literal["sgd", "adam", "adam_no_momentum"]

_CHOICES = {
    "kind": ("lora", "onesided"),
    "format": ("int8", "fp16", "int4"),
    "optimizer": ("sgd", "adam", "adam_no_momentum"),
    "eps_mode": ("outside", "inside"),
    "loss": ("mean", "sum"),
}


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """Kind, width and optimizer map of gradient features.

    `lora` is the exact per-row gradient of the LoRA parameters; after a merge at B = 0 (a fresh adapter) its A half
    is zero, so it is meant for checkpoints after some warm-up. `onesided` is the gradient of every linear's weight
    with the inputs projected to `k` columns; it needs no adapter. Goal rows use `optimizer="sgd"` (LESS, arXiv
    2402.04333, step 4).
    """

    kind: FeatureKind = "lora"
    """Which gradient."""
    width: int = 8192
    """P, columns after the signed block fold."""
    format: Format = "int8"
    """How a row is stored."""
    optimizer: OptimizerMap = "sgd"
    """`adam`: the update Adam would make, m' / (sqrt(v') + eps); `adam_no_momentum` drops b1 m from m'."""
    eps_mode: Literal["outside", "inside"] = "outside"
    """`outside` is Adam's sqrt(v') + eps; `inside` the LESS repository's sqrt(v' + eps)."""
    bias_correction: bool = False
    """Divide m' and v' by 1 - b^(t+1)."""
    beta1: float = 0.9
    """First-moment decay of the optimizer that made the checkpoint."""
    beta2: float = 0.999
    """Second-moment decay of the same."""
    eps: float = 1e-8
    """Its epsilon."""
    loss: Literal["mean", "sum"] = "mean"
    """A row's loss: mean (LESS) or sum over its supervised tokens."""
    k: int = 16
    """Columns the inputs are projected to (`onesided` only)."""
    seed: int = 0
    """Seed of every sign."""

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise RequestError(
                    f"feature {name}={getattr(self, name)!r}: expected one of {', '.join(allowed)}; correct it"
                )
        if self.width < 1 or self.k < 1 or self.eps <= 0:
            raise RequestError(
                f"feature width={self.width}, k={self.k}, eps={self.eps}: expected positive numbers; correct them"
            )
        if self.kind == "onesided" and self.optimizer != "sgd":
            raise RequestError(
                f"feature kind onesided with optimizer {self.optimizer!r}: Adam's map needs exact entries; use kind "
                "lora or sgd"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, only those that matter; with the model's module names they decide the projection."""
        out = dataclasses.asdict(self) | {"signs": SIGN_VERSION}
        if self.kind == "lora":
            out.pop("k")
        if self.optimizer == "sgd":
            for name in ("eps_mode", "bias_correction", "beta1", "beta2", "eps"):
                out.pop(name)
        return out

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureSpec:
        """The inverse of `to_dict`.

        Raises:
            RequestError: An unknown key or an impossible value.
            FingerprintMismatch: Signs of another version.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        values = dict(values)
        version = values.pop("signs", SIGN_VERSION)
        if version != SIGN_VERSION:
            raise FingerprintMismatch(
                f"features have signs of version {version}: expected {SIGN_VERSION}; compute them again"
            )
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise RequestError(f"feature keys {unknown} are unknown: expected {', '.join(names)}; correct them")
        return cls(**values)
