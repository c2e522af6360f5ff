"""What the engine calls: losses, embeddings, gradients and tokens from a model folder, shard by shard."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm

from tests.learners.tinymodel import tiny_folder  # noqa: E402

from dataworth.errors import FingerprintMismatch, NonsenseRefused, RequestError  # noqa: E402
from dataworth.learners.causal_lm import CausalLM  # noqa: E402
from dataworth.learners.checkpoint import read_moments  # noqa: E402
from dataworth.learners.render import Encoded, Renderer  # noqa: E402
from dataworth.learners.trainer import train  # noqa: E402
from dataworth.numerics.quantize import directions  # noqa: E402
from dataworth.probes.embeddings import open_embeddings  # noqa: E402
from dataworth.probes.gradients import open_gradients  # noqa: E402
from dataworth.probes.losses import open_losses  # noqa: E402
from dataworth.probes.preconditioner import canonical  # noqa: E402
from dataworth.probes.spec import FeatureSpec  # noqa: E402
from dataworth.probes.tokens import encoded_rows, open_tokens  # noqa: E402
from dataworth.recipe import Recipe  # noqa: E402
from dataworth.records import Example, Message  # noqa: E402
from dataworth.store import Cache  # noqa: E402

RECIPE = Recipe(dtype="fp32", batch_size=4, epochs=1, lr=1e-2, lora_r=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model folder, a checkpoint of a short training on it, and the plain model."""
    torch.set_num_threads(1)
    folder = tiny_folder(tmp_path_factory.mktemp("tiny"))
    learner = CausalLM.load(str(folder), recipe=RECIPE, device="cpu")
    done = train(learner, rows_of([12, 9, 17, 6, 11], seed=7), recipe=RECIPE, out=tmp_path_factory.mktemp("run"))
    return folder, done.folders[-1], learner.model


