"""A net's and its optimizer's state as tensors by name, kept on disk and taken up again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dataworth.store.atomic import write_atomic

PREFIX, _NET = "optimizer.", "net."


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of every parameter that has one, as `optimizer.KEY.PARAMETER`."""
    out = {}
    for name, p in model.named_parameters():
        for key, value in optimizer.state[p].items():
            if isinstance(value, Tensor):
                out[f"{PREFIX}{key}.{name}"] = value.detach().cpu().contiguous()
    return out


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer the state that `optimizer_tensors` made; tensors of other names are passed over."""
    place = dict(model.named_parameters())
    for name, value in tensors.items():
        if name.startswith(PREFIX):
            key, parameter = name.removeprefix(PREFIX).split(".", 1)
            p = place[parameter]
            optimizer.state[p][key] = value if key == "step" else value.to(p.device)


def net_tensors(net: nn.Module) -> dict[str, Tensor]:
    """A net's parameters and buffers by name, on the CPU."""
    return {name: t.detach().cpu().contiguous() for name, t in net.state_dict().items()}


def write_state(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, losses: Sequence[float], **more: Tensor
) -> None:
    """Keep what a training goes on from: net, optimizer, the losses of its epochs, and more tensors by name."""
    tensors = {f"{_NET}{name}": t for name, t in net_tensors(net).items()}
    write_atomic(
        path, save({**tensors, **optimizer_tensors(net, optimizer), **more}, {"losses": json.dumps(list(losses))})
    )


def read_state(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[list[float], dict[str, Tensor]] | None:
    """Take up what `write_state` kept; the losses and the further tensors, None if nothing was kept."""
    if not path.is_file():
        return None
    with safe_open(str(path), framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}
        losses: list[float] = json.loads((stored.metadata() or {})["losses"])
    net.load_state_dict({n.removeprefix(_NET): t for n, t in tensors.items() if n.startswith(_NET)})
    restore_optimizer(net, optimizer, tensors)
    return losses, {n: t for n, t in tensors.items() if not n.startswith((_NET, PREFIX))}
