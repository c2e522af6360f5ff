"""What repeats are worth beside fresh data (Muennighoff et al. 2023): `python -m reproductions.repeated_epochs`.

The source is a hidden Markov model, so fresh sequences never end and the loss of the best possible predictor is known.
The learner is the small GPT-2 of `reproductions.memorisation`. All runs of one total see as many tokens in as many
steps; they differ in how many of them are different: all (one epoch), or a part, repeated. Within a seed the smaller
sets are the beginnings of the larger ones.

The law of effective data is fitted to held-out losses: R*, with an interval over seeds. What it predicts of the largest
total, which a second fit doesn't see, is compared with what was measured, beside three fixed R*: that of C4, repeats as
good as fresh data, and repeats worth nothing (each with the other three numbers of the law fitted as well).

Every run is kept in the ledger as it finishes; the same command goes on. One quiet core takes about 12 minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from dataworth.laws.power import fit_power
from dataworth.laws.repeated import C4_R_STAR, effective_data, fit_repetition
from dataworth.laws.spread import over_chains
from dataworth.numerics.ranks import mean_interval
from dataworth.results import table
from reproductions.less_fidelity import Ledger
from reproductions.memorisation import LENGTH, VOCABULARY, logits, nats, start

FULL = {"seeds": 5, "width": 32, "unseen": 2000}
LISTS = {"totals": (5_000, 10_000, 20_000, 40_000, 80_000), "epochs": (1, 2, 4, 8, 16, 32)}
"""Sequences seen in all, and how often each."""
STATES, SPARSE, BATCH, RATE = 64, 0.02, 16, 3e-3
FIXED = {"C4's": C4_R_STAR, "as good as fresh": 1e6, "worth nothing": 1e-3}
"""R* of those who don't fit it."""
LEVEL = 0.95
Run = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A hidden Markov model of 64 states and 64 tokens; few of either are likely after a state."""

    seed: int = 0

    @cached_property
    def tables(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities of the next state and of the token by state, `[64, 64]` each."""
        rng = np.random.default_rng([self.seed, 0])
        return rng.dirichlet(np.full(STATES, SPARSE), STATES), rng.dirichlet(np.full(VOCABULARY, SPARSE), STATES)

    def sequences(self, n: int, seed: int) -> NDArray[np.int64]:
        """The first `n` of a seed's sequences, `[n, 16]`; the state before the first is any."""
        moves, says = (np.cumsum(t, axis=1) for t in self.tables)
        # A row of uniform numbers a sequence, so that fewer sequences are the beginning of more.
        chance = np.random.default_rng([self.seed, 1 + seed]).random((n, 1 + 2 * LENGTH))
        state_N, out = (chance[:, 0] * STATES).astype(int), np.empty((n, LENGTH), dtype=np.int64)
        for t in range(LENGTH):
            state_N = _drawn(moves[state_N], chance[:, 1 + 2 * t])
            out[:, t] = _drawn(says[state_N], chance[:, 2 + 2 * t])
        return out

    def floor(self, tokens_NT: NDArray[np.int64]) -> float:
        """Nats a token of the best predictor there is, which knows the tables: the forward algorithm."""
        moves, says = self.tables
        belief_NH, total = np.full((len(tokens_NT), STATES), 1.0 / STATES), 0.0
        for t in range(tokens_NT.shape[1]):
            joint_NH = (belief_NH @ moves) * says[:, tokens_NT[:, t]].T
            seen_N = joint_NH.sum(axis=1)
            total -= float(np.log(seen_N).sum())
            belief_NH = joint_NH / seen_N[:, None]
        return total / tokens_NT.size


