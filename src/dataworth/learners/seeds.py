"""Seeding what nets draw by themselves, such as dropout."""

from __future__ import annotations

import torch


def seed_draws(number: int, device: torch.device) -> None:
    """The same draws as after `torch.manual_seed` on the processor and, for a learner on GPUs, on those.

    On a machine without GPUs `torch.manual_seed` writes down the calling stack for every kind of device that may still
    appear: 1 ms a call below 50 frames, as long as a step of a small net.
    """
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(number)
