"""Both hand-written decoders on many small shapes, against transformers and PEFT one row at a time."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.lm

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from dataworth.learners import llama as decoding  # noqa: E402
from dataworth.learners.adapter import fresh_adapter, trainable  # noqa: E402
from dataworth.learners.batching import batches, collate  # noqa: E402
from dataworth.learners.decoder import (  # noqa: E402
    FastDecoder,
    disagreement,
    rms_norm,
    rms_norm_backward,
    supports,
    swiglu,
    swiglu_backward,
)
from dataworth.learners.forward import Forward  # noqa: E402
from dataworth.learners.lora_decoder import LoraDecoder, Packing, unsupported  # noqa: E402
from dataworth.learners.render import Encoded  # noqa: E402
from dataworth.recipe import Recipe  # noqa: E402

V = 61
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ROPES = {
    "default": None,
    "linear": dict(rope_type="linear", rope_theta=1e4, factor=2.5),
    "llama3": dict(
        rope_type="llama3",
        rope_theta=5e4,
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=16,
    ),
    "yarn": dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=16),
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def build(family="Llama", seed=0, **changes):
    """A random small model whose norms and biases aren't what a fresh one has."""
    sizes = dict(
        vocab_size=V,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        max_position_embeddings=256,
    )
    if family == "Mistral":
        sizes["sliding_window"] = None
    rope = changes.pop("rope", None)
    torch.manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(
        **{**sizes, **changes}, **({"rope_parameters": rope} if rope else {})
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for name, p in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            torch.nn.init.normal_(p, mean=0.0 if "bias" in name else 1.0, std=0.3)
    return model.requires_grad_(False)


def adapted(model, targets=ALL, r=3):
    model = fresh_adapter(model, Recipe(lora_r=r, lora_targets=targets)).eval()
    with torch.no_grad():
        for p in trainable(model).values():
            p.add_(torch.randn_like(p) * 0.1)
    return model


def some_ids(rows, length, seed=1):
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(seed))


def rows_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Encoded(f"{i:032x}", rng.integers(0, V, n).astype(np.int32), np.arange(n) >= max(1, n // 2))
        for i, n in enumerate(lengths)
    ]


def alone(model, rows):
    """Losses and summed adapter gradients of rows one at a time through the model's own logits."""
    parameters = trainable(model)
    losses, total = [], {n: torch.zeros_like(p) for n, p in parameters.items()}
    for row in rows:
        ids = torch.tensor(row.input_ids, dtype=torch.long)
        at = np.flatnonzero(row.supervised)
        logits = model(input_ids=ids[None]).logits[0, at - 1].float()
        loss = torch.nn.functional.cross_entropy(logits, ids[at], reduction="none")
        for name, g in zip(total, torch.autograd.grad(loss.sum(), list(parameters.values())), strict=True):
            total[name] += g
        losses.append(loss.detach())
    return losses, total


def batched(model, forward, rows, tokens=10_000):
    parameters = trainable(model)
    losses, total = [None] * len(rows), {n: torch.zeros_like(p) for n, p in parameters.items()}
    for batch in batches(rows, tokens, "cpu"):
        loss = forward.losses(batch)
        for name, g in zip(total, torch.autograd.grad(loss.sum(), list(parameters.values())), strict=True):
            total[name] += g
        for b, i in enumerate(batch.rows):
            losses[i] = loss[batch.row_n == b].detach()
    return losses, total


def agree(ours, theirs, tolerance=2e-4):
    for a, b in zip(ours[0], theirs[0], strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    for name, g in theirs[1].items():
        assert (ours[1][name] - g).norm() <= tolerance * g.norm() + 1e-5, name


@st.composite
def shapes(draw):
    kv = draw(st.integers(1, 3))
    heads = kv * draw(st.integers(1, 3))
    head_dim = draw(st.sampled_from([2, 4, 6, 10]))
    family = draw(st.sampled_from(["Llama", "Mistral", "Qwen2"]))
    changes = dict(
        family=family,
        num_key_value_heads=kv,
        num_attention_heads=heads,
        hidden_size=heads * head_dim,
        intermediate_size=draw(st.integers(3, 50)),
        num_hidden_layers=draw(st.integers(1, 3)),
        tie_word_embeddings=draw(st.booleans()),
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-2])),
    )
    if family == "Llama":
        changes |= dict(attention_bias=draw(st.booleans()), mlp_bias=draw(st.booleans()))
    if family in ("Llama", "Mistral") and draw(st.booleans()):
        changes |= dict(head_dim=draw(st.sampled_from([4, 8])))
    if family != "Mistral":
        changes |= dict(rope=ROPES[draw(st.sampled_from(sorted(ROPES)))])
    return changes


