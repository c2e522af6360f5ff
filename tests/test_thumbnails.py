"""Small pictures of image rows: what another reader makes of them, and that only image rows have one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray

from dataworth.errors import MissingExtra
from dataworth.learners import load
from dataworth.records import Example
from dataworth.thumbnails import WIDEST, thumbnail

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)


def row(content: object, schema: str = "labelled_image") -> Example:
    return Example("i", "classify", schema, content=content, label="a")


def read(png: bytes | None) -> NDArray[np.uint8]:
    assert png is not None
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("shape", [(28, 28), (32, 20, 3), (7, 9, 4), (64, 64), (1, 1)])
def test_small_pixels_come_back_as_they_are(shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 256, shape).astype(np.uint8)
    assert (read(thumbnail(row(pixels))) == pixels).all()


def test_channels_may_come_first() -> None:
    pixels = RNG.integers(0, 256, (3, 8, 10)).astype(np.uint8)
    assert (read(thumbnail(row(pixels))) == pixels.transpose(1, 2, 0)).all()


@pytest.mark.parametrize("shape", [(65, 3), (500, 333, 3), (3, 700), (128, 128)])
def test_large_pixels_are_shrunk_and_look_alike(shape: tuple[int, ...]) -> None:
    pixels = np.zeros(shape, dtype=np.uint8)
    pixels[shape[0] // 2 :] = 200
    found = read(thumbnail(row(pixels)))
    by = WIDEST / max(shape[:2])
    assert found.shape[:2] == tuple(max(1, round(n * by)) for n in shape[:2]) and max(found.shape[:2]) == WIDEST
    assert abs(found.mean() - pixels.mean()) < 0.15 * 255
    assert found.shape[0] < 2 or (found[0].max() < 60 and found[-1].min() > 140)


def test_brightness_from_0_to_1_is_kept_and_any_other_is_spread() -> None:
    half = np.array([[0.0, 0.5], [0.25, 0.5]], dtype=np.float32)
    assert read(thumbnail(row(half))).tolist() == [[0, 128], [64, 128]]
    assert read(thumbnail(row(8 * half - 2))).tolist() == [[0, 255], [128, 255]]
    assert read(thumbnail(row(np.full((2, 2), 7.0)))).tolist() == [[0, 0], [0, 0]]


def test_encoded_images_are_decoded_and_what_is_no_image_has_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (200, 100, 3)).astype(np.uint8)).save(packed, "JPEG")
    assert read(thumbnail(row(packed.getvalue()))).shape == (64, 32, 3)
    assert thumbnail(row(b"no image")) is None
    assert thumbnail(row(RNG.random(9), "labelled_vector")) is None
    assert thumbnail(row(None, "labelled_text")) is None
    assert thumbnail(row(RNG.random((5, 5, 2)))) is None, "two channels are no colours"
    assert thumbnail(row(np.full((2, 2), np.nan))) is None

    def missing(*args: object, **kwargs: object) -> None:
        raise MissingExtra("an encoded image", "PIL", "vision")

    monkeypatch.setattr(load, "require", missing)
    assert thumbnail(row(packed.getvalue())) is None, "a selection ends well without Pillow"
