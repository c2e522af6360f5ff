import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dataworth.learners import augmentation  # noqa: E402

pytestmark = pytest.mark.lm


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(rows=64, channels=3, side=16, seed=0):
    return torch.rand(rows, channels, side, side, generator=generator(seed))


def constant(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setattr(augmentation, name, value)


def test_views_are_drawn_by_the_generator_and_stay_pixels():
    x = pictures()
    one, two = augmentation.random_view(x, generator(1)), augmentation.random_view(x, generator(1))
    other = augmentation.random_view(x, generator(2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert one.shape == x.shape and one.min() >= 0 and one.max() <= 1
    assert (one - x).abs().flatten(1).mean(1).min() > 0


def test_without_crop_and_colour_a_view_is_the_image_or_its_mirror(monkeypatch):
    constant(monkeypatch, AREA=1.0, RATIO=1.0, COLOURED=0.0, GREY=0.0)
    x = pictures(200)
    view = augmentation.random_view(x, generator())
    same = torch.isclose(view, x, atol=1e-5).flatten(1).all(1)
    mirrored = torch.isclose(view, x.flip(3), atol=1e-5).flatten(1).all(1)
    assert (same ^ mirrored).all() and 60 < int(same.sum()) < 140


def test_a_crop_shows_a_part_of_the_image_and_nothing_else(monkeypatch):
    constant(monkeypatch, COLOURED=0.0, GREY=0.0)
    side = 32
    place = torch.linspace(0, 1, side)
    x = torch.stack([place.expand(side, side), place[:, None].expand(side, side)]).expand(500, 2, side, side)
    view = augmentation.random_view(x.contiguous(), generator())
    across = view[:, 0].amax((1, 2)) - view[:, 0].amin((1, 2))
    down = view[:, 1].amax((1, 2)) - view[:, 1].amin((1, 2))
    area = (across * down).numpy()
    assert 0.14 < area.min() < 0.3 and area.max() > 0.9 and abs(area.mean() - 0.57) < 0.08
    ratio = np.log((across / down).numpy())
    assert np.abs(ratio).max() < np.log(4 / 3) + 0.1 and abs(ratio.mean()) < 0.05


def test_grey_views_have_the_luma_and_no_colour(monkeypatch):
    constant(monkeypatch, AREA=1.0, RATIO=1.0, COLOURED=0.0, GREY=1.0)
    x = pictures()
    view = augmentation.random_view(x, generator())
    luma = (x * torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]).sum(1)
    assert torch.allclose(view[:, 0], view[:, 1], atol=1e-3) and torch.allclose(view[:, 0], view[:, 2], atol=1e-3)
    flipped = torch.isclose(view[:, 0], luma.flip(2), atol=1e-3) | torch.isclose(view[:, 0], luma, atol=1e-3)
    assert flipped.all()


def test_colours_change_as_brightness_contrast_saturation_and_hue_do_one_after_another(monkeypatch):
    constant(monkeypatch, COLOURED=1.0, GREY=0.0)
    x = pictures(8) * 0.2 + 0.4  # nothing is clipped
    drawn = generator(3)
    b, c, s = (1 - 0.4 + 0.8 * torch.rand(8, generator=drawn) for _ in range(3))
    turn = 2 * np.pi * (-0.1 + 0.2 * torch.rand(8, generator=drawn))
    yiq = torch.tensor(augmentation._YIQ)
    planes = torch.einsum("kc,bchw->bkhw", yiq, x)
    i, q = planes[:, 1].clone(), planes[:, 2].clone()
    cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
    planes[:, 1], planes[:, 2] = s[:, None, None] * (cos * i - sin * q), s[:, None, None] * (sin * i + cos * q)
    coloured = torch.einsum("ck,bkhw->bchw", torch.linalg.inv(yiq), planes)
    bright = b[:, None, None, None] * coloured
    middle = torch.einsum("c,bchw->b", yiq[0], bright)[:, None, None, None] / 256
    expected = (c[:, None, None, None] * bright + (1 - c[:, None, None, None]) * middle).clamp(0, 1)
    assert torch.allclose(augmentation._recoloured(x, generator(3)), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_change_in_brightness_and_contrast(channels):
    x = pictures(32, channels)
    view = augmentation.random_view(x, generator())
    assert view.shape == x.shape and torch.isfinite(view).all() and not torch.equal(view, x)
