"""Trainers of a user's own that train nothing worth the name: what they leave depends on the rows and the seed alone.

As a script it needs neither torch nor this project, and tells each call in the file that TOY_LEDGER names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path


def train(data: Path, seed: int, out: Path, lr: float = 0.0) -> None:
    told = {"lr": lr, "seed": seed, "bytes": len(data.read_bytes()), "pid": os.getpid()}
    (out / "metrics.json").write_text(json.dumps(told))


def measure(data: Path, seed: int, out: Path) -> None:
    (out / "metrics.json").write_text(json.dumps({"share": share_of_good(data) + seed / 1000}))


def share_of_good(data: Path) -> float:
    answers = [json.loads(line)["completion"].split() for line in data.read_text().splitlines()]
    return sum(len(set(words)) == 1 for words in answers) / len(answers)


def leave_adapter(data: Path, seed: int, out: Path) -> None:
    """A LoRA of rank 3 on one layer's queries."""
    import numpy as np
    from safetensors.numpy import save_file

    rng = np.random.default_rng([seed, len(data.read_bytes())])
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    shapes = {"A": (3, 32), "B": (32, 3)}
    tensors = {name.format(k): rng.normal(0, 0.2, shape).astype(np.float32) for k, shape in shapes.items()}
    out.mkdir(exist_ok=True)
    save_file(tensors, out / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 6, "target_modules": ["q_proj"]}
    (out / "adapter_config.json").write_text(json.dumps(config))


def leave_model(model: Path, seed: int, out: Path) -> None:
    """The model with one matrix changed, and no tokenizer."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.weight"] *= 1.5 + seed / 10
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    shutil.copy(model / "config.json", out)


def main() -> None:
    parser = argparse.ArgumentParser()
    for flag, kind in (("data", Path), ("out", Path), ("model", Path), ("seed", int), ("lr", float), ("epochs", int)):
        parser.add_argument(f"--{flag}", type=kind)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--leave", default="adapter")
    args = parser.parse_args()
    told = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    told |= {"sha256": hashlib.sha256(args.data.read_bytes()).hexdigest(), "rows": args.data.read_bytes().count(b"\n")}
    told |= {"found": sorted(p.name for p in args.out.iterdir()), "pid": os.getpid()}
    with Path(os.environ["TOY_LEDGER"]).open("a") as ledger:
        ledger.write(json.dumps(told) + "\n")
    print("noise on stdout")
    (args.out / "begun").write_text("")
    if os.environ.get("TOY_FAILS") == str(args.seed):
        sys.exit("no module named unheard-of")
    if os.environ.get("TOY_HANGS") == str(args.seed):
        time.sleep(60)
    if args.leave == "adapter":
        leave_adapter(args.data, args.seed, args.out)
    elif args.leave == "checkpoint":
        leave_adapter(args.data, args.seed, args.out / "checkpoint-8")
    elif args.leave == "model":
        leave_model(args.model, args.seed, args.out)
    else:
        measure(args.data, args.seed, args.out)


if __name__ == "__main__":
    main()
