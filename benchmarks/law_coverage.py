"""Do the intervals of learning curves cover? Simulated chains, asked at 2 and 10 times the largest size.

    python -m benchmarks.law_coverage --curves 120 --json

Six doubling sizes, three laws in turn, 2 % log-noise, either independent from run to run or half of it shared along a
nested chain (correlation sqrt(D1/D2)). Printed for each design: how often the nominal 90 % interval holds the true loss
and its median width over the loss, for the library's interval and for two others that were tried; how often `predict`
refuses, and how well it covers where it speaks.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any

import numpy as np
from benchmarks.pools import machine
from scipy import stats

from dataworth.laws.clean import runs_of
from dataworth.laws.curve import Curve, fit_curve
from dataworth.laws.power import PowerLaw, fit_power

LAWS = (PowerLaw(0.3, 8.0, 0.45), PowerLaw(1.8, 3.0, 0.3), PowerLaw(0.8, 20.0, 0.7))
NOISE, LEVEL = 0.02, 0.9


def losses(law: PowerLaw, sizes_K: np.ndarray, chains: int, noise: str, rng: np.random.Generator) -> np.ndarray:
    """Losses of simulated chains, [C, K]."""
    own = rng.standard_normal((chains, len(sizes_K)))
    if noise == "nested":
        x = np.log(sizes_K)
        shared = rng.multivariate_normal(np.zeros(len(x)), np.exp(-np.abs(x[:, None] - x) / 2), chains)
        own = math.sqrt(0.5) * (own + shared)
    return law.at(sizes_K) * np.exp(NOISE * own)


def others(curve: Curve, D: float) -> dict[str, tuple[float, float]]:
    """Intervals of the log loss at `D` that were tried: t about the mean of the chains' fits, and the jackknife."""
    C, t = curve.chains, float(stats.t.ppf((1 + LEVEL) / 2, curve.chains - 1))
    own = np.log([fit_power(curve.sizes_K, row, start=curve.law).at(D) for row in curve.loss_CK])
    half = t * own.std(ddof=1) / math.sqrt(C)
    without = [
        fit_power(*runs_of(curve.sizes_K, np.delete(curve.loss_CK, c, axis=0)), start=curve.law).at(D) for c in range(C)
    ]
    pooled = math.log(curve.law.at(D))
    jack = t * math.sqrt((C - 1) / C * ((np.log(without) - pooled) ** 2).sum())
    return {"chain_mean": (own.mean() - half, own.mean() + half), "jackknife": (pooled - jack, pooled + jack)}


def design(chains: int, noise: str, curves: int, sizes: int, seed: int, *, with_others: bool = True) -> dict[str, Any]:
    """Coverage, widths and refusals of one design; of the other intervals too, unless told."""
    rng = np.random.default_rng(seed)
    sizes_K = 125 * 2.0 ** np.arange(sizes)
    found: dict[str, list[tuple[bool, float]]] = {}
    spoken: dict[str, list[bool]] = {"2x": [], "10x": []}
    seconds = 0.0
    for i in range(curves):
        law = LAWS[i % len(LAWS)]
        loss_CK = losses(law, sizes_K, chains, noise, rng)
        started = time.process_time()
        curve = fit_curve(sizes_K, loss_CK)
        answers = {f"{k}x": curve.predict(k * sizes_K[-1], LEVEL) for k in (2, 10)}
        seconds += time.process_time() - started
        for name, answer in answers.items():
            true, band = law.at(answer.asked), curve.band(answer.asked, LEVEL)
            ways = {"shipped": (math.log(band.low), math.log(band.high))}
            if with_others:
                ways |= others(curve, answer.asked)
            for way, (low, high) in ways.items():
                found.setdefault(f"{name} {way}", []).append(
                    (low <= math.log(true) <= high, math.exp(high) - math.exp(low))
                )
                found[f"{name} {way}"][-1] = (found[f"{name} {way}"][-1][0], found[f"{name} {way}"][-1][1] / true)
            if not answer.refusal:
                spoken[name].append(answer.low <= true <= answer.high)
    return {
        "chains": chains,
        "sizes": sizes,
        "noise": noise,
        "curves": curves,
        "cpu_seconds_per_curve": round(seconds / curves, 3),
        "coverage": {k: round(float(np.mean([c for c, _ in v])), 3) for k, v in found.items()},
        "median_width": {k: round(float(np.median([w for _, w in v])), 3) for k, v in found.items()},
        "refused": {k: round(1 - len(v) / curves, 3) for k, v in spoken.items()},
        "coverage_where_it_speaks": {k: round(float(np.mean(v)), 3) if v else None for k, v in spoken.items()},
    }


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=120)
    parser.add_argument("--chains", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--noise", nargs="+", default=["independent", "nested"], choices=["independent", "nested"])
    parser.add_argument("--sizes", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="unused: nothing here runs a model")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    designs = [design(c, n, args.curves, args.sizes, args.seed) for c in args.chains for n in args.noise]
    result = {"level": LEVEL, "log_noise": NOISE, "designs": designs, "machine": machine()}
    if args.json:
        print(json.dumps(result, indent=1))
        return
    for d in designs:
        print(f"{d['chains']} chains, {d['sizes']} sizes, {d['noise']} noise: refused {d['refused']}")
        for way, covered in d["coverage"].items():
            print(f"  {way:<18} covers {covered:.3f}, median width {d['median_width'][way]:.3f} of the loss")


if __name__ == "__main__":
    main()
