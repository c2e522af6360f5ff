"""Batched features against one backward per row through PEFT, and the LESS checks that concern gradients."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm

from tests.probes.tiny_lora import llama, make_rows, naive_gradients, with_lora  # noqa: E402

from dataworth.errors import FingerprintMismatch, RequestError  # noqa: E402
from dataworth.learners.batching import batches  # noqa: E402
from dataworth.numerics.quantize import directions  # noqa: E402
from dataworth.probes.adapters import merge_adapter, onesided_taps  # noqa: E402
from dataworth.probes.gradients import _of_batch, stored  # noqa: E402
from dataworth.probes.model_pass import ModelPass  # noqa: E402
from dataworth.probes.opening import ShardWork, feature_map  # noqa: E402
from dataworth.probes.preconditioner import Moments  # noqa: E402
from dataworth.probes.spec import FeatureSpec  # noqa: E402

WIDTH = 512


def features_of(adapted, rows, spec, *, fast=True, tokens=10_000, moments=None, checkpointing=False):
    """Features and loss sums of `rows` by the batched pass; also the pass."""
    model, taps = merge_adapter(adapted)
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.train()
    run = ModelPass(model, feature_map(model, taps, spec, moments), fast=fast)
    features, losses = np.zeros((len(rows), spec.width), np.float32), np.zeros(len(rows), np.float32)
    for batch in batches(rows, tokens, "cpu"):
        f, loss = run.gradients(batch)
        features[list(batch.rows)], losses[list(batch.rows)] = f.numpy(), loss.numpy()
    return features, losses, run


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("tokens", [1, 64, 10_000])
def test_batched_features_equal_one_backward_per_row(fast, attention, tokens):
    rows, spec = make_rows(), FeatureSpec(width=WIDTH)
    adapted = with_lora(llama(attention))
    exact, losses = naive_gradients(adapted, rows)
    got, sums, run = features_of(adapted, rows, spec, fast=fast, tokens=tokens)
    assert run.path == ("fast" if fast else "plain"), run.reason
    assert relative(got, run.features.projection.project(exact)) < 1e-4
    np.testing.assert_allclose(sums / [r.targets for r in rows], losses, rtol=1e-5)


def test_gradient_checkpointing_changes_nothing():
    rows, spec = make_rows(), FeatureSpec(width=WIDTH)
    adapted = with_lora(llama())
    exact, _ = naive_gradients(adapted, rows)
    got, _, run = features_of(adapted, rows, spec, fast=False, checkpointing=True)
    assert relative(got, run.features.projection.project(exact)) < 1e-4


@pytest.mark.parametrize("fast", [True, False])
def test_adapters_on_some_linears_only(fast):
    rows, spec = make_rows(), FeatureSpec(width=WIDTH)
    adapted = with_lora(llama(), targets=["q_proj", "v_proj", "up_proj"])
    exact, _ = naive_gradients(adapted, rows)
    got, _, run = features_of(adapted, rows, spec, fast=fast)
    assert relative(got, run.features.projection.project(exact)) < 1e-4


def test_the_order_of_rows_and_the_company_they_keep_do_not_matter():
    rows, spec = make_rows(), FeatureSpec(width=WIDTH)
    together, _, _ = features_of(with_lora(llama()), rows, spec)
    backwards, _, _ = features_of(with_lora(llama()), rows[::-1], spec, tokens=70)
    assert relative(backwards[::-1], together) < 1e-4


def moments_of(exact, seed=5, scale=1.0):
    rng = np.random.default_rng(seed)
    first = {n: torch.tensor(rng.normal(size=g.shape[1]) * g.std() * scale).float() for n, g in exact.items()}
    second = {n: torch.tensor(rng.random(g.shape[1]) * g.std() ** 2).float() for n, g in exact.items()}
    return first, second


def shaped(adapted, flat):
    from dataworth.probes.preconditioner import canonical

    shapes = {canonical(n): p.shape for n, p in adapted.named_parameters() if p.requires_grad}
    return {n: t.view(shapes[n]) for n, t in flat.items()}


def naive_map(g, m, v, spec, step):
    m1 = spec.beta1 * m * (spec.optimizer == "adam") + (1 - spec.beta1) * g
    v1 = spec.beta2 * v + (1 - spec.beta2) * g * g
    if spec.bias_correction:
        m1, v1 = m1 / (1 - spec.beta1 ** (step + 1)), v1 / (1 - spec.beta2 ** (step + 1))
    return m1 / np.sqrt(v1 + spec.eps) if spec.eps_mode == "inside" else m1 / (np.sqrt(v1) + spec.eps)


@pytest.mark.parametrize("optimizer", ["adam", "adam_no_momentum"])
@pytest.mark.parametrize("eps_mode", ["inside", "outside"])
@pytest.mark.parametrize("bias_correction", [True, False])
def test_optimizer_maps_equal_their_formulas(optimizer, eps_mode, bias_correction):
    rows = make_rows(5)
    spec = FeatureSpec(width=WIDTH, optimizer=optimizer, eps_mode=eps_mode, bias_correction=bias_correction, eps=1e-4)
    adapted = with_lora(llama())
    exact, _ = naive_gradients(adapted, rows)
    first, second = moments_of(exact)
    moments = Moments.named(7, shaped(adapted, first), shaped(adapted, second))
    got, _, run = features_of(adapted, rows, spec, moments=moments)
    wanted = {
        n: naive_map(g.astype(np.float64), first[n].double().numpy(), second[n].double().numpy(), spec, 7)
        for n, g in exact.items()
    }
    assert relative(got, run.features.projection.project(wanted)) < 1e-4


def test_bias_correction_cannot_change_a_cosine_when_eps_is_negligible():
    rows, cosines = make_rows(6), []
    for on in (False, True):
        adapted = with_lora(llama())
        exact, _ = naive_gradients(adapted, rows)
        first, second = moments_of(exact)
        moments = Moments.named(3, shaped(adapted, first), shaped(adapted, second))
        spec = FeatureSpec(width=WIDTH, optimizer="adam", eps=1e-20, bias_correction=on)
        f, _, _ = features_of(adapted, rows, spec, moments=moments)
        cosines.append(cosine(f, f))
    np.testing.assert_allclose(cosines[0], cosines[1], atol=1e-5)


def cosine(a, b):
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def test_c1_a_copy_of_a_goal_row_has_cosine_one_before_and_after_projection():
    pool, goal = make_rows(6), make_rows(6)[2:3]
    adapted = with_lora(llama())
    exact, _ = naive_gradients(adapted, pool)
    flat = np.concatenate([exact[n] for n in sorted(exact)], 1)
    assert cosine(flat, flat[2:3])[2, 0] == pytest.approx(1, abs=1e-5)
    of_pool, _, run = features_of(adapted, pool, FeatureSpec(width=WIDTH))
    of_goal = np.concatenate([run.gradients(b)[0].numpy() for b in batches(goal, 100, "cpu")])
    assert cosine(of_pool, of_goal)[2, 0] == pytest.approx(1, abs=1e-5)
    error = cosine(of_pool, of_pool) - cosine(flat, flat)
    assert error[np.triu_indices(6, 1)].std() < 2 / np.sqrt(WIDTH)


def test_c2_and_c3_the_size_of_a_loss_changes_no_cosine():
    rows = make_rows(6)
    mean, mean_loss, _ = features_of(with_lora(llama()), rows, FeatureSpec(width=WIDTH))
    total, total_loss, _ = features_of(with_lora(llama()), rows, FeatureSpec(width=WIDTH, loss="sum"))
    counts = np.array([r.targets for r in rows])[:, None]
    assert relative(total, mean * counts) < 1e-4
    np.testing.assert_allclose(mean_loss, total_loss, rtol=1e-5)
    np.testing.assert_allclose(cosine(mean, mean), cosine(total, total), atol=1e-5)


def test_c6_moments_of_other_parameters_raise():
    rows, spec = make_rows(2), FeatureSpec(width=WIDTH, optimizer="adam")
    adapted = with_lora(llama())
    exact, _ = naive_gradients(adapted, rows)
    first, second = (shaped(adapted, m) for m in moments_of(exact))
    names = sorted(first)
    swapped = dict(zip(names, [first[n] for n in names[1:] + names[:1]], strict=True))
    with pytest.raises(FingerprintMismatch, match="expected the moments of this very checkpoint"):
        features_of(adapted, rows, spec, moments=Moments.named(1, swapped, second))
    with pytest.raises(RequestError, match="expected parameter names"):
        Moments.named(1, dict(enumerate(first.values())), dict(enumerate(second.values())))
    with pytest.raises(RequestError, match="expected the same names"):
        Moments.named(1, first, {n: second[n] for n in names[1:]})


def test_c6_a_consistent_permutation_of_names_is_harmless():
    rows, spec = make_rows(4), FeatureSpec(width=WIDTH, optimizer="adam")
    adapted = with_lora(llama())
    exact, _ = naive_gradients(adapted, rows)
    first, second = (shaped(adapted, m) for m in moments_of(exact))
    one, _, _ = features_of(adapted, rows, spec, moments=Moments.named(1, first, second))
    shuffled = [dict(reversed(list(m.items()))) for m in (first, second)]
    two, _, _ = features_of(with_lora(llama()), rows, spec, moments=Moments.named(1, *shuffled))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("fast", [True, False])
def test_onesided_is_the_weight_gradient_with_projected_inputs(fast):
    from dataworth.probes.fold import module_signs

    rows, spec = make_rows(5), FeatureSpec(kind="onesided", width=WIDTH, k=4)
    model = llama()
    linears = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    grads = {n: [] for n in linears}
    for row in rows:
        ids = torch.tensor(row.input_ids, dtype=torch.long)[None]
        model.zero_grad()
        model(input_ids=ids, labels=torch.where(torch.tensor(row.supervised)[None], ids, -100)).loss.backward()
        for name, linear in linears.items():
            signs = module_signs(0, f"{name}|inputs", linear.in_features * 4).view(-1, 4).float()
            grads[name].append((linear.weight.grad @ signs / 2).flatten().numpy())
    got, _, run = features_of(model, rows, spec, fast=fast)
    wanted = run.features.projection.project({f"{n}.weight": np.stack(g) for n, g in grads.items()})
    assert relative(got, wanted) < 1e-4
    assert len(onesided_taps(llama(), 4, 0)) == len(linears)


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_directions_stay_close(fast):
    """Stated tolerance: every row's bf16 direction has cosine >= 0.98 with its fp32 one (tiny random model)."""
    rows, spec = make_rows(), FeatureSpec(width=WIDTH)
    wide, _, _ = features_of(with_lora(llama()), rows, spec)
    narrow, _, run = features_of(with_lora(llama()).to(torch.bfloat16), rows, spec, fast=fast)
    assert run.path == ("fast" if fast else "plain"), run.reason
    assert np.diag(cosine(narrow, wide)).min() > 0.98


