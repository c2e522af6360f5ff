"""Features at the edges: batches of one, rows alike, one target, folds wider and narrower than the adapter."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.lm

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tests.probes.tiny_lora import ALL, llama, make_rows, naive_gradients, with_lora  # noqa: E402

from dataworth.errors import FingerprintMismatch, NonsenseRefused, RequestError  # noqa: E402
from dataworth.learners.batching import batches  # noqa: E402
from dataworth.learners.render import Encoded  # noqa: E402
from dataworth.numerics.projection import Projection  # noqa: E402
from dataworth.numerics.quantize import directions, quantize  # noqa: E402
from dataworth.probes.adapters import linears, merge_adapter  # noqa: E402
from dataworth.probes.fold import ModuleFold, verify_device  # noqa: E402
from dataworth.probes.gradients import stored  # noqa: E402
from dataworth.probes.model_pass import ModelPass  # noqa: E402
from dataworth.probes.opening import feature_map  # noqa: E402
from dataworth.probes.preconditioner import Moments, canonical  # noqa: E402
from dataworth.probes.spec import FeatureSpec  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def features_of(adapted, rows, spec, *, fast=True, tokens=10_000, moments=None):
    model, taps = merge_adapter(adapted)
    run = ModelPass(model, feature_map(model, taps, spec, moments), fast=fast)
    assert run.path == ("fast" if fast else "plain"), run.reason
    out, losses = np.zeros((len(rows), spec.width), np.float32), np.zeros(len(rows), np.float32)
    for batch in batches(rows, tokens, "cpu"):
        f, loss = run.gradients(batch)
        out[list(batch.rows)], losses[list(batch.rows)] = f.numpy(), loss.numpy()
    return out, losses, run


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def row(i, length, targets, seed=0):
    """A row of `length` tokens whose targets are those given."""
    supervised = np.zeros(length, bool)
    supervised[list(targets)] = True
    ids = np.random.default_rng(seed + i).integers(0, 97, length).astype(np.int32)
    return Encoded(f"{i:032x}", ids, supervised)


ALIKE = [Encoded(f"{i:032x}", r.input_ids, r.supervised) for i, r in enumerate([row(0, 12, range(5, 12))] * 5)]
EDGES = {
    "one row": [row(0, 11, range(4, 11))],
    "rows of two tokens": [row(i, 2, [1]) for i in range(3)],
    "all rows alike": ALIKE,
    "one target at the end": [row(i, 5 + 3 * i, [4 + 3 * i]) for i in range(4)],
    "one target at the start": [row(i, 5 + 3 * i, [1]) for i in range(4)],
    "every token a target": [row(i, 4 + i, range(1, 4 + i)) for i in range(4)],
    "targets with gaps": [row(i, 16, [1, 2, 7, 15]) for i in range(3)],
    "short beside long": [row(0, 2, [1]), row(1, 60, range(20, 60)), row(2, 3, [1, 2])],
    "one token again and again": [Encoded("a" * 32, np.full(9, 5, np.int32), np.arange(9) > 0), row(1, 7, [3])],
    "beginnings shared": [
        Encoded(f"{i:032x}", np.arange(10 + i, dtype=np.int32), np.arange(10 + i) > 6) for i in range(3)
    ],
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", EDGES)
def test_odd_batches_equal_one_backward_per_row(name, fast):
    rows = EDGES[name]
    adapted = with_lora(llama())
    exact, losses = naive_gradients(adapted, rows)
    got, sums, run = features_of(adapted, rows, FeatureSpec(width=256), fast=fast)
    wanted = run.features.projection.project(exact)
    for n in range(len(rows)):
        assert relative(got[n], wanted[n]) < 2e-4, n
    np.testing.assert_allclose(sums / [r.targets for r in rows], losses, rtol=1e-4, atol=1e-5)


def test_rows_alike_have_the_same_bits_within_a_batch():
    got, losses, _ = features_of(with_lora(llama()), ALIKE, FeatureSpec(width=256))
    assert (got == got[0]).all() and (losses == losses[0]).all()


def entries(adapted):
    return sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_a_fold_wider_than_the_adapter_keeps_every_entry_and_its_length():
    rows, adapted = make_rows(4), with_lora(llama(), targets=["q_proj", "o_proj"], r=2)
    exact, _ = naive_gradients(adapted, rows)
    total = entries(adapted)
    flat = np.concatenate([exact[n] for n in sorted(exact)], 1)
    got, _, run = features_of(adapted, rows, FeatureSpec(width=total + 13))
    assert run.features.projection.entries == total
    np.testing.assert_allclose(np.abs(got[:, :total]), np.abs(flat), atol=1e-4 * np.abs(flat).max())
    assert not got[:, total:].any()
    np.testing.assert_allclose(got @ got.T, flat @ flat.T, rtol=1e-3, atol=1e-4 * (flat**2).sum())


@pytest.mark.parametrize("width", [1, 2, 7, 31, 1000])
def test_narrow_and_odd_widths_equal_the_reference(width):
    rows, adapted = make_rows(3), with_lora(llama(), targets=["v_proj", "down_proj"])
    exact, _ = naive_gradients(adapted, rows)
    got, _, run = features_of(adapted, rows, FeatureSpec(width=width))
    wanted = run.features.projection.project(exact)
    scale = np.sqrt(sum((g**2).sum(1).max() for g in exact.values()))
    assert got.shape == (3, width) and np.abs(got - wanted).max() < 1e-4 * scale


def test_width_one_is_the_signed_sum_of_every_entry():
    projection = Projection((("a", 40), ("b", 3)), width=1, seed=2)
    verify_device(projection, "cpu")
    rows = {n: np.arange(1, s + 1, dtype=np.float32)[None] for n, s in projection.modules}
    out = torch.zeros(1, 1)
    for name, x in rows.items():
        ModuleFold(projection, name, "cpu").add_to(out, torch.from_numpy(x))
    assert float(out) == float(projection.project(rows)[0, 0])


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_the_seed_changes_signs_and_no_length(seed):
    rows = make_rows(3)
    total = entries(with_lora(llama()))
    base, _, one = features_of(with_lora(llama()), rows, FeatureSpec(width=total))
    other, _, two = features_of(with_lora(llama()), rows, FeatureSpec(width=total, seed=seed))
    np.testing.assert_allclose(np.linalg.norm(other, axis=1), np.linalg.norm(base, axis=1), rtol=1e-4)
    same = one.features.projection.fingerprint == two.features.projection.fingerprint
    assert same == (seed == 0) and same == np.array_equal(base, other)


@settings(max_examples=12, derandomize=True)
@given(
    st.sets(st.sampled_from(ALL), min_size=1),
    st.integers(1, 5),
    st.lists(st.integers(3, 20), min_size=1, max_size=5),  # a first token's query has no gradient but rounding
    st.integers(1, 300),
    st.booleans(),
)
def test_any_targets_rank_and_lengths(targets, r, lengths, tokens, fast):
    rng = np.random.default_rng(len(lengths))
    rows = [row(i, n, {n - 1, *rng.integers(1, n, 3).tolist()}) for i, n in enumerate(lengths)]
    adapted = with_lora(llama(num_hidden_layers=1), targets=sorted(targets), r=r)
    exact, _ = naive_gradients(adapted, rows)
    got, _, run = features_of(adapted, rows, FeatureSpec(width=128), tokens=tokens, fast=fast)
    assert relative(got, run.features.projection.project(exact)) < 2e-4


# Adam's moments: each parameter's own


def adam_case(rows):
    adapted = with_lora(llama(), targets=["q_proj", "v_proj"])
    exact, _ = naive_gradients(adapted, rows)
    shapes = {canonical(n): p.shape for n, p in adapted.named_parameters() if p.requires_grad}
    rng = np.random.default_rng(0)
    # Sizes differ by name, so that moments of another parameter would show.
    size = {n: 10.0 ** (k % 5 - 3) for k, n in enumerate(sorted(shapes))}
    first = {n: torch.tensor(rng.normal(size=s) * size[n]).float() for n, s in shapes.items()}
    second = {n: torch.tensor(rng.random(s) * size[n] ** 2).float() for n, s in shapes.items()}
    return adapted, exact, first, second


def by_formula(exact, first, second, spec):
    out = {}
    for n, g in exact.items():
        m, v = (t[n].double().numpy().reshape(-1) for t in (first, second))
        m, v = spec.beta1 * m + (1 - spec.beta1) * g, spec.beta2 * v + (1 - spec.beta2) * g.astype(float) ** 2
        out[n] = m / (np.sqrt(v) + spec.eps)
    return out


def test_moments_of_equal_shapes_are_told_apart_by_name():
    rows, spec = make_rows(4), FeatureSpec(width=256, optimizer="adam", eps=1e-5)
    _, exact, first, second = adam_case(rows)
    names = [n for n in first if n.endswith("lora_A.weight") and "q_proj" in n]
    assert len(names) == 2 and first[names[0]].shape == first[names[1]].shape
    exchanged = dict(first) | {names[0]: first[names[1]], names[1]: first[names[0]]}
    got = []
    for m in (first, exchanged):
        features, _, run = features_of(adam_case(rows)[0], rows, spec, moments=Moments.named(5, m, second))
        assert relative(features, run.features.projection.project(by_formula(exact, m, second, spec))) < 1e-4
        got.append(features)
    assert relative(*got) > 1e-2


@pytest.mark.parametrize("shuffle", [0, 1])
def test_the_order_in_which_moments_are_listed_changes_no_bit(shuffle):
    rows, spec = make_rows(3), FeatureSpec(width=256, optimizer="adam")
    _, _, first, second = adam_case(rows)
    names = np.random.default_rng(shuffle).permutation(sorted(first)).tolist()
    wrapped = {n: "base_model.model." + n.replace(".weight", ".default.weight") for n in names}
    plain, _, _ = features_of(adam_case(rows)[0], rows, spec, moments=Moments.named(5, first, second))
    moved = Moments.named(5, {wrapped[n]: first[n] for n in names}, {n: second[n] for n in reversed(names)})
    other, _, _ = features_of(adam_case(rows)[0], rows, spec, moments=moved)
    np.testing.assert_array_equal(plain, other)


def test_moments_that_miss_a_parameter_or_have_a_foreign_one_are_refused():
    rows, spec = make_rows(2), FeatureSpec(width=64, optimizer="adam")
    adapted, _, first, second = adam_case(rows)
    lost = sorted(first)[0]
    fewer = [{n: t for n, t in m.items() if n != lost} for m in (first, second)]
    with pytest.raises(FingerprintMismatch, match=lost):
        features_of(adapted, rows, spec, moments=Moments.named(1, *fewer))
    foreign = [m | {"elsewhere.lora_A.weight": torch.zeros(2, 2)} for m in (first, second)]
    with pytest.raises(FingerprintMismatch, match="elsewhere"):
        features_of(adam_case(rows)[0], rows, spec, moments=Moments.named(1, *foreign))


# Merging


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_merged_model_is_the_adapted_one(family):
    if family == "llama":
        build, targets = llama, ALL
    else:
        config = transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4)
        build, targets = (lambda: transformers.GPT2LMHeadModel(config).eval()), ["c_attn", "c_fc"]
    adapted = with_lora(build(), targets)
    ids = torch.arange(10)[None]
    wanted = adapted(ids).logits.detach()
    bare, taps = merge_adapter(adapted)
    torch.testing.assert_close(bare(ids).logits, wanted, rtol=1e-4, atol=1e-4)
    assert not any("lora" in n for n, _ in bare.named_parameters())
    assert not any(p.requires_grad for p in bare.parameters())
    assert {t.name.rsplit(".", 1)[-1] for t in taps} == set(targets)
    for tap in taps:
        assert (tap.d_out, tap.inputs_kI.shape[1]) == tuple(linears(bare)[tap.name][0].shape)


def test_rank_and_scale_of_each_adapter_are_its_own():
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=2, lora_alpha=6, target_modules=["q_proj", "up_proj"], rank_pattern={"up_proj": 5}, use_rslora=True
    )
    torch.manual_seed(0)
    adapted = get_peft_model(llama(), config).eval()
    with torch.no_grad():
        for n, p in adapted.named_parameters():
            if "lora_B" in n:
                p.normal_(std=0.1)
    rows = make_rows(4)
    exact, _ = naive_gradients(adapted, rows)
    got, _, run = features_of(adapted, rows, FeatureSpec(width=256))
    assert relative(got, run.features.projection.project(exact)) < 1e-4


# What is stored


def columns(features):
    n = len(features)
    return {
        "features": np.asarray(features, np.float32),
        "loss": np.arange(n, dtype=np.float32),
        "tokens": np.arange(n, dtype=np.int32) * 10,
    }


@pytest.mark.parametrize(
    ("fmt", "dtype", "stored_width"), [("int8", np.int8, 7), ("fp16", np.float16, 7), ("int4", np.uint8, 4)]
)
def test_every_format_keeps_rows_columns_and_ids_together(fmt, dtype, stored_width):
    spec = FeatureSpec(width=7, format=fmt)
    x = np.random.default_rng(0).normal(size=(4, 7)) * [[1e-6], [1.0], [1e6], [3.0]]
    x[1], x[3, 2] = 0, np.nan
    ids = ["a", "skipped", "zero", "big", "nan"]
    out, unscored = stored(columns(x), {"skipped": "its answer is empty"}, ids, spec)
    assert unscored == {
        "skipped": "its answer is empty",
        "zero": "its features are all zero",
        "nan": "its features are not finite",
    }
    assert out["rows"].shape == (2, stored_width) and out["rows"].dtype == dtype
    assert out["loss"].tolist() == [0, 2] and out["tokens"].tolist() == [0, 20], "the rows that stay, not the first"
    unit = directions(out["rows"], out["scale"], 7)
    wanted = x[[0, 2]] / np.linalg.norm(x[[0, 2]], axis=1, keepdims=True)
    assert np.abs(unit - wanted).max() < {"int8": 0.01, "fp16": 1e-3, "int4": 0.12}[fmt]
    np.testing.assert_allclose(out["norm"], np.linalg.norm(x[[0, 2]], axis=1), rtol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-3)


@pytest.mark.parametrize("fmt", ["int8", "fp16", "int4"])
@pytest.mark.parametrize("how", ["unscored", "refused"])
def test_no_row_left_gives_empty_columns_of_the_right_shape(fmt, how):
    spec = FeatureSpec(width=5, format=fmt)
    some, _ = stored(columns(np.ones((2, 5))), {}, ["a", "b"], spec)
    if how == "unscored":
        out, unscored = stored(columns(np.zeros((0, 5))), {"a": "x", "b": "y"}, ["a", "b"], spec)
    else:
        out, unscored = stored(columns([[0] * 5, [np.inf] * 5]), {}, ["a", "b"], spec)
    assert sorted(unscored) == ["a", "b"] and set(out) == set(some)
    for name in out:
        assert (
            len(out[name]) == 0 and out[name].dtype == some[name].dtype and out[name].shape[1:] == some[name].shape[1:]
        )


def test_rows_with_one_entry_and_rows_of_extreme_size_survive():
    x = np.zeros((3, 9), np.float32)
    x[0, 4], x[1, 2], x[2] = -1e-30, 3e38, np.linspace(-3e37, 3e37, 9)
    with np.errstate(all="raise"):
        codes = quantize(x[:2])
    np.testing.assert_allclose(directions(codes.codes_NP, codes.scale_N, 9), np.sign(x[:2]), atol=1e-6)
    np.testing.assert_allclose(codes.norm_N, np.abs(x[:2]).max(1), rtol=1e-5)


def test_a_spec_of_impossible_values_is_refused():
    for bad in (dict(width=0), dict(k=0), dict(eps=0.0), dict(format="int2"), dict(loss="max"), dict(optimizer="lion")):
        with pytest.raises(RequestError, match="correct"):
            FeatureSpec(**bad)
    with pytest.raises(FingerprintMismatch, match="signs of version 99"):
        FeatureSpec.from_dict(FeatureSpec().to_dict() | {"signs": 99})


def test_a_pass_opened_without_features_gives_none():
    run = ModelPass(llama().requires_grad_(False))
    (batch,) = batches(make_rows(2), 10_000, "cpu")
    with pytest.raises(ValueError, match="without features"):
        run.gradients(batch)


def test_a_model_that_caps_its_logits_is_refused():
    config = transformers.Gemma2Config(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=8,
        final_logit_softcapping=1.0,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    with pytest.raises(NonsenseRefused, match="capping"):
        ModelPass(transformers.Gemma2ForCausalLM(config).eval().requires_grad_(False))
