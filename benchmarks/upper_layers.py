"""What a trial costs with adapters on the upper layers alone: `python -m benchmarks.upper_layers --json`.

The same rows are trained on and the same other rows judged, with adapters on all layers and on the uppermost
`--layers`; these once with nothing cached, and once from the hidden states that the first time left, as in every later
trial of a proof. CPU-seconds of this process (wall seconds on a GPU), rounds in rotating order. The judge losses are
printed too: what is cheaper must not be mistaken for what is as good.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.trainer import machine

from dataworth.formats import open_pool
from dataworth.judges import Trained, judge_named
from dataworth.learners.causal_lm import CausalLM
from dataworth.learners.load import find_smollm2
from dataworth.learners.trainer import train
from dataworth.recipe import Recipe
from dataworth.records import Example
from dataworth.session import first_device
from reproductions import flan


def trial(
    model: str, recipe: Recipe, rows: list[Example], judged: list[Example], states: Path | None, device: str
) -> tuple[float, float, float]:
    """Seconds of training and of judging, both with opening the model, and the judge rows' loss in nats per token."""
    with tempfile.TemporaryDirectory() as out:
        began = now(device)
        learner = CausalLM.load(model, recipe=recipe, device=device)
        encoded = [learner.renderer.encode(row) for row in rows]
        done = train(learner, encoded, out=Path(out), checkpoints=1, states=states)
        trained = now(device)
        with Trained(model, recipe, done.folders[-1], device=device, states=states) as left:
            loss = judge_named("loss")(left, judged).mean
        return trained - began, now(device) - trained, loss


def now(device: str) -> float:
    """CPU seconds of this process, or wall seconds on a GPU."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default=None, help="SmolLM2 from its package unless told")
    parser.add_argument("--layers", type=int, default=flan.UPPER)
    parser.add_argument("--rows", type=int, default=70, help="rows trained on for 2 epochs, and as many judged")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/upper-layers.json"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model, device = args.model or str(find_smollm2()), first_device(args.device)
    ways = ("all layers", "upper, nothing cached", "upper, cached")
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    losses: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as aside:
        work = Path(aside)
        per_source = -(-2 * args.rows // 7)
        pool = open_pool(
            flan.mixture(work / "flan.jsonl", per_source), mapping=dict(part.split("=") for part in flan.MAP)
        )
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0)).tolist()
        rows, judged = (
            [pool.example(n) for n in part] for part in (order[: args.rows], order[args.rows : 2 * args.rows])
        )
        CausalLM.load(model, recipe=Recipe(), device=device)  # imports, and whatever is made once
        for n in range(args.rounds):
            whole, upper = Recipe(seed=n), Recipe(seed=n, lora_layers=args.layers)
            turns: list[tuple[str, Recipe, Path | None]] = [
                (ways[0], whole, None),
                (ways[1], upper, work / f"states-{n}"),
                (ways[2], upper, work / f"states-{n}"),
            ]
            for way, recipe, states in turns if n % 2 else [*turns[1:], turns[0]]:
                training, judging, loss = trial(model, recipe, rows, judged, states, device)
                seconds[way].append((training, judging))
                losses[way].append(loss)
        about = machine(CausalLM.load(model, recipe=Recipe(), device=device))
    total = {way: sum(map(sum, found)) for way, found in seconds.items()}
    result: dict[str, Any] = {
        "benchmark": "upper_layers",
        "layers": args.layers,
        "rows": args.rows,
        "rounds": args.rounds,
        "seconds (training, judging)": seconds,
        "judge loss": losses,
        "times as fast": {way: round(total[ways[0]] / total[way], 2) for way in ways[1:]},
        **about,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [f"{way}: {times} times as fast as adapters everywhere" for way, times in result["times as fast"].items()]
    return "\n".join(lines + [f"{way}: judge loss {found}" for way, found in result["judge loss"].items()])


if __name__ == "__main__":
    main()
