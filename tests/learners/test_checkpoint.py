"""Checkpoints and state on disk, and batches: what comes back is what went in."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.learners.tinymodel import tiny_folder

from dataworth.errors import RequestError
from dataworth.learners.adapter import adapter_config, adapter_tensors, fresh_adapter, trainable
from dataworth.learners.batching import batches, collate
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.checkpoint import read_moments, read_state, write_checkpoint, write_state
from dataworth.learners.render import Encoded
from dataworth.recipe import Recipe

pytestmark = pytest.mark.lm
HOW = Recipe(dtype="fp32", lora_r=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


def load(folder, how=HOW, **options):
    return CausalLM.load(str(folder), recipe=how, device="cpu", cache_root=folder / "cache", **options)


def stepped(folder, steps=3):
    """A learner and its optimizer after a few steps on made-up gradients."""
    learner = load(folder)
    optimizer = torch.optim.AdamW(trainable(learner.model).values(), lr=1e-2)
    torch.manual_seed(0)
    for _ in range(steps):
        for p in trainable(learner.model).values():
            p.grad = torch.randn_like(p)
        optimizer.step()
    return learner, optimizer


def test_a_checkpoint_is_an_adapter_peft_itself_can_load(folder, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    learner, optimizer = stepped(folder)
    write_checkpoint(learner, optimizer, 3, tmp_path / "c")
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "c")).eval()
    ids = torch.arange(9)[None]
    torch.testing.assert_close(theirs(ids).logits, learner.model(ids).logits)
    config = json.loads((tmp_path / "c" / "adapter_config.json").read_text())
    assert (
        config["inference_mode"] and config["r"] == 2 and sorted(config["target_modules"]) == config["target_modules"]
    )


def test_moments_are_the_optimizers_by_name(folder, tmp_path):
    learner, optimizer = stepped(folder)
    write_checkpoint(learner, optimizer, 3, tmp_path / "c")
    moments = read_moments(tmp_path / "c")
    assert moments.step == 3
    for name, p in trainable(learner.model).items():
        assert torch.equal(moments.exp_avg[name], optimizer.state[p]["exp_avg"])
        assert torch.equal(moments.exp_avg_sq[name], optimizer.state[p]["exp_avg_sq"])
    (tmp_path / "c" / "moments.safetensors").unlink()
    with pytest.raises(RequestError, match=r"has no moments\.safetensors"):
        read_moments(tmp_path / "c")


def test_the_hash_follows_adapter_moments_and_step_and_a_rewrite_keeps_it(folder, tmp_path):
    learner, optimizer = stepped(folder)
    first = write_checkpoint(learner, optimizer, 3, tmp_path / "c")
    (tmp_path / "c" / "stray").write_text("left by an interruption")
    assert write_checkpoint(learner, optimizer, 3, tmp_path / "c") == first
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "moments.safetensors",
        "origin.json",
    ]
    assert write_checkpoint(learner, optimizer, 4, tmp_path / "c") != first
    with torch.no_grad():
        next(iter(trainable(learner.model).values()))[0, 0] += 1e-3
    assert write_checkpoint(learner, optimizer, 3, tmp_path / "c") != first
    assert [p.name for p in tmp_path.iterdir()] == ["c"], "nothing aside stays behind"


def test_a_state_puts_learner_and_optimizer_back_to_the_bit(folder, tmp_path):
    learner, optimizer = stepped(folder)
    record = {"step": 3, "losses": [1.5, 0.1 + 0.2, 1e-17], "tokens": 7, "sha256": {}}
    write_state(learner, optimizer, record, tmp_path)
    other = load(folder)
    fresh = torch.optim.AdamW(trainable(other.model).values(), lr=1e-2)
    assert read_state(other, fresh, tmp_path) == record
    for _ in range(2):
        torch.manual_seed(9)
        for (name, p), q in zip(trainable(learner.model).items(), trainable(other.model).values(), strict=True):
            assert torch.equal(p, q), name
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        optimizer.step()
        fresh.step()
    assert read_state(other, fresh, tmp_path / "nowhere") is None


def test_adapter_tensors_and_config_are_plain(folder, tmp_path):
    learner, optimizer = stepped(folder)
    write_checkpoint(learner, optimizer, 1, tmp_path / "c")
    stored = load_file(tmp_path / "c" / "adapter_model.safetensors")
    tensors = adapter_tensors(learner.model)
    assert list(tensors) == sorted(tensors) and all(torch.equal(stored[n], t) for n, t in tensors.items())
    assert all(t.dtype == torch.float32 and t.is_contiguous() for t in tensors.values())
    json.dumps(adapter_config(learner.model, "base"))


def test_fresh_adapters_do_nothing_yet_and_follow_peft_in_scale(folder):
    bare, learner = load(folder, lora=False), load(folder, Recipe(dtype="fp32", lora_r=16))
    ids = torch.arange(9)[None]
    assert torch.equal(bare.model(ids).logits, learner.model(ids).logits)
    for name, p in trainable(learner.model).items():
        if "lora_B" in name:
            assert not p.any()
        else:
            bound = p.shape[1] ** -0.5
            assert p.abs().max() <= bound and float(p.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.1)


def test_an_adapters_draw_depends_on_its_own_name_only(folder):
    few = fresh_adapter(load(folder, lora=False).model, Recipe(lora_r=2, lora_targets=("v_proj",)))
    many = fresh_adapter(load(folder, lora=False).model, Recipe(lora_r=2, lora_targets=("q_proj", "v_proj", "up_proj")))
    upper = fresh_adapter(load(folder, lora=False).model, Recipe(lora_r=2, lora_targets=("v_proj",), lora_layers=1))
    for name, p in trainable(few).items():
        assert torch.equal(p, trainable(many)[name])
    assert [n for n in trainable(few) if ".layers.1." in n] == list(trainable(upper))
    draws = [p.flatten()[:4].tolist() for n, p in trainable(many).items() if "lora_A" in n]
    assert len({tuple(d) for d in draws}) == len(draws), "no two adapters start alike"


# Batches

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=25)


def rows_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Encoded(f"{i:032x}", rng.integers(1, 99, n).astype(np.int32), rng.random(n) < 0.5)
        for i, n in enumerate(lengths)
    ]


@settings(max_examples=60, derandomize=True)
@given(LENGTHS, st.integers(1, 200), st.randoms(use_true_random=False))
def test_batches_hold_every_row_once_by_content(lengths, budget, shuffler):
    rows = rows_of(lengths)
    among = sorted(shuffler.sample(range(len(rows)), shuffler.randint(1, len(rows))))
    cut = list(batches(rows, budget, "cpu", among))
    assert sorted(i for b in cut for i in b.rows) == among
    sizes = [len(rows[i]) for b in cut for i in b.rows]
    assert sizes == sorted(sizes), "shortest first"
    for batch in cut:
        assert len(batch.rows) == 1 or batch.ids_BT.numel() <= budget
        assert batch.ids_BT.shape == (len(batch.rows), max(len(rows[i]) for i in batch.rows))
        flat = batch.ids_BT.flatten()
        for b, i in enumerate(batch.rows):
            ids, n = rows[i].input_ids, len(rows[i])
            assert int(batch.lengths_B[b]) == n and batch.ids_BT[b].tolist()[:n] == ids.tolist()
            assert not batch.ids_BT[b, n:].any()
            at = [t for t in range(1, n) if rows[i].supervised[t]]
            mine = batch.row_n == b
            assert batch.target_n[mine].tolist() == ids[at].tolist() and int(batch.count_B[b]) == len(at)
            assert flat[batch.source_n[mine]].tolist() == [ids[t - 1] for t in at], "the token before predicts it"


@settings(max_examples=30, derandomize=True)
@given(LENGTHS, st.integers(1, 100), st.randoms(use_true_random=False))
def test_the_cut_follows_ids_and_lengths_and_not_the_list(lengths, budget, shuffler):
    rows = rows_of(lengths)
    moved = list(rows)
    shuffler.shuffle(moved)
    one = [[rows[i].id for i in b.rows] for b in batches(rows, budget, "cpu")]
    assert one == [[moved[i].id for i in b.rows] for b in batches(moved, budget, "cpu")]


def test_the_first_token_is_never_a_target_and_no_rows_give_no_batch():
    row = Encoded("a", np.arange(3, dtype=np.int32), np.ones(3, bool))
    batch = collate([row], [0], "cpu")
    assert batch.target_n.tolist() == [1, 2] and batch.source_n.tolist() == [0, 1]
    assert list(batches([], 10, "cpu")) == [] and list(batches([row], 10, "cpu", [])) == []
