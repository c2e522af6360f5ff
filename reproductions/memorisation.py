"""How many bits a small language model holds (Morris et al. 2025): `python -m reproductions.memorisation`.

GPT-2 of one layer and two heads is trained on whole sets of uniform random sequences (64 tokens, length 16, so that
nothing can be generalised), full batch, with Adam (betas .9 and .99), 200 steps of warm-up and a cosine to 0. A set's
size is its load: raw bits over parameters. Of every model we ask the bits that it memorised of its set, raw bits minus
code length, against the most that any model can hold of it, N (S log2 V - log2 N), and its loss on unseen sequences.

Small loads are held entirely: that checks the estimator. Large ones meet a plateau, the capacity *under this budget of
steps*: a lower bound, since it still rises with steps (`longer`). In between the test loss peaks.

fp32 and bf16 name what weights are kept in. In bf16 they are rounded after every step, up or down at random in
proportion to the distance (to the nearest, most late steps would be lost); activations and Adam's moments are fp32.

Every cell is kept in the ledger as it finishes; the same command goes on. The whole takes one quiet core about 80
minutes, the longest cell ten.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from dataworth.laws.capacity import fill, memorised_bits, most_memorised
from dataworth.numerics.ranks import mean_interval
from dataworth.results import table
from reproductions.less_fidelity import Ledger

VOCABULARY, LENGTH, HEADS = 64, 16, 2
RAW = LENGTH * math.log2(VOCABULARY)
"""Bits of a sequence."""
FULL = {"steps": 15_000, "seeds": 3, "unseen": 2000}
LISTS: dict[str, tuple[float, ...]] = {
    "widths": (8, 16),
    "loads": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
    "longer": (3.0, 9.0),
}
PRECISIONS = ("fp32", "bf16")
PLATEAU = 8.0
"""The load at which capacity is read: far enough past it, and trained soonest. It has all seeds."""
WARM_UP, RATE = 200, 0.16
"""Learning rate times width."""
Figures = dict[str, float]


@dataclass(frozen=True)
class Cell:
    """One training."""

    width: int
    load: float
    steps: int
    precision: str
    seed: int
    unseen: int

    @property
    def key(self) -> str:
        """The cell's name in the ledger."""
        return f"{self.width} {self.load:g} {self.steps} {self.precision} {self.seed} {self.unseen}"

    @property
    def parameters(self) -> int:
        """All weights, embeddings included."""
        return sum(math.prod(shape) for shape in shapes(self.width).values())

    @property
    def sequences(self) -> int:
        """Distinct sequences of the set."""
        return max(1, round(self.load * self.parameters / RAW))


def shapes(width: int) -> dict[str, tuple[int, ...]]:
    """GPT-2's weights for one layer; the output is tied to the embedding, whose last row is the beginning's token."""
    norms = {f"{name}_{part}": (width,) for name in ("norm1", "norm2", "norm") for part in ("weight", "bias")}
    maps = {"attention": (3 * width, width), "project": (width, width)}
    maps |= {"widen": (4 * width, width), "narrow": (width, 4 * width)}
    biases = {f"{name}_bias": shape[:1] for name, shape in maps.items()}
    return {"embedding": (VOCABULARY + 1, width), "position": (LENGTH, width), **norms, **maps, **biases}


def start(width: int, seed: int) -> torch.Tensor:
    """All weights as one vector, which spares a small model most of its optimizer's time."""
    random = torch.Generator().manual_seed(seed)
    parts = []
    for name, shape in shapes(width).items():
        if "norm" in name or "bias" in name:
            parts.append(torch.full(shape, float(name.endswith("weight"))))
        else:
            parts.append(0.02 * torch.randn(shape, generator=random))
    return torch.cat([part.flatten() for part in parts])


