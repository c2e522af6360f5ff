"""A causal language model as a learner: frozen weights, a LoRA adapter, a renderer, and the fingerprint of it all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dataworth.errors import RequestError
from dataworth.learners.adapter import attach_adapter, fresh_adapter
from dataworth.learners.load import ModelSource, gpu_count, load_tokenizer, require, resolve_model
from dataworth.learners.render import Renderer
from dataworth.recipe import Recipe
from dataworth.store.fingerprint import fingerprint
from dataworth.store.json_files import read_json

_VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "_attn_implementation")


@dataclass(frozen=True)
class LearnerCard:
    """A learner before its weights are loaded. `dtype` is bf16 or fp32."""

    source: ModelSource
    recipe: Recipe
    renderer: Renderer
    dtype: str

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's own config.json.

        Raises:
            FormatError: It is damaged.
        """
        folder = self.source.folder
        again = "delete the folder to convert it again" if self.source.kind == "gguf" else "download the model again"
        return read_json(folder / "config.json", again)

    @cached_property
    def frozen_spec(self) -> dict[str, Any]:
        """What decides a forward pass of the untouched model: not the recipe's training half, not paths or dates."""
        kept = json.dumps({k: v for k, v in self.config.items() if k not in _VOLATILE}, sort_keys=True)
        return {
            "weights_sha256": self.source.weights_sha256,
            "config_sha256": hashlib.sha256(kept.encode()).hexdigest(),
            "renderer": self.renderer.spec,
            "dtype": self.dtype,
            "torch": minor_version("torch"),
            "transformers": minor_version("transformers"),
        }

    @cached_property
    def lead(self) -> int:
        """The token that begins a text: BOS, or the end-of-text token of a tokenizer without one.

        Raises:
            RequestError: The tokenizer has neither.
        """
        tokenizer = load_tokenizer(self.source.folder)
        found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if found is None:
            raise RequestError(
                f"model {self.source.model!r} has neither a BOS nor an EOS token: expected one to begin a response "
                "without its prompt; use another method"
            )
        return int(found)

    @property
    def lora_spec(self) -> dict[str, Any]:
        """The adapter's shape."""
        return {k: v for k, v in self.recipe.to_dict().items() if k.startswith("lora_")}

    @property
    def spec(self) -> dict[str, Any]:
        """Everything selection is relative to."""
        return {**self.frozen_spec, "recipe": self.recipe.to_dict()}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the spec."""
        return fingerprint(self.spec)


class CausalLM:
    """A loaded learner.

    `model` is the PEFT model (base weights frozen in `card.dtype`, adapter in fp32), or the bare model where it was
    loaded without one; `device` is where it lives.
    """

    def __init__(self, card: LearnerCard, model: Any, device: Any) -> None:
        self.card = card
        self.model = model
        self.device = device

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return self.card.recipe

    @property
    def renderer(self) -> Renderer:
        """Rows to tokens and masks."""
        return self.card.renderer

    @property
    def spec(self) -> dict[str, Any]:
        """Everything selection is relative to."""
        return self.card.spec

    @property
    def fingerprint(self) -> str:
        """sha256 of the spec."""
        return self.card.fingerprint

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return load_tokenizer(self.card.source.folder)

    @classmethod
    def load(
        cls,
        model: str,
        *,
        recipe: Recipe | None = None,
        device: str = "auto",
        dtype: str | None = None,
        adapter: Path | str | None = None,
        lora: bool = True,
        cache_root: Path | None = None,
    ) -> CausalLM:
        """Load weights and put the recipe's fresh adapter on them, or the given one.

        Args:
            model: Local folder, `.gguf` file or hub id.
            recipe: How it is trained; the defaults if None.
            device: auto, cpu, cuda or cuda:N.
            dtype: bf16 or fp32; the recipe's if None.
            adapter: A folder with a LoRA adapter in safetensors.
            lora: False leaves the model bare (an `adapter` is then refused).
            cache_root: Where converted models are kept.

        Raises:
            RequestError: Anything that can't be loaded safely, or that doesn't fit together.
        """
        if adapter is not None and not lora:
            raise RequestError(f"adapter {adapter} was given with lora=False: expected one or the other; drop one")
        card = describe_learner(model, recipe or Recipe(), device=device, dtype=dtype, cache_root=cache_root)
        place = resolve_device(device)
        base = _load_weights(card).to(place)
        base.requires_grad_(False)
        base.config.use_cache = False
        if adapter is not None:
            base = attach_adapter(base, Path(adapter), card.source.weights_sha256)
        elif lora:
            base = fresh_adapter(base, card.recipe)
        return cls(card, base.eval(), place)


def describe_learner(
    model: str,
    recipe: Recipe,
    *,
    device: str = "auto",
    dtype: str | None = None,
    cache_root: Path | None = None,
) -> LearnerCard:
    """Find the model and its renderer without loading weights.

    Raises:
        RequestError: The model, its tokenizer or the device isn't there.
    """
    source = resolve_model(model, cache_root)
    renderer = Renderer(load_tokenizer(source.folder), recipe.mask_like, recipe.max_length)
    asked = dtype or recipe.dtype
    return LearnerCard(source, recipe, renderer, fast_dtype(resolve_device(device)) if asked == "auto" else asked)


def resolve_device(device: str) -> Any:
    """The torch device behind auto, cpu, cuda or cuda:N.

    Raises:
        RequestError: An unknown word, or a GPU this machine doesn't show.
    """
    torch = require("torch", "running a model")
    if device == "auto":
        return torch.device("cuda:0" if gpu_count() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        place = None
    if place is None or place.type not in ("cpu", "cuda"):
        raise RequestError(f"device {device!r}: expected auto, cpu, cuda or cuda:N; correct --device")
    if place.type == "cuda" and (place.index or 0) >= gpu_count():
        raise RequestError(f"device {device!r}: this machine shows {gpu_count()} GPUs; use --device cpu")
    return torch.device("cuda:0") if device == "cuda" else place


def fast_dtype(device: Any) -> str:
    """bf16 where the machine has instructions for it (CUDA from Ampere on; CPUs with AVX512-BF16 or AMX), else fp32."""
    torch = require("torch", "running a model")
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp32"
    from dataworth.learners.products import has_bf16

    return "bf16" if has_bf16() else "fp32"


def _load_weights(card: LearnerCard) -> Any:
    torch, transformers = require("torch", "running a model"), require("transformers", "running a model")
    broken = require("safetensors", "running a model").SafetensorError
    folder = card.source.folder
    transformers.utils.logging.disable_progress_bar()
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=torch.bfloat16 if card.dtype == "bf16" else torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, broken) as error:
        first = str(error).strip().splitlines()[0]
        raise RequestError(
            f"model {card.source.model!r} can't be loaded: {first}; expected a causal LM without remote code, whole"
        ) from error
    if info["missing_keys"]:  # transformers would fill them with random numbers
        raise RequestError(
            f"model {card.source.model!r} lacks the weights {min(info['missing_keys'])}: expected all of them; "
            "download it again"
        )
    return model.eval()


def minor_version(package: str) -> str:
    """Major and minor version of a package that running a model needs."""
    version = str(require(package, "running a model").__version__)
    return ".".join(version.split(".")[:2])
