"""Classifiers: rows to arrays, nets, training that resumes and repeats to the byte, what a net says of rows."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from dataworth.dynamics import quantities
from dataworth.errors import FingerprintMismatch, NonsenseRefused, RequestError
from dataworth.learners import classifier_trainer
from dataworth.learners.classifier import Classifier, describe_classifier
from dataworth.learners.classifier_trainer import (
    STATE,
    augmented,
    load_trained_classifier,
    load_weights,
    train_classifier,
)
from dataworth.learners.labelled import Labelled, LabelledEncoder
from dataworth.recipe import ClassifierRecipe
from dataworth.records import Example

pytestmark = pytest.mark.lm
PLAIN = ClassifierRecipe(epochs=4, batch_size=8, lr=0.05, width=4, dtype="fp32", weight_decay=0.0)


def vectors(rows=60, classes=3, seed=0):
    """Rows around the centers of their classes, far from 0 and unequally spread."""
    rng = np.random.default_rng(seed)
    center = rng.normal(0, 3, (classes, 5))
    label = rng.integers(0, classes, rows)
    x = (center[label] + rng.normal(size=(rows, 5))) * [1, 10, 100, 1, 1] + 50
    return [Labelled(f"{i:032x}", v.astype(np.float32), int(y)) for i, (v, y) in enumerate(zip(x, label, strict=True))]


def images(rows=24, classes=2, seed=0):
    """Dark or bright pictures, by class."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, rows)
    x = np.clip(rng.normal(90 + 70 * label[:, None, None, None], 20, (rows, 3, 16, 16)), 0, 255).astype(np.uint8)
    return [Labelled(f"{i:032x}", v, int(y)) for i, (v, y) in enumerate(zip(x, label, strict=True))]


def learner(rows, model="linear", recipe=PLAIN):
    classes = max(row.label for row in rows) + 1
    encoder = LabelledEncoder(range(classes), rows[0].x.shape)
    return Classifier(describe_classifier(model, recipe, encoder, "cpu"), "cpu")


def accuracy(net, rows):
    return float((net.logits(rows).argmax(1) == [row.label for row in rows]).mean())


@pytest.mark.parametrize(("model", "rows"), [("linear", vectors()), ("mlp", vectors()), ("resnet", images())])
def test_nets_learn_what_can_be_learned(tmp_path, model, rows):
    net = learner(rows, model, replace(PLAIN, epochs=12))
    done = train_classifier(net, rows, out=tmp_path / "t")
    assert done.losses[-1] < 0.5 * done.losses[0]
    assert accuracy(net, rows) > 0.9
    assert done.tokens == 12 * len(rows)