def _drawn(cumulative_NX: NDArray[np.float64], chance_N: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((cumulative_NX < chance_N[:, None]).sum(axis=1), cumulative_NX.shape[1] - 1)


@lru_cache(maxsize=1)
def unseen(n: int) -> torch.Tensor:
    """Sequences that no run trains on."""
    return torch.from_numpy(Source().sequences(n, 1_000_000))


@dataclass(frozen=True)
class Cell:
    """One run: `total` sequences seen, each of the first `total / epochs` of its seed `epochs` times."""

    total: int
    epochs: int
    seed: int
    width: int
    unseen: int

    @property
    def key(self) -> str:
        """The run's name in the ledger."""
        return f"{self.total} {self.epochs} {self.seed} {self.width} {self.unseen}"

    @property
    def unique(self) -> int:
        """Different sequences."""
        return self.total // self.epochs


def trained(cell: Cell) -> dict[str, float]:
    """Losses in nats a token after training: on unseen sequences and on (at most as many of) its own."""
    torch.set_num_threads(1)
    tokens_NT = torch.from_numpy(Source().sequences(cell.unique, cell.seed))
    random = torch.Generator().manual_seed(cell.seed)
    order = torch.cat([torch.randperm(cell.unique, generator=random) for _ in range(cell.epochs)])
    flat = start(cell.width, cell.seed).requires_grad_()
    optimizer = torch.optim.Adam([flat], lr=RATE, betas=(0.9, 0.99), fused=True)
    batches = order.split(BATCH)
    for step, rows in enumerate(batches):
        # A twentieth of warm-up, then a cosine to 0.
        share = min(1.0, 20 * (step + 1) / len(batches)) * 0.5 * (1 + math.cos(math.pi * step / len(batches)))
        optimizer.param_groups[0]["lr"] = RATE * share
        optimizer.zero_grad()
        batch = tokens_NT[rows]
        F.cross_entropy(logits(flat, cell.width, batch), batch.flatten()).backward()
        optimizer.step()
    own, others = (
        float(nats(flat.data, cell.width, rows).mean()) / LENGTH
        for rows in (tokens_NT[: cell.unseen], unseen(cell.unseen))
    )
    return {"loss": others, "train_loss": own}


def cells(args: argparse.Namespace) -> list[Cell]:
    """All runs, one seed after another."""
    grid = [(total, epochs) for total in args.totals for epochs in args.epochs]
    return [Cell(*pair, seed, args.width, args.unseen) for seed in range(args.seeds) for pair in grid]


def columns(runs: list[Run]) -> tuple[list[float], list[float], list[float]]:
    """Epochs, unique sequences and losses."""
    return [p["epochs"] for p in runs], [p["unique"] for p in runs], [p["loss"] for p in runs]


def r_star(runs: list[Run]) -> dict[str, float]:
    """R* of all runs; with two seeds and more its interval, from the seeds' own in logs."""
    seeds = sorted({p["seed"] for p in runs})
    whole, *by_seed = (
        fit_repetition(*columns([p for p in runs if p["seed"] in some])).r_star
        for some in (seeds, *([s] for s in seeds))
    )
    if len(seeds) < 2:
        return {"value": whole, "n": 1}
    found = over_chains(math.log(whole), np.log(by_seed).tolist(), LEVEL).to_dict()
    return {**found, **{name: math.exp(found[name]) for name in ("value", "low", "high")}}


def up_to(runs: list[Run]) -> list[dict[str, Any]]:
    """R* of the runs of at most so many epochs: one number for all of them only as far as the law holds."""
    most = sorted({p["epochs"] for p in runs if p["epochs"] > 1})
    return [{"epochs": e, "r_star": r_star([p for p in runs if p["epochs"] <= e])} for e in most]


def held_out(runs: list[Run]) -> dict[str, Any]:
    """The largest total as predicted from the smaller ones, with R* fitted and with each fixed one.

    `error` is the mean absolute error of the log of the loss over its cells, of means over seeds, in percent.
    """
    largest = max(p["total"] for p in runs)
    seen, new = [p for p in runs if p["total"] < largest], [p for p in runs if p["total"] == largest]
    epochs, unique, loss = columns(seen)
    fitted = fit_repetition(epochs, unique, loss)
    laws: dict[str, tuple[Any, float]] = {"fitted": (fitted.law, fitted.r_star)}
    for name, fixed in FIXED.items():
        effective = [effective_data(u, e, fixed) for u, e in zip(unique, epochs, strict=True)]
        laws[name] = (fit_power(effective, loss), fixed)
    lines = []
    for repeats in sorted({p["epochs"] for p in new}):
        measured = [p["loss"] for p in new if p["epochs"] == repeats]
        said = {name: law.at(effective_data(largest / repeats, repeats, r)) for name, (law, r) in laws.items()}
        lines.append({"epochs": repeats, "measured": float(np.mean(measured)), **said})
    errors = {n: 100 * float(np.mean([abs(math.log(p[n] / p["measured"])) for p in lines])) for n in laws}
    return {"total": largest, "r_star": fitted.r_star, "lines": lines, "error": errors}


def beside_fresh(runs: list[Run]) -> list[dict[str, Any]]:
    """Loss of repeats minus that of fresh data at equal tokens, paired by seed, for each total and epochs."""
    fresh = {(p["total"], p["seed"]): p["loss"] for p in runs if p["epochs"] == 1}
    out = []
    for total, epochs in sorted({(p["total"], p["epochs"]) for p in runs if p["epochs"] > 1}):
        gaps = [p["loss"] - fresh[total, p["seed"]] for p in runs if (p["total"], p["epochs"]) == (total, epochs)]
        gap = mean_interval(gaps, level=LEVEL).to_dict() if len(gaps) > 1 else {"value": gaps[0], "n": 1}
        out.append({"total": total, "epochs": epochs, "gap": gap})
    return out


def harmful(runs: list[Run]) -> list[dict[str, int]]:
    """Where going on with the same data made the loss worse, in the mean over seeds: there the law can't hold."""
    means: dict[tuple[int, int], list[float]] = {}
    for p in runs:
        means.setdefault((p["unique"], p["epochs"]), []).append(p["loss"])
    out = []
    for (unique, epochs), losses in sorted(means.items()):
        fewer = [e for u, e in means if u == unique and e < epochs]
        if fewer and np.mean(losses) > np.mean(means[unique, max(fewer)]):
            out.append({"unique": unique, "epochs": epochs})
    return out


def summary(runs: list[Run]) -> dict[str, Any]:
    """What follows from the runs; the tests recompute it from the committed ones."""
    fitted = fit_repetition(*columns(runs))
    residuals = [math.log(p["loss"] / fitted.at(p["unique"], p["epochs"])) for p in runs]
    return {
        "r_star": r_star(runs),
        "r_star_up_to": up_to(runs),
        "law": fitted.law.to_dict(),
        "misfit": 100 * float(np.sqrt(np.mean(np.square(residuals)))),
        "held_out": held_out(runs),
        "beside_fresh": beside_fresh(runs),
        "harmful": harmful(runs),
    }


def stated(args: argparse.Namespace, missing: int) -> str:
    """What the result says of its sizes first."""
    small = [n for n, v in FULL.items() if getattr(args, n) < v]
    small += [n for n, v in LISTS.items() if not set(v) <= set(getattr(args, n))]
    small += [f"{missing} runs to come"] if missing else []
    return f"not reproduced: below the stated sizes ({', '.join(small)})" if small else "at the stated sizes"


def main(arguments: list[str] | None = None) -> None:
    """Run or resume, print and write the result; it is written after every whole seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, default=Path("reproductions/results/repeated_epochs.jsonl"))
    parser.add_argument("--json", action="store_true")
    for name, size in FULL.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    for name, values in LISTS.items():
        parser.add_argument(f"--{name}", type=int, nargs="+", default=list(values))
    args = parser.parse_args(arguments)
    ledger, wanted, runs = Ledger(args.ledger), cells(args), []
    a_seed = len(wanted) // args.seeds
    for cell in wanted:
        found = ledger.get(cell.key, lambda cell=cell: trained(cell))
        runs.append({**vars(cell), "unique": cell.unique, **found})
        if len(runs) % a_seed == 0:
            result = {
                "verdict": stated(args, len(wanted) - len(runs)),
                "sizes": {n: getattr(args, n) for n in (*FULL, *LISTS)},
                "machine": platform.platform(),
                "floor": Source().floor(unseen(args.unseen).numpy()),
                **summary(runs),
                "runs": runs,
            }
            args.ledger.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as lines of text."""
    r, law, held = result["r_star"], result["law"], result["held_out"]
    rows = []
    for total in sorted({p["total"] for p in result["runs"]}):
        by_epochs = {}
        for p in result["runs"]:
            if p["total"] == total:
                by_epochs.setdefault(p["epochs"], []).append(p["loss"])
        rows.append([f"{total:,}", *(f"{np.mean(by_epochs[e]):.4f}" for e in sorted(by_epochs))])
    epochs = sorted({p["epochs"] for p in result["runs"]})
    names = [n for n in held["lines"][0] if n != "epochs"]
    told = [[p["epochs"], *(f"{p[n]:.4f}" for n in names)] for p in held["lines"]]
    band = f" [{r['low']:.2f} .. {r['high']:.2f}]" if "low" in r else ""
    hurt = ", ".join(f"{p['unique']:,} x {p['epochs']}" for p in result["harmful"]) or "nowhere"
    return "\n".join(
        [
            result["verdict"],
            f"nats a token on unseen sequences (the best predictor: {result['floor']:.4f}); columns are epochs:",
            table(rows, ["sequences seen", *map(str, epochs)]),
            f"R* {r['value']:.2f}{band}, {r['n']} seeds (C4: {C4_R_STAR:.1f}); "
            f"loss = {law['E']:.4f} + {law['B']:.3g} D'^-{law['beta']:.3f}, misfit {result['misfit']:.2f} %",
            "R* of the runs of at most so many epochs: "
            + ", ".join(f"{u['epochs']}: {u['r_star']['value']:.1f}" for u in result["r_star_up_to"]),
            f"{held['total']:,} sequences, held out (R* {held['r_star']:.2f} by the smaller ones):",
            table(told, ["epochs", *names]),
            "mean error in %: " + ", ".join(f"{n} {e:.2f}" for n, e in held["error"].items()),
            f"more epochs on the same data made it worse at: {hurt}",
        ]
    )


if __name__ == "__main__":
    main()
