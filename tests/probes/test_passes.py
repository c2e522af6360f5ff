"""Losses, entropies and embeddings in one forward; runners from a model folder; families without a fast path."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.lm

from tests.probes.tiny_lora import llama, make_rows, naive_gradients, with_lora  # noqa: E402

from dataworth.errors import NonsenseRefused, RequestError  # noqa: E402
from dataworth.learners.batching import batches  # noqa: E402
from dataworth.probes.adapters import merge_adapter  # noqa: E402
from dataworth.probes.model_pass import ModelPass  # noqa: E402
from dataworth.probes.opening import feature_map, scorable  # noqa: E402
from dataworth.probes.spec import FeatureSpec  # noqa: E402


def run_all(run, rows, what, tokens=10_000):
    found = {}
    for batch in batches(rows, tokens, "cpu"):
        for n, value in zip(batch.rows, what(run, batch), strict=True):
            found[n] = value.numpy()
    return np.stack([found[n] for n in range(len(rows))])


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("tokens", [1, 10_000])
def test_losses_and_entropies_of_rows(fast, tokens):
    rows, model = make_rows(), llama()
    got = run_all(ModelPass(llama(), fast=fast), rows, lambda m, b: torch.stack(tuple(vars_of(m.losses(b))), 1), tokens)
    for row, (loss, entropy) in zip(rows, got, strict=True):
        ids = torch.tensor(row.input_ids, dtype=torch.long)
        log_p = model(ids[None]).logits[0].log_softmax(-1).detach()
        at = np.flatnonzero(row.supervised)
        assert loss == pytest.approx(-log_p[at - 1, ids[at]].sum().item(), rel=1e-4)
        assert entropy == pytest.approx(-(log_p[at - 1].exp() * log_p[at - 1]).sum().item(), rel=1e-4)


def vars_of(losses):
    return losses.loss_B, losses.entropy_B


@pytest.mark.parametrize("fast", [True, False])
def test_embeddings_are_position_weighted_means(fast):
    rows, model = make_rows(), llama()
    got = run_all(ModelPass(llama(), fast=fast), rows, lambda m, b: m.embeddings(b))
    for row, vector in zip(rows, got, strict=True):
        hidden = model.model(torch.tensor(row.input_ids, dtype=torch.long)[None]).last_hidden_state[0].detach().numpy()
        np.testing.assert_allclose(
            vector, np.average(hidden, axis=0, weights=np.arange(1, len(row) + 1)), rtol=1e-3, atol=1e-4
        )


def test_rows_without_a_target_have_a_reason():
    rows = make_rows(3)
    only_first = np.zeros(len(rows[1]), bool)
    only_first[0] = True
    rows[1] = type(rows[1])(rows[1].id, rows[1].input_ids, only_first)
    kept, unscored = scorable([r.id for r in rows], rows)
    assert [r.id for r in kept] == [rows[0].id, rows[2].id]
    assert unscored == {rows[1].id: "no token of it carries loss"}


FAMILIES = {
    "gpt-neox": (
        lambda: transformers.GPTNeoXForCausalLM(
            transformers.GPTNeoXConfig(
                vocab_size=97,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
            )
        ),
        ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    ),
    "gpt2": (
        lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4)),
        ["c_attn", "c_proj", "c_fc"],
    ),
    "opt": (
        lambda: transformers.OPTForCausalLM(
            transformers.OPTConfig(
                vocab_size=97,
                hidden_size=32,
                ffn_dim=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                word_embed_proj_dim=32,
            )
        ),
        ["q_proj", "v_proj", "fc1", "fc2"],
    ),
    "phi": (
        lambda: transformers.PhiForCausalLM(
            transformers.PhiConfig(
                vocab_size=97,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
            )
        ),
        ["q_proj", "v_proj", "fc1"],
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_without_a_fast_path(name):
    build, targets = FAMILIES[name]
    torch.manual_seed(0)
    rows, adapted = make_rows(6), with_lora(build().eval(), targets)
    exact, _ = naive_gradients(adapted, rows)
    model, taps = merge_adapter(adapted)
    run = ModelPass(model, feature_map(model, taps, FeatureSpec(width=256), None))
    assert run.path == "plain" and run.reason
    got = run_all(run, rows, lambda m, b: m.gradients(b)[0])
    wanted = run.features.projection.project(exact)
    assert np.abs(got - wanted).max() / np.abs(wanted).max() < 1e-4


def test_a_head_that_scales_its_logits_is_refused():
    torch.manual_seed(0)
    config = transformers.CohereConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        logit_scale=0.1,
    )
    with pytest.raises(NonsenseRefused, match="without logit scaling"):
        ModelPass(transformers.CohereForCausalLM(config).eval().requires_grad_(False))


def test_dora_and_missing_adapters_are_refused():
    from peft import LoraConfig, get_peft_model

    dora = get_peft_model(llama(), LoraConfig(r=2, use_dora=True, target_modules=["q_proj"]))
    with pytest.raises(RequestError, match="expected one plain LoRA"):
        merge_adapter(dora)
    bare, taps = merge_adapter(llama())
    with pytest.raises(RequestError, match="no adapter"):
        feature_map(bare, taps, FeatureSpec(width=64), None)
    with pytest.raises(RequestError, match="needs exact entries"):
        FeatureSpec(kind="onesided", optimizer="adam")
    with pytest.raises(RequestError, match="needs Adam moments"):
        adapted, taps = merge_adapter(with_lora(llama()))
        feature_map(adapted, taps, FeatureSpec(width=64, optimizer="adam"), None)


def test_specs_travel_as_plain_values():
    spec = FeatureSpec(optimizer="adam", bias_correction=True, width=128)
    assert FeatureSpec.from_dict(spec.to_dict()) == spec
    assert "k" not in spec.to_dict() and "eps" not in FeatureSpec().to_dict()
    with pytest.raises(RequestError, match="unknown"):
        FeatureSpec.from_dict({"widht": 3})
