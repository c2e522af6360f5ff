"""Embeddings of rows from a text encoder: sentence-transformers folders, and model2vec's static ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.learners.load import require, safetensors_only
from dataworth.store.part import Column

Work = Callable[[Sequence[str], Sequence[str]], tuple[dict[str, Column], dict[str, str]]]
SSL = "ssl"
"""The encoder that is trained on the pool's images instead of being brought."""
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_READ = ("*.safetensors", "*.json", "*.txt", "*.model")
"""What decides an encoder's vectors."""


def encoder_folder(named: str) -> Path:
    """The folder of an encoder, checked without loading it.

    Raises:
        RequestError: No such folder, or one without safetensors.
    """
    folder = Path(named).expanduser()
    if named.partition(":")[0] == SSL:
        raise RequestError(
            f"encoder {named!r} is trained on images, but these rows have none: expected a folder; name one"
        )
    if not folder.is_dir():
        raise RequestError(
            f"encoder {named!r} is not a folder here: expected a sentence-transformers or model2vec folder; correct "
            "--encoder"
        )
    if not any(folder.rglob("*.safetensors")):
        safetensors_only(folder, f"encoder {named!r}")
    for file in sorted(f for f in folder.rglob("*") if f.suffix in _PICKLED):
        safetensors_only(file.parent, f"encoder {named!r} in {file.parent.name}")
    return folder


def encoder_spec(named: str) -> dict[str, Any]:
    """What vectors are keyed by: the contents of the encoder's files."""
    folder = encoder_folder(named)
    files = sorted({f for pattern in _READ for f in folder.rglob(pattern)})
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").digest()
        total.update(file.relative_to(folder).as_posix().encode() + b"\0" + content)
    library = "model2vec" if _static(folder) else "sentence-transformers"
    require(library.replace("-", "_"), f"encoder {named!r}", extra="encoders")
    return {"files_sha256": total.hexdigest(), library: metadata.version(library)}


def open_encoder(config: dict[str, Any], device: str) -> Work:
    """Engine runner: texts in; `vector` float32 `[n, D]` (not normalised) out; texts that give zeros have none.

    Args:
        config: `folder` of the encoder.
        device: Where it runs; static encoders run on the CPU.
    """
    encode = _opened(encoder_folder(config["folder"]), device)
    width = encode(["a"]).shape[1]

    def work(ids: Sequence[str], payload: Sequence[str]) -> tuple[dict[str, Column], dict[str, str]]:
        # By length, so that rows of a batch are padded alike whatever stands beside them.
        order = sorted(range(len(ids)), key=lambda n: (len(payload[n]), ids[n]))
        vector_nD = np.zeros((len(ids), width), dtype=np.float32)
        if len(ids):
            vector_nD[order] = encode([payload[n] for n in order])
        usable_n = np.isfinite(vector_nD).all(axis=1) & vector_nD.any(axis=1)
        why = {ids[n]: "the encoder finds nothing in it" for n in np.flatnonzero(~usable_n).tolist()}
        return {"vector": vector_nD[usable_n]}, why

    return work


def _static(folder: Path) -> bool:
    """Whether an encoder is one of model2vec's, which also writes the file of sentence-transformers' modules."""
    modules = folder / "modules.json"
    return not modules.is_file() or "StaticEmbedding" in modules.read_text(encoding="utf-8")


def _opened(folder: Path, device: str) -> Callable[[list[str]], NDArray[np.float32]]:
    if not _static(folder):
        library = require("sentence_transformers", "an encoder with modules.json", extra="encoders")
        model = library.SentenceTransformer(str(folder), device=device, trust_remote_code=False)
        return lambda texts: np.asarray(model.encode(texts, show_progress_bar=False), dtype=np.float32)
    words = require("model2vec", "a static encoder", extra="encoders").StaticModel.from_pretrained(str(folder))
    return lambda texts: np.asarray(words.encode(texts, use_multiprocessing=False), dtype=np.float32)
