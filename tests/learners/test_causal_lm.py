import json
import shutil

import pytest

pytest.importorskip("torch")

import torch
from tests.learners.tinymodel import LLAMA3, tiny_folder

from dataworth.errors import FingerprintMismatch, RequestError
from dataworth.learners.adapter import ORIGIN, trainable
from dataworth.learners.causal_lm import CausalLM, describe_learner, resolve_device
from dataworth.recipe import Recipe

pytestmark = pytest.mark.lm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


def load(folder, recipe=None, **options):
    return CausalLM.load(str(folder), recipe=recipe or Recipe(), device="cpu", cache_root=folder / "cache", **options)


def test_only_the_adapter_trains_and_it_is_fp32(folder):
    learner = load(folder, dtype="bf16")
    assert learner.card.dtype == "bf16" and next(learner.model.parameters()).dtype == torch.bfloat16
    assert all("lora_" in n and p.dtype == torch.float32 for n, p in trainable(learner.model).items())
    assert len(trainable(learner.model)) == 2 * 4 * 2 and not learner.model.training
    bare = load(folder, lora=False)
    assert not trainable(bare.model)


def test_the_fingerprint_follows_content_and_not_paths(folder, tmp_path):
    recipe = Recipe(dtype="fp32")
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    card = describe_learner(str(folder), recipe, device="cpu", cache_root=tmp_path)
    twin = describe_learner(str(copy), recipe, device="cpu", cache_root=tmp_path)
    assert card.fingerprint == twin.fingerprint == load(folder, recipe).fingerprint
    assert str(folder) not in json.dumps(card.spec)
    other_lr = describe_learner(str(folder), Recipe(dtype="fp32", lr=1e-3), device="cpu", cache_root=tmp_path)
    assert other_lr.fingerprint != card.fingerprint and other_lr.frozen_spec == card.frozen_spec
    changed = tiny_folder(tmp_path / "template", template=LLAMA3)
    assert describe_learner(str(changed), recipe, device="cpu", cache_root=tmp_path).frozen_spec != card.frozen_spec
    assert describe_learner(str(folder), recipe, device="cpu", dtype="bf16").fingerprint != card.fingerprint


def test_wrong_requests_say_what_to_do(folder):
    with pytest.raises(RequestError, match="no linear layer 'c_attn'; it has down_proj"):
        load(folder, Recipe(lora_targets=("c_attn",)))
    with pytest.raises(RequestError, match="the model has 2 layers"):
        load(folder, Recipe(lora_layers=3))
    with pytest.raises(RequestError, match="expected auto, cpu, cuda"):
        resolve_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(RequestError, match="shows 0 GPUs"):
            resolve_device("cuda:7")
    with pytest.raises(RequestError, match="lora=False"):
        load(folder, adapter=folder, lora=False)


@pytest.fixture
def adapter(folder, tmp_path):
    learner = load(folder, Recipe(lora_r=2, lora_targets=("q_proj", "up_proj")))
    with torch.no_grad():
        for p in trainable(learner.model).values():
            p.add_(0.5)
    learner.model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", learner


def test_a_users_adapter_is_loaded_as_it_is(folder, adapter):
    path, theirs = adapter
    ours = load(folder, adapter=path)
    assert set(trainable(ours.model)) == set(trainable(theirs.model))
    for name, p in trainable(theirs.model).items():
        assert torch.equal(p, trainable(ours.model)[name])


def test_an_adapter_that_does_not_fit_is_refused(folder, adapter, tmp_path):
    path, _ = adapter
    wider = tiny_folder(tmp_path / "wider", hidden_size=64)
    with pytest.raises(RequestError, match="does not fit the model"):
        load(wider, adapter=path)
    deeper = tiny_folder(tmp_path / "deeper", layers=3)
    with pytest.raises(RequestError, match="does not fit the model"):
        load(deeper, adapter=path)
    (path / ORIGIN).write_text(json.dumps({"weights_sha256": "another"}))
    with pytest.raises(FingerprintMismatch, match="other weights"):
        load(folder, adapter=path)


def test_pickled_and_foreign_adapters_are_refused(folder, adapter, tmp_path):
    path, _ = adapter
    with pytest.raises(RequestError, match=r"adapter_config\.json"):
        load(folder, adapter=tmp_path)
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
    with pytest.raises(RequestError, match="expected LoRA"):
        load(folder, adapter=path)
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")
    with pytest.raises(RequestError, match=r"adapter_model\.bin"):
        load(folder, adapter=path)
