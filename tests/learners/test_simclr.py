import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dataworth.errors import FingerprintMismatch, RequestError  # noqa: E402
from dataworth.learners import simclr  # noqa: E402
from dataworth.learners.simclr import ImageEncoder, contrast, pixel_order, pixel_range, train_encoder  # noqa: E402
from dataworth.recipe import SelfSupervisedRecipe  # noqa: E402

pytestmark = pytest.mark.lm
SMALL = SelfSupervisedRecipe(epochs=6, batch_size=20, width=4, dtype="fp32", lr=5e-3)


def patterns(rows=60, seed=0):
    """Stripes or checks of random colours: what sets them apart survives crops and other colours."""
    rng = np.random.default_rng(seed)
    kind, at = np.arange(rows) % 2, np.indices((16, 16)) // 2
    mask = np.where(kind[:, None, None] == 1, at.sum(0) % 2, at[0] % 2)
    low, high = rng.integers(0, 100, (rows, 3, 1, 1)), rng.integers(150, 255, (rows, 3, 1, 1))
    return np.where(mask[:, None] == 1, high, low).astype(np.uint8), kind


def encoder(recipe=SMALL, seed=0):
    return ImageEncoder(3, recipe, seed, (0.0, 255.0), "cpu")


def test_the_loss_is_that_of_the_paper_by_a_loop():
    z = torch.randn(10, 7, generator=torch.Generator().manual_seed(0))
    unit = z / z.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(10):
        partner = (i + 5) % 10
        others = sum(torch.exp(unit[i] @ unit[k] / 0.3) for k in range(10) if k != i)
        total -= torch.log(torch.exp(unit[i] @ unit[partner] / 0.3) / others)
    assert contrast(z, 0.3).item() == pytest.approx((total / 10).item(), rel=1e-5)


def test_training_brings_views_together_and_tells_what_pictures_show(tmp_path):
    x, kind = patterns(120)
    trained = encoder(SelfSupervisedRecipe(epochs=15, batch_size=30, width=4, dtype="fp32", lr=5e-3))
    losses = train_encoder(trained, x, tmp_path / "t")
    assert losses[-1] < losses[0] - 0.3 and len(losses) == 15

    def share_of_like_neighbours(vectors):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosine = unit @ unit.T - 2 * np.eye(len(unit))
        return (kind[np.argsort(-cosine, axis=1)[:, :5]] == kind[:, None]).mean()

    assert share_of_like_neighbours(trained.vectors(x)) > 0.95


def test_the_seed_decides_and_the_folder_is_the_training_s(tmp_path):
    x, _ = patterns()
    one, two, other = encoder(), encoder(), encoder(seed=1)
    a, b = (train_encoder(e, x, tmp_path / n) for e, n in ((one, "a"), (two, "b")))
    c = train_encoder(other, x, tmp_path / "c")
    assert a == b != c
    assert one.vectors(x).tobytes() == two.vectors(x).tobytes() != other.vectors(x).tobytes()
    again = encoder()
    assert train_encoder(again, x, tmp_path / "a") == a and again.vectors(x).tobytes() == one.vectors(x).tobytes()
    with pytest.raises(FingerprintMismatch, match="seed"):
        train_encoder(encoder(seed=2), x, tmp_path / "a")
    with pytest.raises(FingerprintMismatch, match="images"):
        train_encoder(encoder(), x[::-1], tmp_path / "a")


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    x, _ = patterns()
    whole = train_encoder(encoder(), x, tmp_path / "whole")
    monkeypatch.setattr(simclr, "STATE_SECONDS", 0.0)

    def stops(done, epochs):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder(encoder(), x, tmp_path / "cut", stops)
    assert (tmp_path / "cut" / simclr.STATE).is_file()
    seen = []
    resumed = encoder()
    assert train_encoder(resumed, x, tmp_path / "cut", lambda done, epochs: seen.append(done)) == whole
    assert seen == [4, 5, 6] and not (tmp_path / "cut" / simclr.STATE).exists()
    stored = [(tmp_path / n / simclr.WEIGHTS).read_bytes() for n in ("whole", "cut")]
    assert stored[0] == stored[1]


def test_a_row_s_vector_does_not_depend_on_its_neighbours():
    x, _ = patterns(40)
    net = encoder()
    whole, order = net.vectors(x), np.random.default_rng(0).permutation(40)
    assert net.vectors(x[order]).tobytes() == whole[order].tobytes()
    assert net.vectors(x[7:8]).tobytes() == whole[7:8].tobytes()
    assert net.vectors(x[:0]).shape == (0, 16)


def test_pixels_decide_order_and_range():
    x, _ = patterns(30)
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_array_equal(x[pixel_order(x)], x[order][pixel_order(x[order])])
    assert pixel_range(x) == (0.0, 255.0)
    floats = np.random.default_rng(1).normal(3, 2, size=(600, 1, 4, 4)).astype(np.float32)
    low, high = pixel_range(floats)
    assert low == pytest.approx(floats.mean() - 2 * floats.std(), rel=1e-4)
    assert high == pytest.approx(floats.mean() + 2 * floats.std(), rel=1e-4)
    assert pixel_range(np.zeros((4, 1, 2, 2), np.float32)) == (-2.0, 2.0)


def test_float_images_of_one_channel_are_trained_on(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 1, 12, 12)).astype(np.float32)
    net = ImageEncoder(1, SMALL, 0, pixel_range(x), "cpu")
    losses = train_encoder(net, x, tmp_path / "t")
    assert np.isfinite(losses).all() and np.isfinite(net.vectors(x)).all()


def test_wrong_requests(tmp_path):
    x, _ = patterns()
    with pytest.raises(RequestError, match="1 images to train"):
        train_encoder(encoder(), x[:1], tmp_path / "t")
    with pytest.raises(RequestError, match="no finished encoder"):
        encoder().load(tmp_path)
    for values, said in (({"epoch": 3}, "did you mean 'epochs'"), ({"temperature": 0.0}, "temperature")):
        with pytest.raises(RequestError, match=said):
            SelfSupervisedRecipe.from_dict(values)