@settings(max_examples=30, derandomize=True)
@given(shapes(), st.integers(1, 4), st.integers(2, 23), st.booleans())
def test_frozen_decoder_equals_transformers_for_any_shape(changes, rows, length, flash):
    model, limit = build(**changes), decoding._EAGER_ATTENTION_TOKENS
    assert supports(model) is None
    ids = some_ids(rows, length)
    wanted = model.model(ids).last_hidden_state
    decoding._EAGER_ATTENTION_TOKENS = 0 if flash else limit
    try:
        fast = FastDecoder(model)
        torch.testing.assert_close(fast.hidden(ids), wanted, rtol=1e-3, atol=1e-4)
        assert disagreement(fast, model, ids) is None
    finally:
        decoding._EAGER_ATTENTION_TOKENS = limit


@settings(max_examples=25, derandomize=True)
@given(
    shapes(),
    st.lists(st.integers(2, 21), min_size=1, max_size=5),
    st.sets(st.sampled_from(ALL), min_size=1),
    st.integers(1, 5),
)
def test_training_path_equals_peft_for_any_shape_and_targets(changes, lengths, targets, r):
    model = adapted(build(**changes), tuple(sorted(targets)), r)
    assert unsupported(model.get_base_model()) is None
    rows = rows_of(lengths)
    expected = alone(model, rows)
    forward = Forward(model)
    assert forward.path == "fast"
    agree(batched(model, forward, rows), expected)
    agree(batched(model, forward, rows, tokens=25), expected)


@pytest.mark.parametrize("rope", ROPES)
def test_every_kind_of_scaled_rope_beyond_the_original_length(rope):
    model = build(rope=ROPES[rope])
    assert disagreement(FastDecoder(model), model, some_ids(2, 70)) is None


@pytest.mark.parametrize("lengths", [[2], [1, 2], [5, 5, 5], [2, 40], [17, 3, 3, 29, 1]])
def test_odd_lengths_and_batches_of_one(lengths):
    model = adapted(build())
    rows = rows_of(lengths)
    scored = [r for r in rows if len(r) > 1]
    forward = Forward(model)
    batch = collate(rows, range(len(rows)), "cpu")
    losses = forward.losses(batch)
    expected, _ = alone(model, scored)
    torch.testing.assert_close(losses.detach(), torch.cat(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", ["frozen", "training"])
def test_what_stands_in_the_padding_never_matters(path):
    model, lengths = build(), torch.tensor([3, 11, 7])
    ids = some_ids(3, 11)
    beyond = torch.arange(11) >= lengths[:, None]
    if path == "frozen":
        fast = FastDecoder(model)
        one, two = (fast.hidden(ids.masked_fill(beyond, fill)) for fill in (0, V - 1))
    else:
        decoder = LoraDecoder(adapted(model).get_base_model())

        def run(filled):
            packing = Packing.of(filled, lengths)
            return packing.unpack(decoder.run(decoder.embed(filled, packing), packing))

        one, two = (run(ids.masked_fill(beyond, fill)).detach() for fill in (0, V - 1))
    assert torch.equal(one[~beyond], two[~beyond])


def test_the_gradient_of_a_row_does_not_depend_on_the_rows_beside_it():
    model, fast = build(), FastDecoder(build())
    ids = some_ids(3, 12)
    embeds = model.model.embed_tokens(ids).detach().requires_grad_()
    g = torch.randn(3, 12, 24, generator=torch.Generator().manual_seed(3))
    (together,) = torch.autograd.grad((fast.hidden(ids, embeds_BTD=embeds) * g).sum(), embeds)
    for b in range(3):
        one = embeds[b : b + 1].detach().requires_grad_()
        (single,) = torch.autograd.grad((fast.hidden(ids[b : b + 1], embeds_BTD=one) * g[b]).sum(), one)
        torch.testing.assert_close(together[b], single[0], rtol=1e-4, atol=1e-5)
    (none,) = torch.autograd.grad((fast.hidden(ids, embeds_BTD=embeds)[:, :5] * g[:, :5]).sum(), embeds)
    assert not none[:, 5:].any(), "later tokens get no gradient from earlier ones"


def test_weights_stay_shared_after_both_decoders_are_built_and_the_model_still_works():
    model = build()
    ids, wanted = some_ids(2, 9), build().model(some_ids(2, 9)).last_hidden_state
    bytes_before = sum(p.numel() for p in model.parameters())
    for _ in range(2):
        torch.testing.assert_close(FastDecoder(model).hidden(ids), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.model(ids).last_hidden_state, wanted, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in model.parameters()) == bytes_before
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(2)
    torch.testing.assert_close(FastDecoder(model).hidden(ids), model.model(ids).last_hidden_state, rtol=1e-4, atol=1e-5)


def test_an_optimizer_step_reaches_the_fast_path_at_once():
    model, rows = adapted(build()), rows_of([9, 14, 5])
    forward = Forward(model)
    batched(model, forward, rows)
    with torch.no_grad():
        for p in trainable(model).values():
            p.add_(torch.randn_like(p) * 0.2)
    agree(batched(model, forward, rows), alone(model, rows))


def test_repeated_passes_give_the_same_bits():
    model, rows = adapted(build()), rows_of([9, 14, 5, 9])
    forward = Forward(model)
    one, two = batched(model, forward, rows), batched(model, forward, rows)
    assert all(torch.equal(a, b) for a, b in zip(one[0], two[0], strict=True))
    assert all(torch.equal(one[1][n], two[1][n]) for n in one[1])


@settings(max_examples=60, derandomize=True)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 9), st.integers(0, 100))
def test_packing_is_a_bijection_of_what_is_computed(lengths, common, seed):
    rng = np.random.default_rng(seed)
    width = max(lengths)
    ids = torch.from_numpy(rng.integers(0, 3, (len(lengths), width)))
    ids[:, : min(common, width)] = 1
    lengths_B = torch.tensor(lengths)
    packing = Packing.of(ids, lengths_B)
    real = torch.arange(width) < lengths_B[:, None]
    prefix = 0
    while len(lengths) > 1 and prefix < min(lengths) and len(set(ids[:, prefix].tolist())) == 1:
        prefix += 1
    assert packing.shared == prefix
    assert len(packing.place_n) == int(real.sum()) - prefix * (len(lengths) - 1)
    x = torch.randn(len(lengths), width, 2)
    x[:, :prefix] = x[0, :prefix]
    assert torch.equal(packing.unpack(packing.pack(x))[real], x[real])
    assert torch.equal(packing.pack(ids[..., None].float())[:, 0], ids.flatten()[packing.place_n].float())
    # The two gradients are the transposes of pack and unpack on real tokens.
    packed, g = torch.randn(len(packing.place_n), 2), torch.randn(len(lengths), width, 2) * real[..., None]
    left = (packing.unpack(packed) * g).sum()
    torch.testing.assert_close(left, (packed * packing.pack_grad(g.clone())).sum(), rtol=1e-4, atol=1e-4)
    h = torch.randn(len(packing.place_n), 2)
    torch.testing.assert_close((packing.pack(x) * h).sum(), (x * packing.unpack_grad(h)).sum(), rtol=1e-4, atol=1e-4)


