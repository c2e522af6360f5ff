"""Model files as they really come: shards, half downloads, adapters, pickles, conversions that were killed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file
from tests.learners.tinymodel import tiny_folder

from dataworth.errors import FingerprintMismatch, FormatError, RequestError
from dataworth.learners import load
from dataworth.learners.adapter import ORIGIN, trainable
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.load import load_tokenizer, resolve_model
from dataworth.recipe import Recipe

pytestmark = pytest.mark.lm
FP32 = Recipe(dtype="fp32", lora_r=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def opened(folder, **options):
    return CausalLM.load(str(folder), recipe=FP32, device="cpu", cache_root=folder.parent / "cache", **options)


def sharded(folder, target, shards=3):
    """The same weights over several files with an index, by hand."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    (target / "model.safetensors").unlink()
    names, where = sorted(tensors), {}
    for k in range(shards):
        file = f"model-{k + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: tensors[n] for n in names[k::shards]}
        where |= dict.fromkeys(part, file)
        save_file(part, target / file, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    return target


def test_shards_give_the_model_of_the_one_file(folder, tmp_path):
    ids = torch.arange(12)[None]
    one, many = opened(folder, lora=False), opened(sharded(folder, tmp_path / "shards"), lora=False)
    assert torch.equal(one.model(ids).logits, many.model(ids).logits)


def test_the_hash_of_shards_follows_every_shard_and_no_path(folder, tmp_path):
    shards = sharded(folder, tmp_path / "a")
    first = resolve_model(str(shards), tmp_path / "cache").weights_sha256
    each = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(shards.glob("model-*.safetensors"))]
    assert first == hashlib.sha256("\n".join(each).encode()).hexdigest(), "in name order, in every process"
    moved = shutil.copytree(shards, tmp_path / "elsewhere")
    assert resolve_model(str(moved), tmp_path / "other cache").weights_sha256 == first
    (moved / "stray.safetensors").write_bytes(b"not named in the index")
    assert resolve_model(str(moved), tmp_path / "cache").weights_sha256 == first
    for name in sorted(p.name for p in moved.glob("model-*.safetensors")):
        other = shutil.copytree(shards, tmp_path / name)
        blob = bytearray((other / name).read_bytes())
        blob[-1] ^= 1
        (other / name).write_bytes(blob)
        assert resolve_model(str(other), tmp_path / "cache").weights_sha256 != first