def logits(flat: torch.Tensor, width: int, tokens_NT: torch.Tensor) -> torch.Tensor:
    """Logits of every token from those before it, `[N * T, V]`."""
    known = shapes(width)
    pieces = flat.split([math.prod(shape) for shape in known.values()])
    w = {name: piece.view(shape) for (name, shape), piece in zip(known.items(), pieces, strict=True)}
    N, inner = len(tokens_NT), width // HEADS
    first = torch.full((N, 1), VOCABULARY)
    x = F.embedding(torch.cat([first, tokens_NT[:, :-1]], 1), w["embedding"]) + w["position"]
    h = F.layer_norm(x, (width,), w["norm1_weight"], w["norm1_bias"])
    qkv = F.linear(h, w["attention"], w["attention_bias"]).view(N, LENGTH, 3, HEADS, inner)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    future = torch.full((LENGTH, LENGTH), -math.inf).triu(1)
    mixed = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(inner) + future, -1) @ v
    x = x + F.linear(mixed.transpose(1, 2).reshape(N, LENGTH, width), w["project"], w["project_bias"])
    h = F.layer_norm(x, (width,), w["norm2_weight"], w["norm2_bias"])
    h = F.gelu(F.linear(h, w["widen"], w["widen_bias"]), approximate="tanh")
    x = x + F.linear(h, w["narrow"], w["narrow_bias"])
    x = F.layer_norm(x, (width,), w["norm_weight"], w["norm_bias"])
    return F.linear(x, w["embedding"][:VOCABULARY]).view(-1, VOCABULARY)


def round_bf16(flat: torch.Tensor, random: torch.Generator) -> None:
    """Round to bf16 in place, up or down at random so that the mean stays."""
    bits = flat.view(torch.int32)
    bits += torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, generator=random)
    bits &= -(1 << 16)


def nats(flat: torch.Tensor, width: int, tokens_NT: torch.Tensor) -> np.ndarray:
    """Negative log-probability of whole sequences, `[N]`, float64."""
    with torch.no_grad():
        found = F.cross_entropy(logits(flat, width, tokens_NT).double(), tokens_NT.flatten(), reduction="none")
    return found.view(len(tokens_NT), LENGTH).sum(1).numpy()


def memorised(flat: torch.Tensor, width: int, tokens_NT: torch.Tensor) -> tuple[float, float]:
    """Bits held of a set: in all, and counted by sequence as `laws.capacity` does (none below 0)."""
    target_N = nats(flat, width, tokens_NT)
    uniform_N = np.full(len(target_N), RAW * math.log(2.0))
    return float((uniform_N - target_N).sum() / math.log(2.0)), float(memorised_bits(target_N, uniform_N).sum())


def trained(cell: Cell) -> Figures:
    """Train a cell's model and measure it."""
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(1000 + cell.seed)
    tokens_NT = torch.randint(0, VOCABULARY, (cell.sequences, LENGTH), generator=random)
    unseen_NT = torch.randint(0, VOCABULARY, (cell.unseen, LENGTH), generator=random)
    flat = start(cell.width, cell.seed)
    if cell.precision == "bf16":
        round_bf16(flat, random)
    untrained, _ = memorised(flat, cell.width, tokens_NT)
    flat.requires_grad_()
    rate = RATE / cell.width
    optimizer = torch.optim.Adam([flat], lr=rate, betas=(0.9, 0.99), fused=True)
    aims = tokens_NT.flatten()
    for step in range(cell.steps):
        share = min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / cell.steps))
        optimizer.param_groups[0]["lr"] = rate * share
        optimizer.zero_grad()
        F.cross_entropy(logits(flat, cell.width, tokens_NT), aims).backward()
        optimizer.step()
        if cell.precision == "bf16":
            round_bf16(flat.data, random)
    held, by_row = memorised(flat.data, cell.width, tokens_NT)
    unseen_bits = float(nats(flat.data, cell.width, unseen_NT).mean()) / math.log(2.0) / LENGTH
    return {"untrained": untrained, "memorised": held, "by_row": by_row, "unseen_bits_per_token": unseen_bits}


