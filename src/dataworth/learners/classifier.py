"""A classifier as a learner: a net over rows of one shape, what it says of rows, and the fingerprint of it all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.learners.causal_lm import fast_dtype, minor_version, resolve_device
from dataworth.learners.labelled import Labelled, LabelledEncoder
from dataworth.learners.load import require
from dataworth.learners.modules import importable
from dataworth.learners.nets import build, laid_out, layout
from dataworth.recipe import ClassifierRecipe
from dataworth.store.fingerprint import fingerprint

ROWS_AT_ONCE = 500
"""Of a forward pass; eval-mode rows don't depend on one another, so their number is a matter of memory."""


@dataclass(frozen=True)
class ClassifierCard:
    """A classifier before its weights are made. `dtype` is bf16 or fp32."""

    model: str
    recipe: ClassifierRecipe
    renderer: LabelledEncoder
    dtype: str

    @cached_property
    def frozen_spec(self) -> dict[str, Any]:
        """What decides the untrained net but for its seed, and how rows reach it."""
        return {
            "model": self.model,
            "width": self.recipe.width,
            "renderer": self.renderer.spec,
            "dtype": self.dtype,
            "torch": minor_version("torch"),
            **_code(self.model),
        }

    @property
    def spec(self) -> dict[str, Any]:
        """Everything selection is relative to."""
        return {**self.frozen_spec, "recipe": self.recipe.to_dict()}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the spec."""
        return fingerprint(self.spec)


def _code(model: str) -> dict[str, str]:
    """What else decides a net that isn't ours: its library's version, or the source of the user's own module."""
    library, _, attribute = model.partition(":")
    if not attribute:
        return {}
    if library in ("torchvision", "timm"):
        require(library, f"model {model}", extra="")
        return {library: metadata.version(library)}
    files = importable(library)
    if not files:
        raise RequestError(f"model {model!r}: there is no module {library!r} here: expected one that can be imported")
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return {"module_sha256": total.hexdigest()}


def describe_classifier(
    model: str, recipe: ClassifierRecipe, renderer: LabelledEncoder, device: str = "auto"
) -> ClassifierCard:
    """The card of a classifier.

    Raises:
        RequestError: An unknown device.
    """
    dtype = fast_dtype(resolve_device(device)) if recipe.dtype == "auto" else recipe.dtype
    return ClassifierCard(model, recipe, renderer, dtype)


class Scaled(nn.Module):
    """A net behind the scaling of its inputs: uint8 pixels around 0, everything else by its training rows' spread."""

    mean: Tensor
    spread: Tensor

    def __init__(self, net: Any, shape: Sequence[int]) -> None:
        super().__init__()
        self.net, self.layout = net, layout(net)
        self.register_buffer("mean", torch.zeros(tuple(shape)))
        self.register_buffer("spread", torch.ones(tuple(shape)))

    def fit(self, x_N: Tensor, weight_N: Tensor) -> None:
        """Take mean and spread from training rows; pixels (uint8) have fixed ones."""
        if x_N.dtype == torch.uint8:
            self.mean.fill_(127.5)
            self.spread.fill_(64.0)
            return
        share_N = (weight_N / weight_N.sum()).view(-1, *[1] * (x_N.ndim - 1)).double()
        mean = (x_N.double() * share_N).sum(0)
        spread = ((x_N.double() - mean).square() * share_N).sum(0).sqrt()
        self.mean.copy_(mean)
        self.spread.copy_(torch.where(spread > 1e-6 * mean.abs().clamp(min=1e-6), spread, torch.ones_like(spread)))

    def scaled(self, x_B: Tensor) -> Tensor:
        """Inputs as the net gets them."""
        out = (x_B.float() - self.mean) / self.spread
        return laid_out(out, self.layout) if out.ndim == 4 else out

    def features(self, x_B: Tensor) -> Tensor:
        """What the head reads, `[B, F]`."""
        found: Tensor = self.net.features(self.scaled(x_B))
        return found

    def forward(self, x_B: Tensor) -> Tensor:
        """Logits `[B, K]`."""
        logits: Tensor = self.net(self.scaled(x_B))
        return logits


class Classifier:
    """A net with weights: fresh ones by the recipe's seed, until trained ones are loaded or made."""

    def __init__(self, card: ClassifierCard, device: str = "auto") -> None:
        self.card = card
        self.device = resolve_device(device)
        shape = card.renderer.shape
        net = build(card.model, shape, len(card.renderer.classes), card.recipe)
        self.model = Scaled(net, shape).to(self.device)
        if len(shape) == 3:
            self.model.to(memory_format=self.model.layout)  # type: ignore[call-overload]
        self.model.eval()

    @property
    def recipe(self) -> ClassifierRecipe:
        """How it is trained."""
        return self.card.recipe

    def arithmetic(self) -> Any:
        """The context in which products are computed: autocast to bf16, or none."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.card.dtype == "bf16" else nullcontext()

    def fit(self, rows: Sequence[Labelled], weight_N: Tensor | None = None) -> None:
        """Take the scaling of inputs from rows, as a training does from its own."""
        x_N = stacked(rows)
        self.model.fit(x_N, torch.ones(len(rows)) if weight_N is None else weight_N)

    def logits(self, rows: Sequence[Labelled]) -> NDArray[np.float32]:
        """Logits `[N, K]` in eval mode.

        Raises:
            NonsenseRefused: One isn't finite.
        """
        return self._forward(rows, self.model)

    def features(self, rows: Sequence[Labelled]) -> NDArray[np.float32]:
        """What the head reads, `[N, F]`, in eval mode."""
        return self._forward(rows, self.model.features)

    def _forward(self, rows: Sequence[Labelled], run: Any) -> NDArray[np.float32]:
        self.model.eval()
        parts = []
        with torch.no_grad(), self.arithmetic():
            for part in _parts(rows, ROWS_AT_ONCE):
                parts.append(run(stacked(part).to(self.device)).float().cpu().numpy())
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            bad = rows[int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])].id
            raise NonsenseRefused(f"row {bad}: the net's output isn't finite; lower the learning rate, or use fp32")
        return found

    def gradient_norms(self, rows: Sequence[Labelled]) -> NDArray[np.float32]:
        """Norm of each row's loss gradient over all parameters, `[N]`, in eval mode and fp32: GraNd of one net.

        Paul et al. 2021, arXiv 2107.07075, eq. 4.
        """
        self.model.eval()
        net = self.model.net
        parameters = {n: p.detach() for n, p in net.named_parameters()}
        buffers = dict(net.named_buffers())

        def loss(parameters: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
            logits = torch.func.functional_call(net, (parameters, buffers), (x[None],))
            return functional.cross_entropy(logits.float(), label[None])

        per_row = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
        parts = []
        for part in _parts(rows, 50):
            labels = torch.tensor([r.label for r in part], device=self.device)
            with torch.no_grad():
                x_B = self.model.scaled(stacked(part).to(self.device)).contiguous()
            found = per_row(parameters, x_B, labels)
            square_B = sum(g.flatten(1).double().square().sum(1) for g in found.values())
            parts.append(square_B.sqrt().float().cpu().numpy())  # type: ignore[union-attr]
        return np.concatenate(parts)


def stacked(rows: Sequence[Labelled]) -> Tensor:
    """Inputs of rows as one tensor `[B, ...]`."""
    return torch.from_numpy(np.stack([row.x for row in rows]))


def _parts(rows: Sequence[Labelled], size: int) -> Iterator[Sequence[Labelled]]:
    for a in range(0, len(rows), size):
        yield rows[a : a + size]