def test_a_missing_shard_is_named_before_anything_is_loaded(folder, tmp_path):
    shards = sharded(folder, tmp_path / "a")
    (shards / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(RequestError, match="lacks the shard model-00002-of-00003") as caught:
        opened(shards)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_the_hash_is_remembered_until_the_file_changes(copy, tmp_path):
    cache = tmp_path / "cache"
    first = resolve_model(str(copy), cache).weights_sha256
    (memo,) = (cache / "hashes").iterdir()
    assert memo.read_text() == first
    blob = bytearray((copy / "model.safetensors").read_bytes())
    blob[-1] ^= 1
    (copy / "model.safetensors").write_bytes(blob)
    os.utime(copy / "model.safetensors", ns=(1, 1))
    assert resolve_model(str(copy), cache).weights_sha256 != first
    assert not [p for p in cache.rglob("*") if p.name.startswith("tmp")], "nothing aside stays behind"


def test_touching_a_file_or_its_neighbours_changes_no_hash(copy, tmp_path):
    first = resolve_model(str(copy), tmp_path / "cache").weights_sha256
    os.utime(copy / "model.safetensors", ns=(5, 5))
    (copy / "README.md").write_text("hello")
    assert resolve_model(str(copy), tmp_path / "cache").weights_sha256 == first


BROKEN = {
    "half-downloaded weights": ("model.safetensors", lambda b: b[: len(b) // 2]),
    "empty weights": ("model.safetensors", lambda b: b""),
    "a page instead of weights": ("model.safetensors", lambda b: b"<html>404</html>" * 10),
    "half a config": ("config.json", lambda b: b[:20]),
    "an unknown architecture": ("config.json", lambda b: b.replace(b'"llama"', b'"nosuchmodel"')),
    "half a tokenizer": ("tokenizer.json", lambda b: b[: len(b) // 2]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_wrong_requests_of_one_line(copy, name):
    file, breaking = BROKEN[name]
    (copy / file).write_bytes(breaking((copy / file).read_bytes()))
    with pytest.raises(RequestError) as caught:
        opened(copy)
    assert "\n" not in str(caught.value) and str(copy) in str(caught.value)


def test_a_broken_index_is_a_wrong_request(folder, tmp_path):
    for text in ("{", '{"metadata": {}}', "[]"):
        shards = sharded(folder, tmp_path / f"i{len(text)}")
        (shards / "model.safetensors.index.json").write_text(text)
        with pytest.raises(RequestError, match=r"model\.safetensors\.index\.json"):
            resolve_model(str(shards), tmp_path / "cache")


def test_weights_that_lack_a_tensor_or_a_shape_are_refused_and_not_filled_with_random_numbers(copy, tmp_path):
    tensors = load_file(copy / "model.safetensors")
    lost = "model.layers.1.mlp.up_proj.weight"
    save_file({n: t for n, t in tensors.items() if n != lost}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(RequestError, match=f"lacks the weights {lost}"):
        opened(copy)
    save_file(tensors | {lost: tensors[lost][:3].clone()}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(RequestError, match="can't be loaded"):
        opened(copy)
    untied = tiny_folder(tmp_path / "untied", tie_word_embeddings=False)
    tensors = load_file(untied / "model.safetensors")
    tensors.pop("lm_head.weight")
    save_file(tensors, untied / "model.safetensors", {"format": "pt"})
    with pytest.raises(RequestError, match=r"lacks the weights lm_head\.weight"):
        opened(untied)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt", "x.ckpt", "x.pkl"])
def test_every_kind_of_pickle_is_refused_by_name_and_never_opened(folder, tmp_path, name):
    target = tmp_path / "m"
    shutil.copytree(folder, target)
    (target / "model.safetensors").unlink()
    (target / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(RequestError, match=f"only pickled weights \\({name.replace('.', chr(92) + '.')}\\)"):
        opened(target)


def test_a_pickle_beside_safetensors_is_not_read(copy):
    (copy / "pytorch_model.bin").write_bytes(b"rubbish")
    assert opened(copy, lora=False).model(torch.arange(4)[None]).logits.isfinite().all()


def test_remote_code_is_not_run(copy, tmp_path):
    marker = tmp_path / "ran"
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {a: f"mine.{a}" for a in ("AutoConfig", "AutoModelForCausalLM")}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "mine.py").write_text(f"open({str(marker)!r}, 'w')\n")
    with pytest.raises(RequestError):
        opened(copy)
    assert not marker.exists()


def test_a_folder_of_gguf_names_the_file_to_give(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "a.gguf").write_bytes(b"x")
    with pytest.raises(RequestError, match=r"holds no \.safetensors weights; give the file itself: .*a\.gguf"):
        resolve_model(str(tmp_path), tmp_path / "cache")


def test_a_tokenizer_without_its_fast_form_is_refused(copy):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    with pytest.raises(RequestError, match=r"tokenizer\.json"):
        load_tokenizer(copy)


# GGUF: one conversion per content, whole or not at all.


def tiny_gguf(path, seed=0, width=16):
    """A Llama of a few thousand parameters with a byte vocabulary, written with gguf's own writer."""
    gguf = pytest.importorskip("gguf")
    import numpy as np

    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(24)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *[chr(c) for c in range(33, 127)], "Ġ", "Ċ", "he"]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    half = width // 2
    shapes = {
        "token_embd": (len(tokens), width),
        "output_norm": (width,),
        "output": (len(tokens), width),
        "blk.0.attn_norm": (width,),
        "blk.0.ffn_norm": (width,),
        "blk.0.attn_q": (width, width),
        "blk.0.attn_k": (half, width),
        "blk.0.attn_v": (half, width),
        "blk.0.attn_output": (width, width),
        "blk.0.ffn_gate": (24, width),
        "blk.0.ffn_up": (24, width),
        "blk.0.ffn_down": (width, 24),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_gguf_is_converted_once_per_content(tmp_path, monkeypatch):
    model = tiny_gguf(tmp_path / "m.gguf")
    calls = []
    convert = load._convert_gguf
    monkeypatch.setattr(load, "_convert_gguf", lambda *a: (calls.append(a), convert(*a)))
    first = resolve_model(str(model), tmp_path / "cache")
    before = tree(first.folder)
    again = resolve_model(str(model), tmp_path / "cache")
    assert first == again and first.kind == "gguf" and len(calls) == 1 and tree(first.folder) == before
    moved = tmp_path / "sub"
    moved.mkdir()
    assert resolve_model(str(shutil.copy(model, moved / "m.gguf")), tmp_path / "cache").folder == first.folder
    tiny_gguf(model, seed=1)
    other = resolve_model(str(model), tmp_path / "cache")
    assert other.folder != first.folder and other.weights_sha256 != first.weights_sha256 and len(calls) == 2


def test_two_conversions_give_the_same_bytes_and_a_model_that_runs(tmp_path):
    model = tiny_gguf(tmp_path / "m.gguf")
    one, two = (resolve_model(str(model), tmp_path / c) for c in ("a", "b"))
    assert one.weights_sha256 == two.weights_sha256 and tree(one.folder) == tree(two.folder)
    assert load_file(one.folder / "model.safetensors")["model.norm.weight"].dtype == torch.float32
    learner = CausalLM.load(str(model), recipe=FP32, device="cpu", cache_root=tmp_path / "a")
    assert learner.model(torch.arange(5)[None]).logits.isfinite().all()


def test_a_conversion_killed_half_way_is_done_again(tmp_path):
    """A process that dies before the last step of a conversion leaves nothing that later counts as a model."""
    model, cache = tiny_gguf(tmp_path / "m.gguf"), tmp_path / "cache"
    script = f"""
        import os, pathlib
        from dataworth.learners import load
        from dataworth.learners.load import resolve_model
        convert = load._convert_gguf
        load._convert_gguf = lambda *a: (convert(*a), os._exit(9))
        resolve_model({str(model)!r}, pathlib.Path({str(cache)!r}))
    """
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert died.returncode == 9
    (left,) = (cache / "models").iterdir()
    assert left.name.startswith(".convert-")
    assert resolve_model(str(model), cache).weights_sha256 == resolve_model(str(model), tmp_path / "b").weights_sha256
    assert not left.exists() and len(list((cache / "models").iterdir())) == 1


def test_a_conversion_under_way_is_not_taken_for_one_left_behind(tmp_path, monkeypatch):
    """Another model is converted while a process is in the middle of converting one: both come out whole."""
    slow, quick, cache = tiny_gguf(tmp_path / "a.gguf"), tiny_gguf(tmp_path / "b.gguf", seed=1), tmp_path / "cache"
    script = f"""
        import pathlib, sys
        from dataworth.learners import load
        convert = load._convert_gguf
        def waiting(path, out):
            (out / "half").write_text("x")
            print("begun", flush=True)
            sys.stdin.readline()
            assert (out / "half").exists()
            (out / "half").unlink()
            convert(path, out)
        load._convert_gguf = waiting
        print(load.resolve_model({str(slow)!r}, pathlib.Path({str(cache)!r})).folder)
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "begun\n"
    done = resolve_model(str(quick), cache)
    said, _ = other.communicate("go\n", timeout=120)
    assert other.returncode == 0
    folders = {done.folder.name, Path(said.strip()).name}
    assert {p.name for p in (cache / "models").iterdir()} == folders and len(folders) == 2
    assert all("lock" not in {f.name for f in p.iterdir()} for p in (cache / "models").iterdir())


def test_a_conversion_that_fails_leaves_nothing(tmp_path, monkeypatch):
    model, cache = tiny_gguf(tmp_path / "m.gguf"), tmp_path / "cache"

    def full(path, out):
        (out / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(load, "_convert_gguf", full)
        with pytest.raises(OSError, match="No space"):
            resolve_model(str(model), cache)
    assert not list((cache / "models").iterdir())
    assert resolve_model(str(model), cache).kind == "gguf"


def test_the_loser_of_two_conversions_takes_the_winners(tmp_path, monkeypatch):
    model, cache = tiny_gguf(tmp_path / "m.gguf"), tmp_path / "cache"
    convert, nested = load._convert_gguf, []

    def slow(path, out):
        convert(path, out)
        if not nested:
            nested.append(None)
            nested[0] = resolve_model(str(model), cache)

    monkeypatch.setattr(load, "_convert_gguf", slow)
    assert resolve_model(str(model), cache) == nested[0]
    assert [p.name for p in (cache / "models").iterdir()] == [nested[0].folder.name]


# Adapters


@pytest.fixture
def adapter(folder, tmp_path):
    learner = opened(folder)
    with torch.no_grad():
        for p in trainable(learner.model).values():
            p.add_(0.25)
    learner.model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_given_as_model_names_the_option(adapter):
    with pytest.raises(RequestError, match=r"is an adapter: .* it as --adapter"):
        opened(adapter)


def test_a_users_adapter_without_origin_is_taken_and_with_a_wrong_one_refused(folder, adapter):
    assert trainable(opened(folder, adapter=adapter).model)
    own = opened(folder).card.source.weights_sha256
    (adapter / ORIGIN).write_text(json.dumps({"weights_sha256": own}))
    assert trainable(opened(folder, adapter=adapter).model)
    (adapter / ORIGIN).write_text(json.dumps({"weights_sha256": own[::-1]}))
    with pytest.raises(FingerprintMismatch, match="trained on other weights"):
        opened(folder, adapter=adapter)
    (adapter / ORIGIN).write_text('{"weights_sha256": ')
    with pytest.raises(FormatError, match=r"origin\.json is damaged: no JSON, .* delete it if"):
        opened(folder, adapter=adapter)


@pytest.mark.parametrize("change", [{"vocab_size": 272, "num_key_value_heads": 4}, {"hidden_size": 48}])
def test_an_adapter_of_another_shape_is_refused_by_name(adapter, tmp_path, change):
    other = tiny_folder(tmp_path / "other", **change)
    with pytest.raises(RequestError, match="does not fit the model") as caught:
        opened(other, adapter=adapter)
    assert "\n" not in str(caught.value)


ADAPTER_FAULTS = {
    "half a config": lambda a: (a / "adapter_config.json").write_text('{"peft_type": "LO'),
    "half the weights": lambda a: (a / "adapter_model.safetensors").write_bytes(b"\x10\x00\x00"),
    "weights under another name": lambda a: (a / "adapter_model.safetensors").rename(a / "other.safetensors"),
    "half an origin": lambda a: (a / ORIGIN).write_text("{"),
    "a missing tensor": lambda a: drop_tensor(a),
    "an extra tensor": lambda a: drop_tensor(a, "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"),
}


def drop_tensor(adapter, new=None):
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    last = sorted(tensors)[-1]
    tensor = tensors[last] if new else tensors.pop(last)
    save_file(tensors | ({new: tensor.clone()} if new else {}), path, {"format": "pt"})


@pytest.mark.parametrize("name", ADAPTER_FAULTS)
def test_broken_adapters_are_wrong_requests_of_one_line(folder, adapter, name):
    ADAPTER_FAULTS[name](adapter)
    with pytest.raises(RequestError) as caught:
        opened(folder, adapter=adapter)
    assert "\n" not in str(caught.value) and "adapter" in str(caught.value)