def cells(args: argparse.Namespace) -> list[Cell]:
    """All cells: the loads of every model, more seeds at the plateau, and there the smallest model for longer."""
    models = [(int(width), precision) for width in args.widths for precision in PRECISIONS]
    out = [Cell(w, load, args.steps, p, 0, args.unseen) for w, p in models for load in args.loads]
    out += [Cell(w, PLATEAU, args.steps, p, seed, args.unseen) for w, p in models for seed in range(1, args.seeds)]
    steps, smallest = [round(times * args.steps) for times in args.longer], int(min(args.widths))
    return out + [Cell(smallest, PLATEAU, n, p, 0, args.unseen) for n in steps for p in PRECISIONS]


def line(cell: Cell, found: Figures) -> dict[str, Any]:
    """A cell and its figures beside what can be held of its set."""
    most, filled = most_memorised(cell.sequences, LENGTH, VOCABULARY), fill(RAW * cell.sequences, cell.parameters)
    return {
        **vars(cell),
        "sequences": cell.sequences,
        "parameters": cell.parameters,
        "raw": RAW * cell.sequences,
        "most": most,
        **found,
        "bits_per_parameter": found["memorised"] / cell.parameters,
        "zones": list(filled.zones),
    }


def curves(lines: list[dict[str, Any]], steps: int, loads: int) -> list[list[dict[str, Any]]]:
    """The lines by load, first seed, of every width and precision that has all its loads."""
    out = []
    for width, precision in sorted({(p["width"], p["precision"]) for p in lines}):
        wanted = {"width": width, "precision": precision, "steps": steps, "seed": 0}
        found = sorted((p for p in lines if wanted.items() <= p.items()), key=lambda p: p["load"])
        if len(found) == loads:
            out.append(found)
    return out


