"""The hand-written decoder against the transformers model it stands for."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.lm

from dataworth.learners import llama as decoding  # noqa: E402
from dataworth.learners.decoder import FastDecoder, PlainDecoder, disagreement, supports  # noqa: E402

COMMON = dict(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.2,
    pad_token_id=0,
)
FAMILIES = {
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**COMMON, attention_bias=True, mlp_bias=True)
    ),
    "llama, scaled rope": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **COMMON,
            rope_parameters=dict(
                rope_type="llama3",
                rope_theta=1e4,
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=32,
            ),
        )
    ),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**COMMON)),
    "mistral": lambda: transformers.MistralForCausalLM(
        transformers.MistralConfig(**COMMON, sliding_window=None, head_dim=16)
    ),
    "tied": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**COMMON, tie_word_embeddings=True)),
}


def build(name, dtype=torch.float32):
    torch.manual_seed(0)
    model = FAMILIES[name]().eval().to(dtype)
    for key, parameter in model.named_parameters():
        if "norm" in key or key.endswith("bias"):
            torch.nn.init.normal_(parameter, mean=0.0 if "bias" in key else 1.0, std=0.3)
    return model.requires_grad_(False)


def some_ids():
    torch.manual_seed(1)
    return torch.randint(1, 97, (3, 21))


@pytest.mark.parametrize("long_rows", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_losses_and_input_gradients_equal_the_model(monkeypatch, name, long_rows):
    if long_rows:
        monkeypatch.setattr(decoding, "_EAGER_ATTENTION_TOKENS", 4)
    model = build(name)
    assert supports(model) is None
    assert disagreement(FastDecoder(model), model, some_ids()) is None


def test_hidden_states_equal_the_model_and_its_storage_is_shared():
    model = build("llama")
    wanted = model.model(some_ids()).last_hidden_state
    fast = FastDecoder(model)
    torch.testing.assert_close(fast.hidden(some_ids()), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.model(some_ids()).last_hidden_state, wanted, rtol=1e-4, atol=1e-4)
    attention = model.model.layers[0].self_attn
    assert attention.q_proj.weight.data_ptr() == fast.layers[0].qkv.weight.data_ptr()


def test_padding_on_the_right_changes_no_row():
    model = build("llama")
    fast, ids = FastDecoder(model), some_ids()
    padded = torch.nn.functional.pad(ids, (0, 9))
    torch.testing.assert_close(fast.hidden(padded)[:, :21], fast.hidden(ids), rtol=1e-5, atol=1e-5)


def test_bf16_agrees_within_its_tolerance():
    model = build("tied", torch.bfloat16)
    assert disagreement(FastDecoder(model), model, some_ids()) is None


def test_a_wrong_decoder_is_caught():
    model = build("llama")
    fast = FastDecoder(model)
    fast.norm_D = fast.norm_D * 1.01
    assert "differ from the model's own" in disagreement(fast, model, some_ids())


def test_other_families_take_the_plain_path_with_a_reason():
    config = transformers.GPTNeoXConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    model = transformers.GPTNeoXForCausalLM(config).eval().requires_grad_(False)
    assert "GPTNeoXForCausalLM is not among" in supports(model)
    assert disagreement(PlainDecoder(model), model, some_ids()) is None
    window = transformers.MistralForCausalLM(transformers.MistralConfig(**COMMON, sliding_window=8))
    assert supports(window) == "sliding window 8"
