"""Classifiers: linear, MLP, a small ResNet for CPUs, torchvision's and timm's by name, and the user's own."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dataworth.errors import RequestError
from dataworth.learners.load import require
from dataworth.learners.modules import importable
from dataworth.recipe import ClassifierRecipe

Shape = tuple[int, ...]
"""Of one row: `(D,)` for vectors, `(C, H, W)` for images."""


class Net(nn.Module):
    """A body that makes features `[B, F]`, and a linear head over them."""

    def __init__(self, body: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(features, classes)

    def features(self, x_B: Tensor) -> Tensor:
        """What the head reads, `[B, F]`."""
        found: Tensor = self.body(x_B)
        return found

    def forward(self, x_B: Tensor) -> Tensor:
        """Logits `[B, K]`."""
        logits: Tensor = self.head(self.features(x_B))
        return logits


class Block(nn.Module):
    """A residual block with two 3 x 3 convolutions (He et al. 2016), normalised before each (pre-activation)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(out)
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.short = nn.Conv2d(channels, out, 1, stride, bias=False) if (channels, stride) != (out, 1) else None

    def forward(self, x: Tensor) -> Tensor:
        """`[B, channels, H, W]` -> `[B, out, H / stride, W / stride]`."""
        active = functional.relu(self.norm1(x))
        kept = x if self.short is None else self.short(active)
        out: Tensor = kept + self.conv2(functional.relu(self.norm2(self.conv1(active))))
        return out


class SmallResNet(nn.Module):
    """Eight layers: a stem that halves the side, three stages of one block each with `width` channels doubling, a head.

    Sized for CPUs: on 32 x 32 images its forward costs about 12 million multiplications at width 32.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, 2, 1, bias=False)
        self.stages = nn.Sequential(Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2))
        self.norm = nn.BatchNorm2d(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` -> `[B, 4 width]`, mean over places."""
        pooled: Tensor = functional.relu(self.norm(self.stages(self.stem(x)))).mean((2, 3))
        return pooled


LEAST_LAST = 8
"""Channels from which a convolution may be laid out channels-last: with fewer, the backward pass of torch 2.13 writes
past its buffers on CPUs without AVX-512 (it crashed at 2, 4 and 6 channels, never from 8 on)."""


def layout(net: nn.Module) -> torch.memory_format:
    """The faster memory format of a net's convolutions that is safe: channels-last, unless one is too narrow."""
    narrow = any(isinstance(m, nn.Conv2d) and m.out_channels < LEAST_LAST for m in net.modules())
    return torch.contiguous_format if narrow else torch.channels_last


def laid_out(x_B: Tensor, layout: torch.memory_format) -> Tensor:
    """Images in a memory format, their strides too: those of one channel fit both, and torch goes by the strides."""
    if layout == torch.contiguous_format:
        return x_B.clone(memory_format=torch.contiguous_format)
    return x_B.contiguous(memory_format=layout)


def build(name: str, shape: Shape, classes: int, recipe: ClassifierRecipe) -> Net:
    """A net with initial weights that only the recipe's seed decides.

    Args:
        name: `linear`, `mlp`, `resnet`, `torchvision:NAME`, `timm:NAME`, or `module:function` of the user's, called
            with `(shape, classes)` for an `nn.Module` that makes logits.
        shape: Of one row.
        classes: How many there are.
        recipe: `width` and `seed`.

    Raises:
        RequestError: No such net, or one that doesn't fit the rows.
        MissingExtra: A library isn't installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = _made(name, shape, classes, recipe)
    _try(net, name, shape, classes)
    return net


def _made(name: str, shape: Shape, classes: int, recipe: ClassifierRecipe) -> Any:
    size = math.prod(shape)
    if name == "linear":
        return Net(nn.Flatten(), size, classes)
    if name == "mlp":
        hidden = 8 * recipe.width
        layers = [nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        return Net(nn.Sequential(*layers), hidden, classes)
    if name == "resnet":
        if len(shape) != 3:
            raise RequestError(f"model resnet over rows of shape {shape}: expected images; use linear or mlp")
        return Net(SmallResNet(shape[0], recipe.width), 4 * recipe.width, classes)
    library, _, attribute = name.partition(":")
    if library == "torchvision" and attribute:
        made = require("torchvision", f"model {name}", extra="").models
        return _headless(
            _call(lambda: made.get_model(attribute, weights=None, num_classes=classes), name), name, classes
        )
    if library == "timm" and attribute:
        made = require("timm", f"model {name}", extra="")
        options = {"num_classes": classes, "in_chans": shape[0]} if len(shape) == 3 else {"num_classes": classes}
        net = _call(lambda: made.create_model(attribute, pretrained=False, **options), name)
        return _headless(net, name, classes)
    if attribute:
        importable(library)
        own = _call(lambda: getattr(importlib.import_module(library), attribute)(shape, classes), name)
        return _headless(own, name, classes)
    raise RequestError(
        f"model {name!r} for rows with a class: expected linear, mlp, resnet, torchvision:NAME, timm:NAME, or a "
        "module:function of your own"
    )


def _call(make: Callable[[], Any], name: str) -> Any:
    try:
        return make()
    except Exception as error:  # another's code may fail in any way
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(
            f"model {name!r} can't be run ({said}): expected a net for these rows; correct it"
        ) from error


def _headless(model: Any, name: str, classes: int) -> nn.Module:
    """The module with a `features` of its own: the input of its last linear layer that makes so many logits.

    Raises:
        RequestError: It isn't a module, or has no such layer.
    """
    if not isinstance(model, nn.Module):
        raise RequestError(f"model {name!r} gave a {type(model).__name__}: expected a torch module; correct it")
    linears = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    if not linears:
        raise RequestError(
            f"model {name!r} has no linear layer of {classes} outputs: expected one as its head; add one"
        )
    return _Wrapped(model, linears[-1])


class _Wrapped(nn.Module):
    """Somebody's model whose head is its last linear layer."""

    def __init__(self, model: nn.Module, head: str) -> None:
        super().__init__()
        self.model, self._head = model, head

    @property
    def head(self) -> nn.Module:
        """The last linear layer."""
        return self.model.get_submodule(self._head)

    def features(self, x_B: Tensor) -> Tensor:
        """What the head reads, `[B, F]`."""
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            self.model(x_B)
        finally:
            hook.remove()
        return seen[0]

    def forward(self, x_B: Tensor) -> Tensor:
        """Logits `[B, K]`."""
        logits: Tensor = self.model(x_B)
        return logits


def _try(net: nn.Module, name: str, shape: Sequence[int], classes: int) -> None:
    """Refuse a net that doesn't turn two rows of this shape into two rows of logits."""
    net.eval()
    with torch.no_grad():
        found = _call(lambda: net(torch.zeros(2, *shape)), name)
    if not isinstance(found, Tensor) or found.shape != (2, classes):
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise RequestError(f"model {name!r} gives {got} for two rows: expected logits (2, {classes}); correct it")