def peak(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Where the loss on unseen sequences is highest, as the set's usable bits over the plateau.

    It holds as the threshold's peak if the loss rises before it, falls after it, and it lies at 0.5 to 1.5.
    """
    losses = [p["unseen_bits_per_token"] for p in found]
    top, capacity = int(np.argmax(losses)), max(p["memorised"] for p in found)
    fills, rises = [p["most"] / capacity for p in found], np.diff(losses)
    clean = bool((rises[:top] > 0).all() and (rises[top:] < 0).all() and 0 < top < len(losses) - 1)
    at = {
        "width": found[0]["width"],
        "precision": found[0]["precision"],
        "load": found[top]["load"],
        "fill": fills[top],
        "unseen_bits_per_token": losses[top],
    }
    return {**at, "clean": clean, "holds": clean and 0.5 <= fills[top] <= 1.5}


def checks(lines: list[dict[str, Any]], steps: int, loads: int) -> dict[str, bool | None]:
    """What must hold of the figures, (a) to (e); (c) and (d) of models that have all their `loads`, None without one.

    The tests recompute them from the committed figures.
    """
    small = [p for p in lines if p["most"] < 1.5 * p["parameters"]]
    whole = curves(lines, steps, loads)
    ends = [[p["memorised"] for p in found if p["load"] in (PLATEAU, 2 * PLATEAU)] for found in whole]
    return {
        "(a) never more than can be held": all(
            p["memorised"] <= p["most"] + 1 and p["memorised"] <= 4.5 * p["parameters"] for p in lines
        ),
        "(b) small sets are held within 1 % of the most": bool(small)
        and all(abs(p["memorised"] / p["most"] - 1) <= 0.01 for p in small),
        "(c) a plateau: doubling the set changes less than 10 %": None
        if not ends
        else all(len(pair) == 2 and abs(pair[0] - pair[1]) < 0.1 * max(pair) for pair in ends),
        "(d) the loss on unseen sequences peaks at the threshold": None
        if not whole
        else all(peak(found)["holds"] for found in whole),
        "(e) an untrained model holds nothing": all(abs(p["untrained"]) < 0.01 * p["raw"] for p in lines),
    }


def capacities(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bits a parameter at the plateau by model, precision and steps; with a 95 % interval where there are seeds."""
    at = [p for p in lines if p["load"] == PLATEAU]
    out = []
    for width, precision, steps in sorted({(p["width"], p["precision"], p["steps"]) for p in at}, reverse=True):
        wanted = {"width": width, "precision": precision, "steps": steps}
        found = [p["bits_per_parameter"] for p in at if wanted.items() <= p.items()]
        interval = mean_interval(found).to_dict() if len(found) > 1 else {"value": found[0], "n": 1}
        out.append({**wanted, "bits_per_parameter": interval})
    return out


def stated(args: argparse.Namespace, missing: int) -> str:
    """What the result says of its sizes first."""
    small = [n for n, v in FULL.items() if getattr(args, n) < v]
    small += [n for n, v in LISTS.items() if not set(v) <= set(getattr(args, n))]
    small += [f"{missing} cells to come"] if missing else []
    return f"not reproduced: below the stated sizes ({', '.join(small)})" if small else "at the stated sizes"


def result_of(args: argparse.Namespace, ledger: Ledger) -> dict[str, Any]:
    """Everything that the ledger has by now."""
    wanted = cells(args)
    lines = [line(c, ledger.found[c.key]) for c in wanted if c.key in ledger.found]
    return {
        "verdict": stated(args, len(wanted) - len(lines)),
        "sizes": {n: getattr(args, n) for n in (*FULL, *LISTS)},
        "machine": platform.platform(),
        "checks": checks(lines, args.steps, len(args.loads)),
        "capacity": "measured lower bounds under this budget of steps",
        "capacities": capacities(lines),
        "peaks": [peak(found) for found in curves(lines, args.steps, len(args.loads))],
        "cells": lines,
    }


def main(arguments: list[str] | None = None) -> None:
    """Run or resume, print and write the result; it is written after every cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, default=Path("reproductions/results/memorisation.jsonl"))
    parser.add_argument("--json", action="store_true")
    for name, size in FULL.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    for name, values in LISTS.items():
        parser.add_argument(f"--{name}", type=float, nargs="+", default=list(values))
    args = parser.parse_args(arguments)
    ledger = Ledger(args.ledger)
    for cell in cells(args):
        ledger.get(cell.key, lambda cell=cell: trained(cell))
        result = result_of(args, ledger)
        args.ledger.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as lines of text."""
    rows = [
        [
            f"{p['width']} {p['precision']}",
            f"{p['steps']:,}",
            p["seed"],
            p["sequences"],
            f"{p['raw']:,.0f}",
            f"{p['most']:,.0f}",
            f"{p['memorised']:,.0f}",
            f"{p['bits_per_parameter']:.2f}",
            f"{p['unseen_bits_per_token']:.1f}",
        ]
        for p in result["cells"]
    ]
    header = ["model", "steps", "seed", "N", "raw bits", "most", "memorised", "a parameter", "unseen bits/token"]
    words = {True: "holds", False: "FAILS", None: "to come"}
    said = [f"{words[holds]}: {name}" for name, holds in result["checks"].items()]
    for c in result["capacities"]:
        b = c["bits_per_parameter"]
        band = f" [{b['low']:.2f} .. {b['high']:.2f}], {b['n']} seeds" if "low" in b else ""
        said.append(f"width {c['width']} {c['precision']}, {c['steps']:,} steps: {b['value']:.2f} bits/parameter{band}")
    for p in result["peaks"]:
        said.append(f"width {p['width']} {p['precision']}: unseen loss highest at {p['fill']:.2f} times the plateau")
    return "\n".join([result["verdict"], table(rows, header), *said, result["capacity"]])


if __name__ == "__main__":
    main()
