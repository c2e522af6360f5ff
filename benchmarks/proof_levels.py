"""Levels of proofs on made-up spreads: `python -m benchmarks.proof_levels` (about a minute, seed 0, fixed sizes).

Printed: false verdicts of equal arms with one look and with three, for arms that scatter unlike and for several
comparisons; of a fixed subset noisier than random draws; of an arbitrary subset under either claim; what a proof of two
predictions detects by one random draw a seed and by more; and how often worth's 90 % set holds the truth.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from dataworth.laws.worth import RandomCurve, worth
from dataworth.proof.arms import RANDOM_DRAWS
from dataworth.proof.contrast import NOT_SHOWN, contrast, decide, detectable
from dataworth.proof.looks import looks_at
from dataworth.proof.verdict import Rules

SIZES = np.array([100.0, 200.0, 400.0, 800.0, 1600.0])


def false_rate(
    ratio: float, comparisons: int, seeds: tuple[int, ...], claim: Any, proofs: int, draws: int = 1
) -> float:
    """Share of single comparisons called different, times the comparisons; nominally 0.05 (Bonferroni).

    `ratio` is the subject's sd over the comparator's, of which there are `draws` trials a seed.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, ratio, (proofs, seeds[-1])), rng.normal(0, 1, (proofs, draws * seeds[-1]))
    alpha = Rules(looks_at(seeds), comparisons).alpha
    called = [decide(contrast(x[:, :n], y[:, : n * draws], claim), alpha) != NOT_SHOWN for n in seeds]
    return float(np.any(called, axis=0).mean()) * comparisons


def one_subset_rate(training: float, claim: Any, proofs: int) -> float:
    """False verdicts on one arbitrary subset, trained five times, against draws; training noise in sds of a draw."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((proofs, 1)) + training * rng.standard_normal((proofs, 5))
    y = np.hypot(1, training) * rng.standard_normal((proofs, 5 * RANDOM_DRAWS))
    return float((decide(contrast(x, y, claim), Rules(looks_at((5,))).alpha) != NOT_SHOWN).mean())


def worth_rate(chains: int, proofs: int) -> float:
    """Share of 90 % sets of worth that hold the truth: cost 1 + 4 n^-1/2, sd 0.007 of a trial, five seeds."""
    rng, held = np.random.default_rng(chains), 0
    for _ in range(proofs):
        true = float(np.exp(rng.uniform(np.log(120), np.log(1400))))
        costs = 1 + 4 * SIZES**-0.5 + 0.005 * rng.standard_normal((chains, 1))
        curve = RandomCurve(SIZES, costs + 0.005 * rng.standard_normal((chains, len(SIZES))))
        held += worth(1 + 4 * true**-0.5 + 0.007 * rng.standard_normal(5), curve).covers(true)
    return held / proofs


def main(arguments: list[str] | None = None) -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proofs", type=int, default=200_000)
    parser.add_argument("--curves", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/proof_levels.json"))
    args = parser.parse_args(arguments)
    found: dict[str, Any] = {"proofs": args.proofs, "curves": args.curves, "false verdicts": {}, "worth covers": {}}
    for seeds in ((5,), (3, 5, 8)):
        for ratio in (1.0, 2.0, 4.0):
            for comparisons in (1, 6):
                key = f"looks {seeds}, sd ratio {ratio:g}, {comparisons} comparisons"
                found["false verdicts"][key] = false_rate(ratio, comparisons, seeds, "means", args.proofs)
        for ratio in (0.25, 1.0, 2.0, 4.0):
            key = f"looks {seeds}, sd ratio {ratio:g}, 6 predictions"
            found["false verdicts"][key] = false_rate(ratio, 6, seeds, "prediction", args.proofs, RANDOM_DRAWS)
        key = f"looks {seeds}, sd ratio 2, 6 comparisons, with twice as many draws as a proof takes for means"
        found["false verdicts"][key] = false_rate(2.0, 6, seeds, "means", args.proofs, 2)
    for claim in ("means", "prediction"):
        for training in (0.2, 0.5, 1.0):
            key = f"one arbitrary subset as {claim}, training noise {training:g} of a draw's sd"
            found["false verdicts"][key] = one_subset_rate(training, claim, args.proofs)
    found["detectable, in sds of a draw"] = {
        f"{n} seeds, {draws} draws a seed": round(detectable(0.3, 1.0, n, n * draws, "prediction", alpha=0.025), 2)
        for n in (3, 5, 8)
        for draws in (1, RANDOM_DRAWS)
    }
    for chains in (3, 5, 10):
        found["worth covers"][f"{chains} chains"] = worth_rate(chains, args.curves)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
