"""bergson 2.5.1 beside ours: rows a second, bytes a row, and agreement with exact full-weight cosines.

bergson's defaults for a whole model: 16 x 16 per linear. It gets length-sorted batches under the token budget that
was faster for it, the allocation of its own command line.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.gradients import BLOCK, Clock, Mode, cosines, gram, labels_of

from dataworth.learners.batching import batches
from dataworth.learners.render import Encoded

EXACT_ROWS = 20


def measure(folder: str, model_folder: str, rows: list[Encoded], ours: Mode, clock: Clock) -> dict[str, Any] | str:
    """Race bergson and `ours` (onesided, also whole-model) on the same blocks; a sentence if it can't be imported."""
    if folder:
        sys.path.append(folder)
    try:
        import bergson  # noqa: F401
        import datasets  # noqa: F401
    except ImportError as error:
        return f"skipped: {error}"
    logging.disable(logging.INFO)  # bergson names all 210 modules before every batch list
    model = _model(model_folder, "cuda" if clock.cuda else "cpu")
    ordered = sorted(rows, key=lambda r: (len(r), r.id))
    blocks = [ordered[n : n + BLOCK] for n in range(0, len(ordered), BLOCK)]
    budget = min((1024, 2048), key=lambda tokens: clock.of(lambda: _collect(model, blocks[0][:8], tokens)))
    theirs_s = ours_s = 0.0
    for block in blocks:
        theirs_s += clock.of(lambda block=block: _collect(model, block, budget))
        parts = list(batches(block, ours.chosen[0], model.device))
        ours_s += clock.of(lambda parts=parts: [ours.run(b) for b in parts])
    few = ordered[len(ordered) // 2 :][:EXACT_ROWS]
    exact = _exact(model, few)
    stored = _collect(model, few, budget)
    return {
        "rows": len(rows),
        "bergson_seconds": theirs_s,
        "ours_onesided_seconds": ours_s,
        "examples_per_second_ratio (target >= 1.5)": theirs_s / ours_s,
        "bergson_bytes_per_row": int(stored.shape[1] * stored.dtype.itemsize),
        "exact_rows": len(few),
        "bergson_pearson": _pearson(cosines(stored.astype(np.float32)), exact),
        "ours_onesided_pearson": _pearson(cosines(_ours(ours.run, few, model.device)), exact),
    }


def _model(folder: str, device: str) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device).eval()
    model.requires_grad_(False)
    model.get_input_embeddings().requires_grad_(True)  # as bergson's own set-up does
    return model


def _collect(model: Any, rows: list[Encoded], tokens: int) -> np.ndarray:
    """Features of the rows as bergson stores them."""
    from bergson.collection import collect_gradients
    from bergson.config.config import IndexConfig
    from bergson.data import load_gradients
    from bergson.gradients import GradientProcessor
    from datasets import Dataset

    columns: dict[str, list[Any]] = {"input_ids": [], "labels": [], "length": []}
    for row in rows:
        columns["input_ids"].append(row.input_ids.tolist())
        columns["labels"].append(np.where(row.supervised, row.input_ids, -100).tolist())
        columns["length"].append(len(row))
    parts = [list(b.rows) for b in batches(rows, tokens, "cpu")]
    with tempfile.TemporaryDirectory() as out:
        config = IndexConfig(run_path=str(Path(out) / "index"), projection_dim=16, token_batch_size=tokens)
        Path(config.partial_run_path).mkdir(parents=True)
        processor = GradientProcessor(projection_dim=16)
        collect_gradients(model, Dataset.from_dict(columns), processor, config, batches=parts)
        return np.array(load_gradients(config.partial_run_path))


def _exact(model: Any, rows: list[Encoded]) -> np.ndarray:
    """Cosines of unprojected gradients of all linears but the head, one row at a time, kept in bf16."""
    linears = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    kept: dict[str, list[torch.Tensor]] = {str(n): [] for n in range(len(linears))}
    for linear in linears:
        linear.weight.requires_grad_(True)
    for batch in batches(rows, 1, model.device):
        model.zero_grad()
        model(input_ids=batch.ids_BT, labels=labels_of(batch), use_cache=False).loss.backward()
        for n, linear in enumerate(linears):
            kept[str(n)].append(linear.weight.grad.flatten()[None].cpu())
    for linear in linears:
        linear.weight.requires_grad_(False)
    return gram(kept)


def _ours(run: Callable[[Any], Any], rows: list[Encoded], device: Any) -> np.ndarray:
    return np.concatenate([run(b)[0].cpu().numpy() for b in batches(rows, 2048, device)])


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    upper = np.triu_indices(len(a), 1)
    return float(np.corrcoef(a[upper], b[upper])[0, 1])
