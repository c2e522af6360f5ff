"""A small encoder of images that is trained on the pool's own pixels, without any label.

Source: SimCLR, Chen et al. 2020, arXiv 2002.05709: two random views of an image are brought together and away from the
views of the batch's other images (NT-Xent); the projection behind the features is thrown away afterwards. Deviations,
for CPUs and small batches: the small ResNet of the classifiers; AdamW in the place of LARS; crops of a fifth of the
area at least and half the strength of colours, as is usual for images of 32 x 32; no blur; a lower temperature.

Nothing here sees a label or an id: rows stand in the order of their pixels, and draws depend on that place alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.learners.augmentation import random_view
from dataworth.learners.causal_lm import fast_dtype, resolve_device
from dataworth.learners.checkpoint import FINISHED, STATE
from dataworth.learners.nets import SmallResNet, laid_out, layout
from dataworth.learners.state import net_tensors, read_state, write_state
from dataworth.learners.trainer import STATE_SECONDS, claim
from dataworth.numerics.schedules import learning_rates
from dataworth.recipe import SelfSupervisedRecipe
from dataworth.store.atomic import write_atomic

WEIGHTS = "encoder.safetensors"
PROJECTED = 64
ROWS_AT_ONCE = 256
Range = tuple[float, float]


def pixel_order(x_N: Sequence[NDArray[Any]] | NDArray[Any]) -> NDArray[np.int64]:
    """Images in the order of a hash of their pixels: one order, however rows are sorted, named or labelled."""
    digests = [hashlib.sha256(np.ascontiguousarray(x).data).digest() for x in x_N]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int64)


def pixel_range(x_N: NDArray[Any]) -> Range:
    """What becomes 0 and 1: 0 and 255 of uint8; else two standard deviations below and above the mean."""
    if x_N.dtype == np.uint8:
        return 0.0, 255.0
    starts = range(0, len(x_N), ROWS_AT_ONCE)
    mean = sum(float(x_N[a : a + ROWS_AT_ONCE].sum(dtype=np.float64)) for a in starts) / x_N.size
    square = sum(float(((x_N[a : a + ROWS_AT_ONCE] - mean) ** 2).sum(dtype=np.float64)) for a in starts)
    spread = math.sqrt(square / x_N.size) or 1.0
    return mean - 2 * spread, mean + 2 * spread


class ImageEncoder:
    """The encoder and what trains it, with initial weights that only the seed decides.

    Args:
        channels: Of an image.
        recipe: Width, arithmetic and training.
        seed: Of weights, order and views.
        pixels: What becomes 0 and 1.
        device: Where it runs.
    """

    def __init__(
        self, channels: int, recipe: SelfSupervisedRecipe, seed: int, pixels: Range, device: str = "auto"
    ) -> None:
        self.recipe, self.seed, self.pixels = recipe, seed, pixels
        self.device = resolve_device(device)
        self.dtype = fast_dtype(self.device) if recipe.dtype == "auto" else recipe.dtype
        features = 4 * recipe.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            projection = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, PROJECTED))
            net = nn.ModuleDict({"body": SmallResNet(channels, recipe.width), "projection": projection})
        self.layout = layout(net)
        self.net = net.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.net.eval()

    def load(self, folder: Path) -> ImageEncoder:
        """Take the weights that `train_encoder` left.

        Raises:
            RequestError: It left none.
        """
        if not (folder / FINISHED).is_file():
            raise RequestError(f"{folder} holds no finished encoder: expected {FINISHED}; clear the cache, train again")
        self.net.load_state_dict(load_file(str(folder / WEIGHTS)))
        return self

    def scaled(self, x_B: NDArray[Any]) -> Tensor:
        """Pixels between 0 and 1 (those of floats may lie outside a little, and are clipped)."""
        low, high = self.pixels
        found = torch.from_numpy(np.ascontiguousarray(x_B)).to(self.device).float()
        return ((found - low) / (high - low)).clamp(0, 1)

    def features(self, unit_B: Tensor) -> Tensor:
        """What the body makes of scaled images, `[B, 4 width]`, in fp32."""
        x_B = laid_out((unit_B - 0.5) / 0.25, self.layout)
        bf16 = torch.autocast(self.device.type, torch.bfloat16) if self.dtype == "bf16" else nullcontext()
        with bf16:
            found: Tensor = self.net["body"](x_B)
        return found.float()

    def vectors(self, x_N: NDArray[Any]) -> NDArray[np.float32]:
        """Vectors `[N, 4 width]` of images; a row's doesn't depend on which rows stand beside it.

        Raises:
            NonsenseRefused: One isn't finite.
        """
        self.net.eval()
        out_ND = np.empty((len(x_N), 4 * self.recipe.width), dtype=np.float32)
        batch = np.zeros((ROWS_AT_ONCE, *x_N.shape[1:]), dtype=x_N.dtype)  # always as large: as large products
        with torch.no_grad():
            for a in range(0, len(x_N), ROWS_AT_ONCE):
                part = x_N[a : a + ROWS_AT_ONCE]
                batch[: len(part)] = part
                out_ND[a : a + len(part)] = self.features(self.scaled(batch))[: len(part)].cpu().numpy()
        if not np.isfinite(out_ND).all():
            raise NonsenseRefused("the encoder's vectors aren't finite: lower its learning rate (--encoder ssl:lr=...)")
        return out_ND


def contrast(z_2BP: Tensor, temperature: float) -> Tensor:
    """NT-Xent of views of which the b-th and the (B + b)-th belong together: mean over all 2B of them."""
    unit = functional.normalize(z_2BP.float(), dim=1)
    similar = unit @ unit.T / temperature
    similar.fill_diagonal_(-torch.inf)
    pairs = len(unit) // 2
    partner = torch.arange(2 * pairs, device=unit.device).roll(pairs)
    return functional.cross_entropy(similar, partner)


def train_encoder(
    encoder: ImageEncoder,
    x_N: NDArray[Any],
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[float, ...]:
    """Train on images in the order of `pixel_order`; an interrupted training goes on after its last saved epoch.

    Returns:
        The mean loss of every epoch.

    Raises:
        RequestError: Fewer than two images.
        FingerprintMismatch: `out` holds another training.
        NonsenseRefused: The loss isn't finite.
    """
    if len(x_N) < 2:
        raise RequestError(f"{len(x_N)} images to train an encoder on: expected at least 2; use a larger pool")
    out.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256(np.ascontiguousarray(x_N).data).hexdigest()
    recipe = {**encoder.recipe.to_dict(), "dtype": encoder.dtype}
    claim(out, {"recipe": recipe, "seed": encoder.seed, "images": content, "pixels": list(encoder.pixels)})
    if not (out / FINISHED).is_file():
        _Run(encoder, x_N, out).go(progress)
    encoder.load(out)
    stored: dict[str, list[float]] = json.loads((out / FINISHED).read_text())
    return tuple(stored["losses"])


class _Run:
    """One training in progress."""

    def __init__(self, encoder: ImageEncoder, x_N: NDArray[Any], out: Path) -> None:
        self.encoder, self.x_N, self.out = encoder, x_N, out
        recipe, parameters = encoder.recipe, list(encoder.net.parameters())
        self.groups = max(1, len(x_N) // recipe.batch_size)  # every batch has as many rows, or a few more
        steps = self.groups * recipe.epochs
        self.lr_S = learning_rates(steps, math.ceil(recipe.warmup_ratio * steps), recipe.lr, "cosine")
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.lr)
        self.losses: list[float] = []
        kept = read_state(out / STATE, encoder.net, self.optimizer)
        if kept is not None:
            self.losses = kept[0]

    def go(self, progress: Callable[[int, int], None] | None) -> None:
        """Run the epochs that are left, write weights and losses."""
        saved, epochs = time.perf_counter(), self.encoder.recipe.epochs
        for epoch in range(len(self.losses), epochs):
            self._epoch(epoch)
            if time.perf_counter() - saved > STATE_SECONDS and epoch + 1 < epochs:
                write_state(self.out / STATE, self.encoder.net, self.optimizer, self.losses)
                saved = time.perf_counter()
            if progress is not None:
                progress(epoch + 1, epochs)
        write_atomic(self.out / WEIGHTS, save(net_tensors(self.encoder.net), {"format": "pt"}))
        write_atomic(self.out / FINISHED, (json.dumps({"losses": self.losses}, indent=1) + "\n").encode())
        (self.out / STATE).unlink(missing_ok=True)

    def _epoch(self, epoch: int) -> None:
        self.encoder.net.train()
        draw_N = np.random.default_rng([self.encoder.seed, epoch]).permutation(len(self.x_N))
        found = [
            self._step(epoch * self.groups + n, np.sort(rows)) * len(rows)
            for n, rows in enumerate(np.array_split(draw_N, self.groups))
        ]
        self.losses.append(sum(found) / len(self.x_N))

    def _step(self, step: int, rows: NDArray[np.int64]) -> float:
        encoder = self.encoder
        for group in self.optimizer.param_groups:
            group["lr"] = float(self.lr_S[step])
        number = int(hashlib.sha256(f"{encoder.seed}:{step}".encode()).hexdigest()[:15], 16)
        generator = torch.Generator().manual_seed(number)
        unit_B = encoder.scaled(self.x_N[rows])
        views = torch.cat([random_view(unit_B, generator) for _ in range(2)])
        loss = contrast(encoder.net["projection"](encoder.features(views)), encoder.recipe.temperature)
        if not math.isfinite(loss.item()):
            raise NonsenseRefused(
                f"the encoder's loss is {loss.item()} at step {step + 1}: expected a finite number; lower its learning "
                "rate (--encoder ssl:lr=...)"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()
