"""The optimizer map of LESS: what one more Adam step would do with a row's gradient.

    m' = b1 m + (1 - b1) g,   v' = b2 v + (1 - b2) g^2,   Gamma = m' / (sqrt(v') + eps)

Xia et al. 2024 (arXiv 2402.04333, section 3.1). Their repository puts eps inside the root, which floors the
denominator at 1e-4, and skips bias correction; both are options here. m, v come from the checkpoint by parameter
*name*: a remap by position runs silently and gives a meaningless ranking.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dataworth.errors import FingerprintMismatch, RequestError
from dataworth.probes.spec import FeatureSpec

_PREFIX = re.compile(r"^(base_model\.model\.|module\.)+")
_ADAPTER = re.compile(r"\.lora_([AB])\.[^.]+\.weight$")


def canonical(name: str) -> str:
    """A LoRA parameter's name without PEFT's wrapper and adapter name: `layers.0.q_proj.lora_A.weight`."""
    return _ADAPTER.sub(r".lora_\1.weight", _PREFIX.sub("", name))


@dataclass(frozen=True)
class Moments:
    """Adam's state at a checkpoint: steps done and fp32 moments by canonical parameter name."""

    step: int
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]

    @classmethod
    def named(cls, step: int, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Moments:
        """Moments under canonical names.

        Raises:
            RequestError: Keys that aren't names, or that differ between the two moments.
        """
        for key in [*first, *second]:
            if not isinstance(key, str) or key.isdigit():
                raise RequestError(
                    f"Adam moments are keyed by {key!r}: expected parameter names, as positions can be wrong silently; "
                    "save them by name"
                )
        m, v = ({canonical(k): t.float() for k, t in moments.items()} for moments in (first, second))
        if set(m) != set(v):
            raise RequestError(
                f"Adam moments disagree on {sorted(set(m) ^ set(v))[:2]}: expected the same names; use one checkpoint"
            )
        return cls(step, m, v)

    def require(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse moments of other parameters.

        Raises:
            FingerprintMismatch: A name is missing or unknown, or a shape differs.
        """
        have = {name: tuple(t.shape) for name, t in self.first.items()}
        odd = sorted(n for n in set(have) | set(shapes) if have.get(n) != shapes.get(n))
        if odd:
            raise FingerprintMismatch(
                f"Adam moments of {odd[0]} have shape {have.get(odd[0])}, the adapter {shapes.get(odd[0])}: expected "
                "the moments of this very checkpoint; take both from one folder"
            )


class Preconditioner:
    """The map of one parameter, on blocks of its flat fp32 gradients."""

    def __init__(self, spec: FeatureSpec, moments: Moments, name: str, device: torch.device | str) -> None:
        self.spec = spec
        next_step = moments.step + 1
        fix1 = 1 - spec.beta1**next_step if spec.bias_correction else 1.0
        fix2 = 1 - spec.beta2**next_step if spec.bias_correction else 1.0
        momentum = spec.beta1 / fix1 if spec.optimizer == "adam" else 0.0
        self.gain = (1 - spec.beta1) / fix1
        self.gain_2 = (1 - spec.beta2) / fix2
        self.first_L = moments.first[name].to(device).reshape(-1) * momentum
        self.second_L = moments.second[name].to(device).reshape(-1) * (spec.beta2 / fix2)

    def __call__(self, g_BL: Tensor, part: slice) -> Tensor:
        """The update direction at entries `part` from their gradients, fp32 `[B, len(part)]`."""
        root = torch.addcmul(self.second_L[part], g_BL, g_BL, value=self.gain_2)
        root = root.add_(self.spec.eps).sqrt_() if self.spec.eps_mode == "inside" else root.sqrt_().add_(self.spec.eps)
        if self.spec.optimizer == "adam":
            return torch.add(self.first_L[part], g_BL, alpha=self.gain).div_(root)
        return root.reciprocal_().mul_(g_BL).mul_(self.gain)
