"""Rows that begin alike, odd rows and their targets: features, losses and embeddings are those of each row alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm

from tests.probes.tiny_lora import llama, naive_gradients, with_lora  # noqa: E402

from dataworth.learners import llama as llama_room  # noqa: E402
from dataworth.learners import packing as packing_room  # noqa: E402
from dataworth.learners.batching import collate  # noqa: E402
from dataworth.learners.packing import Packing, RowTokens  # noqa: E402
from dataworth.learners.render import Encoded  # noqa: E402
from dataworth.probes.adapters import merge_adapter  # noqa: E402
from dataworth.probes.model_pass import ModelPass  # noqa: E402
from dataworth.probes.opening import feature_map  # noqa: E402
from dataworth.probes.spec import FeatureSpec  # noqa: E402

LENGTHS_SHARED_TARGETS = {
    "nothing in common": ([9, 17, 5], 0, None),
    "a common beginning": ([9, 17, 12], 6, None),
    "targets inside it": ([9, 17, 12], 6, [1, 3, 6, 8]),
    "as long as the shortest row": ([7, 17, 12], 7, None),
    "as long as the shortest row, targets inside": ([7, 17, 12], 7, [2, 6]),
    "equal rows": ([8, 8, 8], 8, [3, 7]),
    "a single row": ([11], 0, None),
    "one target each": ([9, 17, 12], 6, [8]),
    "only the first token predicted": ([9, 17, 12], 6, [1]),
    "targets end early": ([20, 17, 12], 6, [7]),
    "two tokens": ([2, 2], 1, [1]),
}


def make(name):
    lengths, shared, targets = LENGTHS_SHARED_TARGETS[name]
    rng = np.random.default_rng(3)
    first, rows = rng.integers(0, 97, shared), []
    for i, length in enumerate(lengths):
        ids = np.concatenate([first, rng.integers(0, 97, length - shared)]).astype(np.int32)
        ids[shared : shared + 1] = 10 + i
        at = np.arange(length)
        rows.append(Encoded(f"{i:032x}", ids, at >= max(1, length // 2) if targets is None else np.isin(at, targets)))
    return rows


def batch_of(rows):
    return collate(rows, range(len(rows)), "cpu")


@pytest.mark.parametrize("kind", ["all linears", "upper layer only", "one linear"])
@pytest.mark.parametrize("name", LENGTHS_SHARED_TARGETS)
def test_features_equal_one_backward_per_row(name, kind):
    rows, spec = make(name), FeatureSpec(width=256)
    options = {
        "upper layer only": dict(targets=r"model\.layers\.1\..*_proj"),
        "one linear": dict(targets=r"model\.layers\.0\..*up_proj"),
    }
    adapted = with_lora(llama(num_hidden_layers=3), **options.get(kind, {}))
    exact, losses = naive_gradients(adapted, rows)
    model, taps = merge_adapter(adapted)
    run = ModelPass(model, feature_map(model, taps, spec, None))
    assert run.path == "fast", run.reason
    got, sums = run.gradients(batch_of(rows))
    wanted = run.features.projection.project(exact)
    assert np.abs(got.numpy() - wanted).max() < 1e-4 * np.abs(wanted).max()
    np.testing.assert_allclose(sums.numpy() / [r.targets for r in rows], losses, rtol=1e-5)
    alone = torch.cat([run.gradients(batch_of([row]))[0] for row in rows])
    assert (got - alone).abs().max() < 1e-4 * got.abs().max()
    backwards = run.gradients(batch_of(rows[::-1]))[0].flip(0)
    assert (got - backwards).abs().max() < 1e-4 * got.abs().max()


def test_the_way_of_other_devices_gives_the_same_features(monkeypatch):
    rows, adapted = make("targets inside it"), with_lora(llama(num_hidden_layers=3))
    model, taps = merge_adapter(adapted)
    run = ModelPass(model, feature_map(model, taps, FeatureSpec(width=256), None))
    here = run.gradients(batch_of(rows))[0]
    monkeypatch.setattr(packing_room, "_ROW_BY_ROW", ())
    monkeypatch.setattr(llama_room, "_EAGER_ATTENTION_TOKENS", 0)
    assert (run.gradients(batch_of(rows))[0] - here).abs().max() < 1e-4 * here.abs().max()


@pytest.mark.parametrize("name", LENGTHS_SHARED_TARGETS)
def test_losses_and_embeddings_equal_each_row_alone(name):
    rows, run = make(name), ModelPass(llama())
    plain = ModelPass(llama(), fast=False)
    assert run.path == "fast"
    together, embeddings = run.losses(batch_of(rows)), run.embeddings(batch_of(rows))
    for b, row in enumerate(rows):
        alone = plain.losses(batch_of([row]))
        torch.testing.assert_close(together.loss_B[b], alone.loss_B[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.entropy_B[b], alone.entropy_B[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(embeddings[b], plain.embeddings(batch_of([row]))[0], rtol=1e-4, atol=1e-4)


def test_input_gradients_belong_to_each_row():
    rows = make("as long as the shortest row, targets inside")
    batch, fast, plain = batch_of(rows), ModelPass(llama()).decoder, ModelPass(llama(), fast=False).decoder
    g, found = torch.randn(len(batch.source_n), 32), []
    for decoder in (fast, plain):
        embeds = llama().get_input_embeddings()(batch.ids_BT).detach().requires_grad_()
        hidden = decoder.hidden(batch.ids_BT, batch.lengths_B, batch.source_n, embeds_BTD=embeds)
        found.append(torch.autograd.grad((hidden * g).sum(), embeds)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row_by_row", [True, False])
@pytest.mark.parametrize("name", LENGTHS_SHARED_TARGETS)
def test_products_are_those_of_the_padded_batch(monkeypatch, name, row_by_row):
    monkeypatch.setattr(packing_room, "_ROW_BY_ROW", ("cpu",) if row_by_row else ())
    batch = batch_of(make(name))
    rows, width = batch.ids_BT.shape
    packing = Packing.of(batch.ids_BT, batch.lengths_B)
    tokens = RowTokens.of(packing)
    assert tokens.shared == LENGTHS_SHARED_TARGETS[name][1]
    real = (torch.arange(width) < batch.lengths_B[:, None])[..., None]
    kept, padded_g = torch.randn(len(packing.place_n), 3), torch.randn(rows, width, 5) * real
    g = tokens.from_batch(padded_g)
    assert torch.equal(tokens.to_batch(g), padded_g)
    wanted = torch.bmm(padded_g.transpose(1, 2), packing.unpack(kept))
    torch.testing.assert_close(tokens.products(g, kept), wanted, rtol=1e-4, atol=1e-5)
    at = RowTokens.at(batch.source_n, rows, width)
    x, g = torch.randn(len(batch.source_n), 3), torch.randn(len(batch.source_n), 5)
    wanted = torch.bmm(at.to_batch(g).transpose(1, 2), at.to_batch(x))
    torch.testing.assert_close(at.products(g, x), wanted, rtol=1e-4, atol=1e-5)