def test_the_pieces_backward_equal_autograd():
    torch.manual_seed(0)
    h, weight, g = torch.randn(3, 5, 8, requires_grad=True), torch.randn(8), torch.randn(3, 5, 8)
    (expected,) = torch.autograd.grad((rms_norm(h, weight, 1e-3) * g).sum(), h)
    torch.testing.assert_close(rms_norm_backward(h.detach(), weight, 1e-3, g), expected, rtol=1e-4, atol=1e-5)
    gate_up = torch.randn(3, 5, 12, requires_grad=True)
    g = torch.randn(3, 5, 6)
    (expected,) = torch.autograd.grad((swiglu(gate_up) * g).sum(), gate_up)
    act, ours = swiglu_backward(gate_up.detach(), g, True)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(act, swiglu(gate_up).detach())


REFUSED = {
    "activation": (dict(hidden_act="gelu"), "activation 'gelu' is not silu"),
    "window": (dict(family="Mistral", sliding_window=8), "sliding window 8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_decoders_do_not_know_is_named_and_still_trains_right(name):
    changes, words = REFUSED[name]
    assert supports(build(**changes)) == words
    model, rows = adapted(build(**changes)), rows_of([9, 20, 4])
    assert unsupported(model.get_base_model()) == words
    forward = Forward(model)
    assert forward.path == "fused"
    agree(batched(model, forward, rows), alone(model, rows))


@pytest.mark.parametrize("odd", ["dropout", "dora", "bias", "two adapters"])
def test_more_than_plain_lora_takes_the_slow_path(odd):
    from peft import LoraConfig, get_peft_model

    options = {"dropout": dict(lora_dropout=0.1), "dora": dict(use_dora=True), "bias": dict(lora_bias=True)}.get(
        odd, {}
    )
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], **options)
    model = get_peft_model(build(), config).eval()
    if odd == "two adapters":
        model.add_adapter("other", config)
        model.base_model.set_adapter(["default", "other"])
    assert "carries more than plain LoRA" in unsupported(model.get_base_model())


def test_each_adapter_keeps_its_own_rank_and_scale():
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=2,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj", "up_proj"],
        rank_pattern={"v_proj": 5},
        alpha_pattern={"up_proj": 1},
        use_rslora=True,
    )
    model = get_peft_model(build(), config).eval()
    with torch.no_grad():
        for p in trainable(model).values():
            p.add_(torch.randn_like(p) * 0.1)
    rows = rows_of([9, 14, 5])
    expected = alone(model, rows)
    forward = Forward(model)
    assert forward.path == "fast"
    agree(batched(model, forward, rows), expected)