def test_training_is_what_plain_torch_does(tmp_path):
    rows = vectors()
    net = learner(rows)
    x = torch.stack([torch.from_numpy(r.x) for r in rows]).double()
    scaled = ((x - x.mean(0)) / x.std(0, correction=0)).float()
    labels = torch.tensor([r.label for r in rows])
    plain = torch.nn.Linear(5, 3)
    plain.load_state_dict({k.removeprefix("net.head."): v for k, v in net.model.state_dict().items() if "head" in k})
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.0, momentum=0.9, nesterov=True)
    plan = classifier_trainer.plan_steps([r.id for r in rows], np.ones(60), PLAIN)
    lr = classifier_trainer.learning_rates(len(plan.rows_S), 5, 0.05)
    for step, among in enumerate(plan.rows_S):
        optimizer.param_groups[0]["lr"] = float(lr[step])
        loss = torch.nn.functional.cross_entropy(plain(scaled[list(among)]), labels[list(among)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    train_classifier(net, rows, out=tmp_path / "t")
    np.testing.assert_allclose(net.logits(rows), plain(scaled).detach().numpy(), atol=1e-4)


def test_row_order_plays_no_part_and_the_seed_does(tmp_path):
    rows = vectors()
    one, two, other = (learner(rows, "mlp", replace(PLAIN, seed=s)) for s in (0, 0, 1))
    a = train_classifier(one, rows, out=tmp_path / "a")
    b = train_classifier(two, rows[::-1], out=tmp_path / "b")
    c = train_classifier(other, rows, out=tmp_path / "c")
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-5)
    assert a.losses != c.losses


def test_an_interrupted_training_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    rows, recipe = images(), replace(PLAIN, augment="flip_crop", epochs=4)
    whole = train_classifier(learner(rows, "resnet", recipe), rows, out=tmp_path / "whole", record="train")
    monkeypatch.setattr(classifier_trainer, "STATE_SECONDS", -1.0)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    for record in ("train",):
        with pytest.raises(KeyboardInterrupt):
            train_classifier(learner(rows, "resnet", recipe), rows, out=tmp_path / "cut", record=record, progress=stop)
    assert (tmp_path / "cut" / STATE).is_file()
    again = train_classifier(learner(rows, "resnet", recipe), rows, out=tmp_path / "cut", record="train")
    assert again.losses == whole.losses
    for name in ("classifier.safetensors", "dynamics.npy", "trained.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "cut" / STATE).exists()


def test_what_was_trained_is_found_again_and_another_training_is_refused(tmp_path):
    rows = vectors()
    first = learner(rows)
    done = train_classifier(first, rows, out=tmp_path / "t")
    second = learner(rows)
    assert train_classifier(second, rows, out=tmp_path / "t") == done
    np.testing.assert_array_equal(first.logits(rows), second.logits(rows))
    third = learner(rows)
    load_weights(third, tmp_path / "t")
    np.testing.assert_array_equal(first.logits(rows), third.logits(rows))
    with pytest.raises(FingerprintMismatch, match="other rows"):
        train_classifier(learner(rows), rows[:-1], out=tmp_path / "t")
    with pytest.raises(RequestError, match="no finished training"):
        load_trained_classifier(tmp_path)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_weight_of_two_is_the_row_twice(tmp_path, optimizer):
    recipe = replace(PLAIN, optimizer=optimizer, batch_size=200, lr=0.01)  # one step an epoch: the order is out of it
    rows = vectors(40)
    weights = [2.0] * 10 + [1.0] * 30
    twice = [*rows, *(replace(r, id=f"{r.id}#1") for r in rows[:10])]
    a, b = learner(rows, recipe=recipe), learner(rows, recipe=recipe)
    one = train_classifier(a, rows, out=tmp_path / "a", weights=weights)
    two = train_classifier(b, twice, out=tmp_path / "b")
    np.testing.assert_allclose(a.logits(rows), b.logits(rows), atol=1e-4)
    np.testing.assert_allclose(one.losses, two.losses, rtol=1e-5)
    assert one.tokens == two.tokens == 4 * 50


def test_equal_rows_seen_is_a_budget(tmp_path):
    rows = vectors(40)
    done = train_classifier(learner(rows), rows, out=tmp_path / "t", tokens=100)
    assert done.tokens == pytest.approx(100, abs=8)


def test_recorded_quantities_are_those_of_the_net(tmp_path):
    rows = vectors(30)
    labels = np.array([r.label for r in rows])
    net = learner(rows, "mlp")
    done = train_classifier(net, rows, out=tmp_path / "eval", record="eval")
    assert done.values_5EN.shape == (5, 4, 30)
    np.testing.assert_allclose(done.values_5EN[:, -1], quantities(net.logits(rows), labels), atol=1e-6)
    # With one step an epoch, what the training met is what the fresh net says.
    recipe = replace(PLAIN, batch_size=64)
    fresh = learner(rows, "mlp", recipe)
    fresh.model.fit(torch.stack([torch.from_numpy(r.x) for r in rows]), torch.ones(30))
    before = quantities(fresh.logits(rows), labels)
    met = train_classifier(learner(rows, "mlp", recipe), rows, out=tmp_path / "train", record="train")
    np.testing.assert_allclose(met.values_5EN[:, 0], before, atol=1e-5)


def test_rows_left_out_by_a_weight_of_zero_are_not_met(tmp_path):
    rows = vectors(20)
    done = train_classifier(learner(rows), rows, out=tmp_path / "t", weights=[0.0] + [1.0] * 19, record="train")
    assert np.isnan(done.values_5EN[:, :, 0]).all() and np.isfinite(done.values_5EN[:, :, 1:]).all()


@pytest.mark.parametrize("model", ["linear", "resnet"])
def test_gradient_norms_are_those_of_one_backward_a_row(tmp_path, model):
    rows = vectors(9) if model == "linear" else images(9)
    net = learner(rows, model)
    net.model.fit(torch.stack([torch.from_numpy(r.x) for r in rows]), torch.ones(9))
    found = net.gradient_norms(rows)
    for row, norm in zip(rows, found, strict=True):
        net.model.zero_grad()
        logits = net.model(torch.from_numpy(row.x)[None])
        torch.nn.functional.cross_entropy(logits, torch.tensor([row.label])).backward()
        square = sum(float(p.grad.double().square().sum()) for p in net.model.parameters())
        assert norm == pytest.approx(square**0.5, rel=1e-4)


def test_the_last_layers_gradient_norm_is_el2n_times_the_features(tmp_path):
    rows = vectors(12)
    net = learner(rows)
    net.model.fit(torch.stack([torch.from_numpy(r.x) for r in rows]), torch.ones(12))
    error = quantities(net.logits(rows), np.array([r.label for r in rows]))[3]
    feature = np.linalg.norm(net.features(rows), axis=1)
    np.testing.assert_allclose(net.gradient_norms(rows), error * np.sqrt(1 + feature**2), rtol=1e-5)


def test_batches_change_nothing(monkeypatch):
    rows = images(21)
    net = learner(rows, "resnet")
    whole = net.logits(rows)
    monkeypatch.setattr("dataworth.learners.classifier.ROWS_AT_ONCE", 4)
    np.testing.assert_allclose(net.logits(rows), whole, atol=1e-5)
    np.testing.assert_allclose(net.logits(rows[::-1])[::-1], whole, atol=1e-5)


def test_bf16_says_nearly_the_same():
    rows = images(16)
    exact, rough = learner(rows, "resnet"), learner(rows, "resnet", replace(PLAIN, dtype="bf16"))
    assert rough.card.dtype == "bf16"
    np.testing.assert_allclose(rough.logits(rows), exact.logits(rows), atol=0.05)


def test_augmentation_mirrors_and_shifts_by_its_generator_alone():
    x = torch.arange(2 * 3 * 16 * 16, dtype=torch.uint8).view(2, 3, 16, 16)
    draw = lambda how, seed: augmented(x, how, torch.Generator().manual_seed(seed))  # noqa: E731
    assert torch.equal(draw("none", 0), x)
    for seed in range(4):
        flipped = draw("flip", seed)
        assert all(torch.equal(f, o) or torch.equal(f, o.flip(2)) for f, o in zip(flipped, x, strict=True))
        moved = draw("flip_crop", seed)
        assert torch.equal(moved, draw("flip_crop", seed)) and moved.shape == x.shape
        for m, o in zip(moved, x, strict=True):
            padded = [torch.nn.functional.pad(p, (2, 2, 2, 2), value=128) for p in (o, o.flip(2))]
            assert any(torch.equal(m, p[:, i : i + 16, j : j + 16]) for p in padded for i in range(5) for j in range(5))
    assert len({draw("flip_crop", s).numpy().tobytes() for s in range(8)}) > 3


def test_rows_become_arrays():
    encoder = LabelledEncoder(["cat", "dog"], (3, 4, 5))
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    row = encoder.encode(Example("a", "classify", "labelled_image", label="dog", content=pixels))
    assert (row.label, row.reason, len(row), row.targets) == (1, "", 1, 1)
    np.testing.assert_array_equal(row.x, pixels.transpose(2, 0, 1))
    wide = encoder.encode(Example("a", "classify", "labelled_image", label="dog", content=pixels[:3]))
    unknown = encoder.encode(Example("a", "classify", "labelled_image", label="cow", content=pixels))
    broken = encoder.encode(Example("a", "classify", "labelled_image", label="cat", content=b"no image"))
    empty = encoder.encode(Example("a", "classify", "labelled_text", label="cat", text="t"))
    assert "its shape is (3, 3, 5)" in wide.reason and "'cow' is none of the pool's 2" in unknown.reason
    assert "no image that can be decoded" in broken.reason and "no image and no vector" in empty.reason


def test_an_encoded_image_is_read_as_rgb():
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    for mode in ("RGB", "L"):
        stored = io.BytesIO()
        made = image.fromarray(pixels).convert(mode)
        made.save(stored, "png")
        row = LabelledEncoder([1], (3, 6, 5)).encode(
            Example("a", "classify", "labelled_image", label=1, content=stored.getvalue())
        )
        np.testing.assert_array_equal(row.x, np.asarray(made.convert("RGB")).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("resnet", "expected images"),
        ("forest", "expected linear, mlp, resnet"),
        ("tests.nowhere:net", "can't be run"),
        ("torch:zeros", "can't be run|expected a torch module"),
    ],
)
def test_nets_that_cannot_be_are_refused(model, said):
    with pytest.raises(RequestError, match=said):
        learner(vectors(4), model)


def test_a_net_of_ones_own_is_used_with_its_last_linear_as_head(tmp_path, monkeypatch):
    (tmp_path / "mynet.py").write_text(
        "import torch\n"
        "def small(shape, classes):\n"
        "    return torch.nn.Sequential(torch.nn.Linear(shape[0], 7), torch.nn.Tanh(), torch.nn.Linear(7, classes))\n"
        "def wrong(shape, classes):\n"
        "    return torch.nn.Linear(shape[0], classes + 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rows = vectors()
    net = learner(rows, "mynet:small", replace(PLAIN, epochs=12))
    train_classifier(net, rows, out=tmp_path / "t")
    assert net.features(rows).shape == (60, 7) and accuracy(net, rows) > 0.9
    with pytest.raises(RequestError, match="no linear layer of 3 outputs"):
        learner(rows, "mynet:wrong")


def test_a_net_that_draws_trains_alike_and_its_source_is_in_its_key(tmp_path, monkeypatch):
    source = (
        "import torch\n"
        "class Odd(torch.nn.Module):\n"
        "    def __init__(self, width, classes):\n"
        "        super().__init__()\n"
        "        self.head = torch.nn.Linear(16, classes)\n"
        "        self.body = torch.nn.Linear(width, 16)\n"
        "    def forward(self, x):\n"
        "        return self.head(torch.nn.functional.dropout(self.body(x).relu(), 0.5, self.training))\n"
        "def net(shape, classes):\n"
        "    return Odd(shape[0], classes)\n"
    )
    (tmp_path / "drawing.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    rows = vectors()
    first, second = learner(rows, "drawing:net"), learner(rows, "drawing:net")
    torch.manual_seed(1)
    train_classifier(first, rows, out=tmp_path / "a")
    torch.manual_seed(2)
    train_classifier(second, rows, out=tmp_path / "b")
    np.testing.assert_array_equal(first.logits(rows), second.logits(rows))
    assert first.features(rows).shape == (60, 16), "the head is the layer that makes the logits, wherever it stands"
    (tmp_path / "drawing.py").write_text(source + "# edited\n")
    assert learner(rows, "drawing:net").card.fingerprint != first.card.fingerprint


def test_a_lone_last_row_joins_the_step_before_it(tmp_path):
    rows = [replace(r, x=np.ascontiguousarray(r.x[:, :8, :8])) for r in images(17)]  # 1 x 1 in the last stage
    done = train_classifier(learner(rows, "resnet"), rows, out=tmp_path / "t")
    assert done.tokens == 4 * 17
    with pytest.raises(RequestError, match="can't be trained on 1 rows"):
        train_classifier(learner(rows, "resnet"), rows[:1], out=tmp_path / "one")


def test_a_training_that_explodes_is_refused(tmp_path):
    rows = vectors()
    with pytest.raises(NonsenseRefused, match="the loss is"):
        train_classifier(learner(rows, "mlp", replace(PLAIN, lr=1e30)), rows, out=tmp_path / "t")


@pytest.mark.parametrize("weights", [[1.0], [-1.0] * 60, [0.0] * 60, [float("nan")] * 60])
def test_impossible_weights_are_refused(tmp_path, weights):
    with pytest.raises(RequestError, match="expected one finite number"):
        train_classifier(learner(vectors()), vectors(), out=tmp_path / "t", weights=weights)


def test_rows_that_cannot_be_used_are_refused(tmp_path):
    rows = [*vectors(3), Labelled("x", np.zeros(0, np.float32), reason="it is broken")]
    with pytest.raises(RequestError, match="row x can't be trained on: it is broken"):
        train_classifier(learner(vectors(3)), rows, out=tmp_path / "t")


def test_narrow_convolutions_are_not_laid_out_channels_last():
    from torch import nn

    from dataworth.learners.nets import SmallResNet, laid_out, layout

    assert layout(SmallResNet(3, 8)) == torch.channels_last and layout(nn.Linear(3, 2)) == torch.channels_last
    assert layout(SmallResNet(3, 4)) == torch.contiguous_format, "its backward pass crashes on CPUs without AVX-512"
    grey_B = torch.zeros(5, 6, 6, 1).permute(0, 3, 1, 2)
    assert laid_out(grey_B, torch.contiguous_format).stride() == (36, 36, 6, 1)
    assert laid_out(grey_B, torch.channels_last).stride() == grey_B.stride()
