"""Random views of images: crops, mirror images and colours, in a few products over a whole batch.

What SimCLR (Chen et al. 2020, arXiv 2002.05709, appendix A) does one image and one operation after another. All changes
of colour are linear, so they are one 3 x 3 matrix an image: brightness, contrast around the image's mean grey,
saturation and a turn of the hue in YIQ, and grey. Values are clipped once, at the end.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

AREA = 0.2
"""The smallest crop, as a share of the image's area; the largest is all of it."""
RATIO = 4 / 3
STRENGTH = 0.4
"""Brightness, contrast and saturation are multiplied by 1 - STRENGTH to 1 + STRENGTH."""
HUE = 0.1
"""The largest turn of the hue, of 1 all around."""
COLOURED, GREY = 0.8, 0.2
"""Share of the views whose colours change, and of those without colour."""
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def random_view(x_B: Tensor, generator: torch.Generator) -> Tensor:
    """A view of each image.

    Args:
        x_B: `[B, C, H, W]` float, between 0 and 1; colours of other than three channels change in brightness and
            contrast alone.
        generator: Where all draws come from, on the CPU.
    """
    return _recoloured(_cropped(x_B, generator), generator)


def _uniform(rows: int, low: float, high: float, generator: torch.Generator, like: Tensor) -> Tensor:
    return (low + (high - low) * torch.rand(rows, generator=generator)).to(like.device)


def _cropped(x_B: Tensor, generator: torch.Generator) -> Tensor:
    """A part of each image at its full size, mirrored half of the time."""
    rows = len(x_B)
    area = _uniform(rows, AREA, 1.0, generator, x_B)
    ratio = _uniform(rows, -math.log(RATIO), math.log(RATIO), generator, x_B).exp()
    width, height = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    across, down = (_uniform(rows, -1.0, 1.0, generator, x_B) for _ in range(2))
    mirror = torch.where(_uniform(rows, 0.0, 1.0, generator, x_B) < 0.5, -1.0, 1.0)
    theta = x_B.new_zeros(rows, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = mirror * width, across * (1 - width)
    theta[:, 1, 1], theta[:, 1, 2] = height, down * (1 - height)
    grid = functional.affine_grid(theta, list(x_B.shape), align_corners=False)
    return functional.grid_sample(x_B, grid, padding_mode="border", align_corners=False)


def _recoloured(x_B: Tensor, generator: torch.Generator) -> Tensor:
    rows, channels = x_B.shape[:2]
    brightness, contrast, saturation = (_uniform(rows, 1 - STRENGTH, 1 + STRENGTH, generator, x_B) for _ in range(3))
    turn = _uniform(rows, -HUE, HUE, generator, x_B) * 2 * math.pi
    changed = _uniform(rows, 0.0, 1.0, generator, x_B) < COLOURED
    grey = _uniform(rows, 0.0, 1.0, generator, x_B) < GREY
    one = torch.ones_like(brightness)
    brightness, contrast = torch.where(changed, brightness, one), torch.where(changed, contrast, one)
    flat = x_B.flatten(2)
    if channels != 3:
        middle = flat.mean((1, 2))
        out = (brightness * contrast)[:, None, None] * flat
    else:
        to_yiq = torch.tensor(_YIQ, device=x_B.device)
        middle = flat.mean(2) @ to_yiq[0]
        colour = torch.where(grey, 0.0, torch.where(changed, saturation, one))
        turn = torch.where(changed, turn, 0.0)
        matrix = x_B.new_zeros(rows, 3, 3)
        matrix[:, 0, 0] = 1.0
        matrix[:, 1, 1] = matrix[:, 2, 2] = colour * turn.cos()
        matrix[:, 1, 2], matrix[:, 2, 1] = -colour * turn.sin(), colour * turn.sin()
        whole = torch.linalg.inv(to_yiq) @ matrix @ to_yiq
        out = ((brightness * contrast)[:, None, None] * whole) @ flat
    return (out + (brightness * (1 - contrast) * middle)[:, None, None]).clamp(0, 1).view_as(x_B)