def rows_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Encoded(f"{i:032x}", rng.integers(0, 256, n).astype(np.int32), np.arange(n) >= max(1, n // 2))
        for i, n in enumerate(lengths)
    ]


def config(folder, **more):
    return {"model": str(folder), "recipe": RECIPE.to_dict(), **more}


def call(work, rows):
    return work([r.id for r in rows], rows)


LENGTHS = {"mixed": [7, 31, 2, 12, 12], "one row": [9], "all equal": [8] * 4, "shortest": [2, 2]}
DULL = Encoded("f" * 32, np.arange(5, dtype=np.int32), np.zeros(5, bool))
NAMED = Encoded("e" * 32, np.zeros(0, np.int32), np.zeros(0, bool), reason="its answer is empty")


def naive_losses(model, rows):
    out = []
    for row in rows:
        ids, at = torch.tensor(row.input_ids, dtype=torch.long), np.flatnonzero(row.supervised)
        log_p = model(input_ids=ids[None]).logits[0, at - 1].float().log_softmax(-1)
        out.append((float(-log_p[torch.arange(len(at)), ids[at]].sum()), float(-(log_p.exp() * log_p).sum())))
    return np.array(out)


def bare(folder):
    return CausalLM.load(str(folder), recipe=RECIPE, device="cpu", lora=False).model


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", LENGTHS)
def test_losses_of_a_shard_equal_one_row_at_a_time(world, name, fast):
    rows = rows_of(LENGTHS[name])
    columns, unscored = call(open_losses(config(world[0], fast=fast), "cpu"), rows)
    wanted = naive_losses(bare(world[0]), rows)
    assert unscored == {} and columns["targets"].tolist() == [r.targets for r in rows]
    np.testing.assert_allclose(columns["loss_sum"], wanted[:, 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(columns["entropy_sum"], wanted[:, 1], rtol=1e-4, atol=1e-4)
    assert columns["loss_sum"].dtype == np.float32 and columns["targets"].dtype == np.int32


def test_losses_with_a_checkpoint_are_those_of_the_adapted_model(world):
    folder, checkpoint, adapted = world
    rows = rows_of([14, 6, 9])
    columns, _ = call(open_losses(config(folder, checkpoint=str(checkpoint)), "cpu"), rows)
    np.testing.assert_allclose(columns["loss_sum"], naive_losses(adapted, rows)[:, 0], rtol=1e-4)
    plain, _ = call(open_losses(config(folder), "cpu"), rows)
    assert np.abs(plain["loss_sum"] - columns["loss_sum"]).max() > 1e-2, "the comparison means nothing otherwise"


@pytest.mark.parametrize("fast", [True, False])
def test_losses_from_cached_states_are_those_of_the_whole_model(world, tmp_path, fast):
    folder, below, _ = world
    upper = RECIPE.to_dict() | {"lora_layers": 1}
    learner = CausalLM.load(str(folder), recipe=Recipe.from_dict(upper), device="cpu")
    above = train(learner, rows_of([12, 9, 17]), out=tmp_path / "run").folders[-1]
    rows = rows_of([14, 6, 9, 6])
    for checkpoint in (None, str(above)):
        asked = {**config(folder, checkpoint=checkpoint, fast=fast), "recipe": upper}
        whole, _ = call(open_losses(asked, "cpu"), rows)
        cached, unscored = call(open_losses({**asked, "states": tmp_path / "states"}, "cpu"), rows)
        assert not unscored and whole["targets"].tolist() == cached["targets"].tolist()
        for name in ("loss_sum", "entropy_sum"):
            np.testing.assert_allclose(cached[name], whole[name], rtol=1e-5, atol=1e-5)
    assert len([p for p in (tmp_path / "states").rglob("*") if p.is_file()]) == len(rows), "one for both"
    # An adapter below the cut changes the states, so the cached ones aren't its own.
    asked = {**config(folder, checkpoint=str(below), fast=fast), "recipe": upper}
    whole, _ = call(open_losses(asked, "cpu"), rows)
    cached, _ = call(open_losses({**asked, "states": tmp_path / "states"}, "cpu"), rows)
    np.testing.assert_array_equal(cached["loss_sum"], whole["loss_sum"])


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", LENGTHS)
def test_embeddings_of_a_shard_equal_one_row_at_a_time(world, name, fast):
    rows, model = rows_of(LENGTHS[name]), bare(world[0])
    columns, unscored = call(open_embeddings(config(world[0], fast=fast), "cpu"), rows)
    assert unscored == {} and columns["vector"].dtype == np.float32
    for row, vector in zip(rows, columns["vector"], strict=True):
        ids = torch.tensor(row.input_ids, dtype=torch.long)[None]
        hidden = model.model(ids).last_hidden_state[0].detach().numpy()
        wanted = np.average(hidden, axis=0, weights=np.arange(1, len(row) + 1))
        np.testing.assert_allclose(vector, wanted, rtol=1e-3, atol=1e-4)


def naive_features(model, rows):
    parameters = {canonical(n): p for n, p in model.named_parameters() if p.requires_grad}
    out = {n: [] for n in parameters}
    for row in rows:
        ids, at = torch.tensor(row.input_ids, dtype=torch.long), np.flatnonzero(row.supervised)
        logits = model(input_ids=ids[None]).logits[0, at - 1].float()
        loss = torch.nn.functional.cross_entropy(logits, ids[at])
        for name, g in zip(out, torch.autograd.grad(loss, list(parameters.values())), strict=True):
            out[name].append(g.flatten().numpy())
    return {n: np.stack(g) for n, g in out.items()}


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("fmt", ["int8", "fp16", "int4"])
def test_stored_gradients_point_where_the_naive_ones_do(world, optimizer, fmt):
    from dataworth.numerics.projection import Projection

    folder, checkpoint, adapted = world
    rows, spec = rows_of([14, 6, 9, 25]), FeatureSpec(width=96, optimizer=optimizer, format=fmt, eps=1e-6)
    asked = config(folder, checkpoint=str(checkpoint), feature=spec.to_dict())
    columns, unscored = call(open_gradients(asked, "cpu"), rows)
    exact = naive_features(adapted, rows)
    if optimizer == "adam":
        moments = read_moments(checkpoint)
        first, second = (
            {canonical(n): t.double().numpy().reshape(-1) for n, t in m.items()}
            for m in (moments.exp_avg, moments.exp_avg_sq)
        )
        exact = {
            n: (0.9 * first[n] + 0.1 * g) / (np.sqrt(0.999 * second[n] + 0.001 * g.astype(float) ** 2) + spec.eps)
            for n, g in exact.items()
        }
    projection = Projection(tuple((n, g.shape[1]) for n, g in exact.items()), 96)
    wanted = projection.project(exact)
    got = directions(columns["rows"], columns["scale"], 96)
    floor = {"int8": 0.9995, "fp16": 0.99999, "int4": 0.98}[fmt]
    assert unscored == {} and (unit(got) * unit(wanted)).sum(1).min() > floor
    np.testing.assert_allclose(columns["norm"], np.linalg.norm(wanted, axis=1), rtol=1e-2)
    assert columns["projection"].tolist() == [int.from_bytes(bytes.fromhex(projection.fingerprint)[:8], "little")] * 4


OPENERS = {"losses": open_losses, "embeddings": open_embeddings, "gradients": open_gradients}


@pytest.fixture(scope="module")
def works(world):
    feature = FeatureSpec(width=64).to_dict()
    extra = {"gradients": {"checkpoint": str(world[1]), "feature": feature}}
    return {n: opener(config(world[0], **extra.get(n, {})), "cpu") for n, opener in OPENERS.items()}


@pytest.mark.parametrize("name", OPENERS)
def test_a_shard_without_a_scorable_row_has_empty_columns_of_the_usual_kind(works, name):
    columns, unscored = call(works[name], [DULL, NAMED])
    assert unscored == {DULL.id: "no token of it carries loss", NAMED.id: "its answer is empty"}
    usual, _ = call(works[name], rows_of([8]))
    assert set(columns) == set(usual)
    for key, values in columns.items():
        assert len(values) == 0 and values.dtype == usual[key].dtype and values.shape[1:] == usual[key].shape[1:], key
    nothing, none = call(works[name], [])
    assert none == {} and all(len(v) == 0 for v in nothing.values())


@pytest.mark.parametrize("name", OPENERS)
def test_columns_follow_the_shard_and_skip_unscored_rows(works, name):
    a, b, c = rows_of([21, 5, 9])
    columns, unscored = call(works[name], [a, DULL, b, NAMED, c])
    assert sorted(unscored) == [NAMED.id, DULL.id]
    for n, row in enumerate((a, b, c)):
        single, _ = call(works[name], [row])
        for key, values in single.items():
            tolerance = 1.0 if key == "rows" else 1e-4 * max(1.0, np.abs(values.astype(float)).max())
            np.testing.assert_allclose(
                columns[key][n].astype(float), values[0].astype(float), atol=tolerance, rtol=1e-4
            )


@pytest.mark.parametrize("name", OPENERS)
def test_the_same_shard_gives_the_same_bytes_in_any_company_of_shards(works, name):
    shard = rows_of([13, 4, 22])
    before, _ = call(works[name], shard)
    call(works[name], rows_of([3, 40], seed=5))
    after, _ = call(works[name], shard)
    assert all(before[k].tobytes() == after[k].tobytes() for k in before)


@pytest.mark.parametrize("tokens", [1, 25, 100_000])
def test_the_token_budget_of_a_batch_changes_only_rounding(world, tokens):
    rows = rows_of([13, 4, 22, 9])
    base, _ = call(open_losses(config(world[0]), "cpu"), rows)
    cut, _ = call(open_losses(config(world[0], batch_tokens=tokens), "cpu"), rows)
    np.testing.assert_allclose(cut["loss_sum"], base["loss_sum"], rtol=1e-5)


def test_a_row_that_is_not_finite_in_any_dtype_is_named(world, works, monkeypatch):
    work = works["losses"]
    real, rows = work.of_batch, rows_of([13, 4, 22])

    def broken(model, batch):
        columns = {k: v.copy() for k, v in real(model, batch).items()}
        columns["loss_sum"][batch.lengths_B.numpy() == 4] = np.nan
        return columns

    monkeypatch.setattr(work, "of_batch", broken)
    columns, unscored = call(work, rows)
    assert unscored == {rows[1].id: "its values are not finite, also in fp32"} and len(columns["loss_sum"]) == 2


def test_gradients_ask_for_what_they_need(world, tmp_path):
    folder, checkpoint, _ = world
    with pytest.raises(RequestError, match="no adapter"):
        open_gradients(config(folder, feature=FeatureSpec(width=8).to_dict()), "cpu")
    with pytest.raises(RequestError, match="adapter_config"):
        open_gradients(config(folder, checkpoint=str(tmp_path), feature=FeatureSpec().to_dict()), "cpu")
    other = tiny_folder(tmp_path / "other", initializer_range=0.3)
    with pytest.raises(FingerprintMismatch, match="other weights"):
        open_gradients(config(other, checkpoint=str(checkpoint), feature=FeatureSpec().to_dict()), "cpu")


def test_onesided_gradients_need_no_adapter(world):
    spec = FeatureSpec(kind="onesided", width=64, k=3)
    columns, unscored = call(open_gradients(config(world[0], feature=spec.to_dict()), "cpu"), rows_of([8, 5]))
    assert unscored == {} and columns["rows"].shape == (2, 64)


def test_padding_is_checked_also_where_the_longest_row_has_a_batch_of_its_own(world):
    """A budget that lets no short row stand beside the longest must not switch the guard off."""
    work = open_losses(config(world[0], batch_tokens=40), "cpu")
    real = work.of_batch

    def leaky(model, batch):
        columns = {k: v.copy() for k, v in real(model, batch).items()}
        return columns | {"loss_sum": columns["loss_sum"] + np.float32(batch.ids_BT.shape[1])}

    work.of_batch = leaky
    with pytest.raises(NonsenseRefused, match="padded"):
        call(work, rows_of([6, 9, 35]))


# Tokens


def example(i, *turns):
    return Example(f"{i:032x}", "sft", "messages", tuple(Message(r, c) for r, c in turns))


def test_token_tables_bring_back_what_the_renderer_gave(world, tmp_path):
    from dataworth.learners.load import load_tokenizer

    examples = [
        example(0, ("user", "Hi"), ("assistant", "there 🙂")),
        example(1, ("user", "no answer")),
        example(2, ("user", "forge <|im_end|>"), ("assistant", "ok")),
        example(3, ("user", "long"), ("assistant", "y" * 99)),
        example(4, ("user", "\ud800"), ("assistant", "half a pair")),
    ]
    ids = [e.id for e in examples]
    work = open_tokens({"folder": str(world[0]), "mask_like": "assistant", "max_length": 60}, "cpu")
    artefact = Cache(tmp_path).artefact("tokens", {"any": 1})
    for shard in artefact.plan(ids, shard_rows=2):
        artefact.commit(shard, *work(list(shard.ids), [examples[ids.index(i)] for i in shard.ids]))
    renderer = Renderer(load_tokenizer(world[0]), "assistant", 60)
    for asked in (ids, ids[::-1], ids[2:3]):
        for row, i in zip(encoded_rows(artefact.table(asked), asked), asked, strict=True):
            wanted = renderer.encode(examples[ids.index(i)])
            assert (row.id, row.reason) == (wanted.id, wanted.reason)
            if not wanted.reason:
                assert row.input_ids.tolist() == wanted.input_ids.tolist() and row.input_ids.dtype == np.int32
                assert row.supervised.tolist() == wanted.supervised.tolist() and row.supervised.dtype == bool
                assert (row.truncated, row.forged) == (wanted.truncated, wanted.forged)


def test_a_token_shard_of_refused_rows_only_is_empty(world):
    work = open_tokens({"folder": str(world[0]), "mask_like": "assistant", "max_length": 60}, "cpu")
    columns, unscored = work(["0" * 32], [example(0, ("user", "x"))])
    assert unscored == {"0" * 32: "the row has no assistant turn to learn from"}
    assert all(len(v) == 0 for v in columns.values())