def opener(dtype):
    model = with_lora(llama()).to(torch.float32 if dtype == "fp32" else torch.bfloat16)
    bare, taps = merge_adapter(model)
    return ModelPass(bare, feature_map(bare, taps, FeatureSpec(width=WIDTH), None))


def test_rows_without_loss_or_finite_values_are_listed_with_reasons():
    rows = make_rows(4)
    rows[1] = type(rows[1])(rows[1].id, rows[1].input_ids, np.zeros(len(rows[1]), bool), reason="its answer is empty")
    asked = []

    def of_batch(model, batch):
        asked.append(model)
        columns = {n: v.copy() for n, v in _of_batch(model, batch).items()}
        broken = [b for b, n in enumerate(batch.rows) if (len(batch.rows) > 1 and n == 2) or len(batch.rows) == 1]
        if len(set(map(id, asked))) == 1:
            columns["features"][broken] = np.inf
        return columns

    empty = {
        "features": np.zeros((0, WIDTH), np.float32),
        "loss": np.zeros(0, np.float32),
        "tokens": np.zeros(0, np.int32),
    }
    work = ShardWork(opener, of_batch, empty, 10_000)
    ids = [r.id for r in rows]
    columns, unscored = stored(*work(ids, rows), ids, FeatureSpec(width=WIDTH))
    assert unscored == {rows[1].id: "its answer is empty"}
    assert columns["rows"].shape == (3, WIDTH) and columns["rows"].dtype == np.int8
    assert work.twin is not None and asked.count(work.twin) == 1, "the non-finite row is run once more in fp32"
    length = np.linalg.norm(directions(columns["rows"], columns["scale"], WIDTH), axis=1)
    np.testing.assert_allclose(length, 1, rtol=1e-4)
    none, reasons = stored(*work(ids[1:2], rows[1:2]), ids[1:2], FeatureSpec(width=WIDTH))
    assert none["rows"].shape == (0, WIDTH) and none["rows"].dtype == np.int8 and len(reasons) == 1


def test_zero_features_are_refused_row_by_row():
    columns = {
        "features": np.eye(3, WIDTH, dtype=np.float32),
        "loss": np.ones(3, np.float32),
        "tokens": np.ones(3, np.int32),
    }
    columns["features"][1] = 0
    out, unscored = stored(columns, {}, ["a", "b", "c"], FeatureSpec(width=WIDTH))
    assert unscored == {"b": "its features are all zero"} and len(out["rows"]) == len(out["loss"]) == 2
