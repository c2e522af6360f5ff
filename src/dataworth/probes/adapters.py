"""LoRA adapters out of the graph: read from a PEFT model, merged into the frozen weights, kept beside them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dataworth.errors import RequestError
from dataworth.probes.preconditioner import canonical
from dataworth.probes.taps import FeatureMap, Sink, Tap, TapLinear, onesided_tap


def merge_adapter(model: Any) -> tuple[Any, list[Tap]]:
    """Merge a PEFT model's active LoRA adapter in place and return the bare model with one tap per adapted linear.

    A model without an adapter is returned as it is, with no taps. The model is frozen and set to eval mode. Weights
    are merged in fp32 and rounded to their own dtype once.

    Raises:
        RequestError: Something other than plain LoRA on linears, which a merge would get wrong.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    layers = {n: m for n, m in base.named_modules() if hasattr(m, "lora_A") and hasattr(m, "base_layer")}
    taps = [_merge(base, name, layer) for name, layer in layers.items()]
    if hasattr(model, "peft_config") and not taps:
        raise RequestError("the adapter has no LoRA layers: expected LoRA on linear layers; use a LoRA adapter or none")
    base.requires_grad_(False)
    return base.eval(), taps


def _merge(base: nn.Module, name: str, layer: Any) -> Tap:
    active = list(layer.active_adapters)
    linear = layer.base_layer
    transposed = type(linear).__name__ == "Conv1D"
    if len(active) != 1 or layer.use_dora.get(active[0]) or not (transposed or isinstance(linear, nn.Linear)):
        raise RequestError(
            f"adapter on {name} ({type(linear).__name__}, adapters {active}): expected one plain LoRA on a linear "
            "layer; train such an adapter or select without one"
        )
    adapter = active[0]
    a, b = (getattr(layer, half)[adapter].weight.detach().float() for half in ("lora_A", "lora_B"))
    scale = float(layer.scaling[adapter])
    with torch.no_grad():
        delta = scale * (b @ a)
        weight = linear.weight
        weight.copy_(weight.float() + (delta.t() if transposed else delta).to(weight.device))
    _replace(base, name, linear)
    return Tap(canonical(name), a, b, b.shape[0], scale)


def onesided_taps(model: Any, k: int, seed: int) -> list[Tap]:
    """A tap for every linear of a bare model but its output head."""
    head = model.get_output_embeddings()
    return [
        onesided_tap(name, weight.shape[1], weight.shape[0], k, seed, weight.device)
        for name, (weight, _, module) in linears(model).items()
        if module is not head
    ]


def linears(model: Any) -> dict[str, tuple[Tensor, Tensor | None, nn.Module]]:
    """Linear layers by name: weight [d_out, d_in], bias, module (GPT-2's Conv1D counts, seen transposed)."""
    found: dict[str, tuple[Tensor, Tensor | None, nn.Module]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            found[name] = (module.weight, module.bias, module)
        elif type(module).__name__ == "Conv1D":
            found[name] = (module.weight.t(), module.bias, module)
    return found


def install(model: nn.Module, features: FeatureMap) -> Sink:
    """Replace every tapped linear of a bare model by a `TapLinear`; returns the sink they share.

    Raises:
        RequestError: A tap names no linear of the model.
    """
    sink, have = Sink(), linears(model)
    for name in features.taps:
        group = features.group([name])
        if name not in have or group is None:
            raise RequestError(
                f"the tap {name!r} is no linear layer of the model: expected one of {', '.join(list(have)[:3])}, ..."
            )
        weight, bias, _ = have[name]
        _replace(model, name, TapLinear(weight.detach(), None if bias is None else bias.detach(), group, sink))
    return sink


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, module)
