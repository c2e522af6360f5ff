"""Vectors of images by an encoder that is trained on the pool's images alone: `--encoder ssl`.

The pool's pixels are decoded once, in the order of their hash, and name the training with the recipe and the seed. So
neither labels nor the order of rows can reach it, and pools of the same images share one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth import config
from dataworth.engines.runner import one_thread
from dataworth.errors import RequestError
from dataworth.probes.encoder import SSL
from dataworth.recipe import SelfSupervisedRecipe
from dataworth.records import Example, Pool
from dataworth.rendered import TOKEN_SHARD, as_read
from dataworth.session import Session, first_device
from dataworth.store.cache import is_done
from dataworth.store.fingerprint import fingerprint
from dataworth.store.lock import EntryLock

VIEWS_A_SECOND = 1_500
"""What a core trains on of images of 32 x 32 at width 32, for the announcement."""
A_DAY = 86_400.0


def recipe_of(named: str) -> SelfSupervisedRecipe | None:
    """The recipe of `ssl` or `ssl:epochs=10,width=16`; None if another encoder is named.

    Raises:
        RequestError: An unknown or impossible part of the recipe.
    """
    name, sign, given = named.partition(":")
    if name != SSL:
        return None
    parts = config.pairs(tuple(given.split(",")), "--encoder ssl:") if sign else {}
    return SelfSupervisedRecipe.from_dict({key: _value(text) for key, text in parts.items()})


def shortest(named: str) -> str:
    """The same encoder with one epoch, if it is trained here."""
    recipe = recipe_of(named)
    if recipe is None:
        return named
    return f"{SSL}:" + ",".join(f"{k}={v}" for k, v in {**recipe.to_dict(), "epochs": 1}.items())


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def image_vectors(session: Session, pool: Pool, stage: str) -> tuple[NDArray[np.float32], dict[str, str]]:
    """Vectors `[N, 4 width]` of a pool's or goal's images by the encoder of the session's pool, and who has none.

    Raises:
        RequestError: An encoder of texts was named, or there are fewer than two images.
    """
    if recipe_of(str(session.request.encoder)) is None:
        raise RequestError(
            "--encoder reads texts, but the pool has images: expected --encoder ssl, or --model, such as resnet; name "
            "one"
        )
    settings = _trained(session)
    artefact = session.artefact("encodings", as_read(pool, {"encoder": encoder_key(session)}))

    def payload(ids: Sequence[str]) -> list[Example]:
        return [pool.example(pool.position[i]) for i in ids]

    runner = "dataworth.probes.images:open_images"
    table = session.fill(stage, artefact, pool.ids, runner, settings, payload, TOKEN_SHARD)
    return table.column("vector", fill=np.nan), table.unscored


def encoder_key(session: Session) -> dict[str, Any]:
    """What decides the encoder: pixels, recipe, seed, arithmetic.

    Raises:
        RequestError: The pool has no images.
    """
    from dataworth.learners.causal_lm import fast_dtype, minor_version, resolve_device

    if any(file.schema != "labelled_image" for file in session.pool.files):
        raise RequestError("--encoder ssl is trained on images, but the pool has other rows: expected images; leave it")
    if "image encoder" in session.made:
        return dict(session.made["image encoder"])
    recipe = recipe_of(str(session.request.encoder))
    assert recipe is not None
    values = recipe.to_dict()
    if recipe.dtype == "auto":
        values["dtype"] = fast_dtype(resolve_device(session.request.device))
    with (_pixels(session) / "x.npy").open("rb") as opened:
        images = hashlib.file_digest(opened, "sha256").hexdigest()
    key = {"method": "simclr", "recipe": values, "seed": session.request.seed, "images": images}
    session.made["image encoder"] = {**key, "torch": minor_version("torch")}
    return dict(session.made["image encoder"])


def makes_vectors(session: Session) -> bool:
    """Whether the request's encoder is trained on the pool's images."""
    images = all(file.schema == "labelled_image" for file in session.pool.files)
    return images and recipe_of(session.request.encoder or "") is not None


def rates(session: Session) -> dict[str, float]:
    """CPU-seconds a row (seconds of a GPU) of `encoder training` and of the `encoder`'s pass, timed for some seconds.

    Nothing if the encoder isn't trained here.

    Raises:
        RequestError: No image can be read.
    """
    if not makes_vectors(session):
        return {}
    from dataworth.learners.simclr import ImageEncoder, pixel_range, train_encoder

    x = next(_readable(session.pool), None)
    if x is None:
        raise RequestError("no row of the pool is an image that can be read: expected some; check them")
    recipe, device = recipe_of(str(session.request.encoder)), first_device(session.request.device)
    assert recipe is not None
    now = time.process_time if device == "cpu" else time.perf_counter
    x_N = np.repeat(x[None], 2 * recipe.batch_size, axis=0)
    encoder = ImageEncoder(x.shape[0], replace(recipe, epochs=1), 0, pixel_range(x_N), device)
    with one_thread(device), TemporaryDirectory() as aside:
        train_encoder(encoder, x_N[: recipe.batch_size], Path(aside) / "warm")
        began = now()
        train_encoder(encoder, x_N, Path(aside) / "timed")
        trained = now()
        encoder.vectors(x_N)
        passed = now()
    return {
        "encoder training": recipe.epochs * (trained - began) / len(x_N),
        "encoder": (passed - trained) / len(x_N),
    }


def _trained(session: Session) -> dict[str, Any]:
    """Train the encoder unless it is; what a worker is told of it."""
    key = encoder_key(session)
    artefact, row = session.artefact("encoders", key), fingerprint(key)[:32]
    settings = {
        "recipe": key["recipe"],
        "seed": key["seed"],
        "images": str(_pixels(session) / "x.npy"),
        "folder": str(session.cache.folder("trainings", key)),
    }
    if artefact.missing([row], retry_unscored=True):
        rows = len(np.load(settings["images"], mmap_mode="r", allow_pickle=False))
        epochs = key["recipe"]["epochs"]
        minutes = 2 * rows * epochs / VIEWS_A_SECOND / 60
        session.progress.say(
            f"training an encoder on {rows:,} images without their labels, {epochs} epochs: about {minutes:,.1f} "
            "minutes of one core, if they are small (32 x 32)"
        )
        with session.costing("encoder", rows):
            session.engine.run(
                artefact,
                [row],
                runner="dataworth.probes.images:open_training",
                config=settings,
                shard_rows=1,
                progress=lambda done, total: session.progress("encoder", done, total),
                hang_s=A_DAY,
                retry_unscored=True,  # a machine without memory is no property of an encoder
            )
    for why in artefact.table([row]).unscored.values():
        raise RequestError(f"the encoder can't be trained ({why}): expected one; mend it, run again")
    return settings


def _pixels(session: Session) -> Path:
    """The folder with the pool's images as one array, in the order of their pixels."""
    from dataworth.learners.simclr import pixel_order

    pool = session.pool
    folder = session.cache.folder("inputs", as_read(pool, {"pool": pool.fingerprint, "only": "pixels"}))
    if not is_done(folder):
        from dataworth.probes.images import write_images

        with EntryLock(folder), session.costing("inputs", len(pool)):
            if not is_done(folder):  # another process may have made it a moment ago
                found = list(_readable(pool))
                if len(found) < 2:
                    raise RequestError(
                        f"{len(found):,} of {len(pool):,} rows are images that can be read: expected two or more to "
                        "train an encoder; check them"
                    )
                write_images(folder, [found[n] for n in pixel_order(found).tolist()])
    return folder


def _readable(pool: Pool) -> Iterator[NDArray[Any]]:
    """Images of the first readable one's shape."""
    from dataworth.learners.labelled import array_of

    shape: tuple[int, ...] | None = None
    for example in pool.examples():
        try:
            x = array_of(example)
        except ValueError:  # told where the row's vector is missing
            continue
        shape = shape or x.shape
        if x.shape == shape:
            yield x
