"""An encoder trained on images without labels, and the vectors it makes of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.learners.labelled import array_of
from dataworth.learners.simclr import ImageEncoder, pixel_range, train_encoder
from dataworth.recipe import SelfSupervisedRecipe
from dataworth.records import Example
from dataworth.store.cache import is_done, mark_done
from dataworth.store.lock import EntryLock
from dataworth.store.part import Column

Work = Callable[[Sequence[str], Any], tuple[dict[str, Column], dict[str, str]]]


def write_images(folder: Path, images: Sequence[NDArray[Any]]) -> None:
    """Keep images as `x.npy`, `[N, C, H, W]`, where every worker can map them; floats among them make all floats."""
    with (folder / "x.npy").open("wb") as file:
        np.save(file, np.stack(images), allow_pickle=False)
    mark_done(folder)


def open_training(config: dict[str, Any], device: str) -> Work:
    """Engine runner: trains the one encoder of its config; ragged `losses` by epoch out.

    Args:
        config: `recipe`, `seed`; `images`, the file of `write_images`; `folder`, where the encoder is trained and kept.
        device: Where it is trained.
    """
    encoder, x_N = _encoder(config, device)
    folder = Path(config["folder"])

    def work(ids: Sequence[str], payload: Any) -> tuple[dict[str, Column], dict[str, str]]:
        with EntryLock(folder):
            losses = train_encoder(encoder, x_N, folder)
            if not is_done(folder):
                mark_done(folder)
        return {"losses": [np.array(losses, dtype=np.float32) for _ in ids]}, {}

    return work


def open_images(config: dict[str, Any], device: str) -> Work:
    """Engine runner: examples in; `vector` float32 `[n, D]` out, for rows with an image of the encoder's shape.

    Args:
        config: That of `open_training`, whose training is finished.
        device: Where the encoder runs.
    """
    encoder, x_N = _encoder(config, device)
    encoder.load(Path(config["folder"]))

    def work(ids: Sequence[str], payload: Sequence[Example]) -> tuple[dict[str, Column], dict[str, str]]:
        found, why = [], {}
        for row_id, example in zip(ids, payload, strict=True):
            try:
                x = array_of(example)
            except ValueError as error:
                why[row_id] = str(error)
                continue
            if x.shape != x_N.shape[1:]:
                why[row_id] = f"its shape is {x.shape}, the others' {x_N.shape[1:]}"
            else:
                found.append(x.astype(x_N.dtype))
        shape = (0, *x_N.shape[1:])
        return {"vector": encoder.vectors(np.stack(found) if found else np.empty(shape, dtype=x_N.dtype))}, why

    return work


def _encoder(config: dict[str, Any], device: str) -> tuple[ImageEncoder, NDArray[Any]]:
    x_N = np.load(config["images"], mmap_mode="r", allow_pickle=False)
    recipe = SelfSupervisedRecipe.from_dict(config["recipe"])
    return ImageEncoder(x_N.shape[1], recipe, config["seed"], pixel_range(x_N), device), x_N
