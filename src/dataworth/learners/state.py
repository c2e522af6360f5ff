"""An optimizer's state as tensors named by parameter, to be kept beside a net's and taken up again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

PREFIX = "optimizer."


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
