"""How a loss falls with rows, and what fakes it: `python -m reproductions.data_regimes`.

(a) Limited by variance: students of few random ReLUs, many rows. The loss less the student's own floor falls like
1 / rows in every dimension; beside it the exponent of a law whose floor is fitted.
(b) Limited by resolution: students of many random ReLUs, few rows. The exponent falls with the dimension of the inputs.
(c) Under-training: small ReLU nets on the same rows of the same teacher, trained in few steps and in many. The apparent
exponent is that of the steps.
(d) The interpolation peak: least squares of smallest norm is worst where features are as many as rows, so more
features hurt before that, and so do more rows.

Losses of (a), (b) and (d) are exact for each draw: no test rows (`dataworth.numerics.random_features`). Intervals are
Student's at 90 % over seeds: of teacher, student and rows at once. Every cell is kept in the ledger as it finishes; the
same command goes on. One core takes about ten minutes at the stated sizes, nearly all of them for (c), which needs
torch.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.laws.power import fit_power
from dataworth.numerics.random_features import TeacherStudent, expected_min_norm_loss, min_norm_loss, ridge
from dataworth.numerics.ranks import Estimate, difference_interval, mean_interval
from dataworth.results import table
from reproductions.less_fidelity import Ledger
from reproductions.relu_students import Students

FULL = {
    "teacher": 3_000,
    "seeds": 10,
    "narrow": 50,
    "draws": 8,
    "wide": 4_000,
    "width": 64,
    "student_seeds": 5,
    "repetitions": 1_000,
}
LISTS = {
    "dimensions": (2, 3, 4, 6, 8),
    "many_rows": (400, 800, 1_600, 3_200),
    "few_rows": (50, 100, 200, 400, 800),
    "student_dimensions": (2, 4),
    "student_rows": (64, 128, 256, 512, 1_024),
    "steps": (100, 1_000, 4_000, 16_000),
    "features": (10, 20, 30, 36, 40, 44, 60, 80, 160, 400),
    "rows": (10, 20, 30, 36, 40, 44, 60, 80, 160, 400),
}
LEVEL = 0.9
NEAR_ONE = (0.9, 1.3)
"""Where the interval of an exponent of (a) counts as about 1: normal features, P / (D - P - 1), give 1.06 here."""
MUCH = 0.5
"""Few steps fake it where their exponent is below this share of that of the most steps."""
SETTLED = 1.1
"""A test loss that going from one number of steps to the next divides by less than this had settled."""
AT, LATENT, NOISE = 40, 400, 0.5
EARLIER = {10: 1.4, 20: 2.2, 36: 14.9, 40: 862.0, 44: 18.2, 80: 1.9, 400: 0.9}
"""What another simulation of (d) gave by features, at 40 rows."""
CLOSE = 0.15
"""Relative distance of a mean from theory, four or more away from the peak; nearer the mean hardly settles."""


def exponent(sizes: Sequence[int], losses: Sequence[float] | NDArray[np.float64]) -> float:
    """The b of loss ~ size^-b, by least squares of logs."""
    return -float(np.polyfit(np.log(sizes), np.log(losses), 1)[0])


def variance_limited(args: argparse.Namespace, d: int, seed: int) -> dict[str, Any]:
    """One student's floor and its mean loss over draws of rows at each size."""
    rng = np.random.default_rng([1, d, seed])
    problem = TeacherStudent.draw(d, args.teacher, args.narrow, rng)
    losses = []
    for _ in range(args.draws):
        z_NP, y_N = problem.rows(max(args.many_rows), rng)
        losses.append(problem.loss(np.stack([ridge(z_NP[:n], y_N[:n]) for n in args.many_rows], axis=1)))
    return {"floor": problem.floor, "losses": np.mean(losses, axis=0).tolist()}


def resolution_limited(args: argparse.Namespace, d: int, seed: int) -> list[float]:
    """One student's loss at each size."""
    rng = np.random.default_rng([2, d, seed])
    problem = TeacherStudent.draw(d, args.teacher, args.wide, rng)
    z_NP, y_N = problem.rows(max(args.few_rows), rng)
    return problem.loss(np.stack([ridge(z_NP[:n], y_N[:n]) for n in args.few_rows], axis=1)).tolist()


def peak_losses(rows: int, features: int, repetitions: int) -> list[float]:
    """Test losses of least squares of smallest norm, one a draw."""
    rng = np.random.default_rng([3, rows, features])
    return [min_norm_loss(rows, features, LATENT, NOISE, rng) for _ in range(repetitions)]


def in_variance(args: argparse.Namespace, ledger: Ledger) -> list[dict[str, Any]]:
    """Part (a): one line a dimension."""
    out = []
    for d in args.dimensions:
        key = f"variance {d} {args.teacher} {args.narrow} {args.draws} {_joined(args.many_rows)}"
        found = [
            ledger.get(f"{key} {seed}", lambda d=d, seed=seed: variance_limited(args, d, seed))
            for seed in range(args.seeds)
        ]
        laws = [fit_power(args.many_rows, f["losses"]) for f in found]
        floors = [law.E / f["floor"] for law, f in zip(laws, found, strict=True)]
        slopes = [exponent(args.many_rows, np.array(f["losses"]) - f["floor"]) for f in found]
        entry = {"dimensions": d, "exponent": _over_seeds(slopes)}
        entry["with a fitted floor"] = _over_seeds([law.beta for law in laws])
        out.append({**entry, "fitted floor over true": _over_seeds(floors)})
    return out


def in_resolution(args: argparse.Namespace, ledger: Ledger) -> dict[str, Any]:
    """Part (b): one line a dimension, and how much the exponent falls from each to the next."""
    slopes: dict[int, list[float]] = {}
    for d in args.dimensions:
        key = f"resolution {d} {args.teacher} {args.wide} {_joined(args.few_rows)}"
        found = [
            ledger.get(f"{key} {seed}", lambda d=d, seed=seed: resolution_limited(args, d, seed))
            for seed in range(args.seeds)
        ]
        slopes[d] = [exponent(args.few_rows, losses) for losses in found]
    lines = [{"dimensions": d, "exponent": _over_seeds(s), "kernel": 3 / d} for d, s in slopes.items()]
    pairs = zip(args.dimensions, args.dimensions[1:], strict=False)
    falls = [
        {"from": a, "to": b, "by": difference_interval(slopes[a], slopes[b], level=LEVEL).to_dict()} for a, b in pairs
    ]
    return {"lines": lines, "falls": falls}


def in_steps(args: argparse.Namespace, ledger: Ledger) -> list[dict[str, Any]]:
    """Part (c): one line a dimension and number of steps."""
    out: list[dict[str, Any]] = []
    for d in args.student_dimensions:
        before_SK = None
        for steps in sorted(args.steps):
            test_SK, train_SK = _students(args, ledger, d, steps)
            law = fit_power(np.tile(args.student_rows, len(test_SK)), test_SK.ravel())
            line: dict[str, Any] = {"dimensions": d, "steps": steps}
            line["exponent"] = _over_seeds([exponent(args.student_rows, losses) for losses in test_SK])
            line["law"] = {**law.to_dict(), "share of floor": law.E / law.at(float(max(args.student_rows)))}
            line["test"], line["train"] = _geometric(test_SK), _geometric(train_SK)
            if before_SK is not None:
                line["divided by"] = _geometric(before_SK / test_SK)
            out.append(line)
            before_SK = test_SK
    return out


def _students(args: argparse.Namespace, ledger: Ledger, d: int, steps: int) -> tuple[Any, Any]:
    """Test and train losses of the students of all seeds, `[S, K]`."""
    found = []
    for seed in range(args.student_seeds):
        chain = Students(d, args.width, tuple(args.student_rows), seed)
        key = f"students {d} {args.width} {_joined(args.student_rows)} {seed} {steps}"
        found.append(ledger.get(key, lambda chain=chain: chain.train(steps)))
    return np.array([f["test"] for f in found]), np.array([f["train"] for f in found])


def at_peak(args: argparse.Namespace, ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """Part (d): by features at so many rows, and by rows at so many features."""
    grids = {"features": [(AT, p) for p in args.features], "rows": [(n, AT) for n in args.rows]}
    out: dict[str, list[dict[str, Any]]] = {}
    for name, grid in grids.items():
        out[name] = []
        for rows, features in grid:
            losses = ledger.get(
                f"peak {rows} {features} {args.repetitions}",
                lambda rows=rows, features=features: _summary(peak_losses(rows, features, args.repetitions)),
            )
            theory = expected_min_norm_loss(rows, features, LATENT, NOISE)
            finite = theory if np.isfinite(theory) else None
            out[name].append({"rows": rows, "features": features, **losses, "theory": finite})
    return out


def _summary(losses: list[float]) -> dict[str, Any]:
    return {"mean": mean_interval(losses, level=LEVEL).to_dict(), "median": float(np.median(losses))}


def claims(result: dict[str, Any]) -> dict[str, bool]:
    """What the figures show, from nothing but them."""
    low, high = NEAR_ONE
    variance, falls = result["variance"], result["resolution"]["falls"]
    steps: dict[int, list[dict[str, Any]]] = {}
    for line in result["steps"]:
        steps.setdefault(line["dimensions"], []).append(line)
    faked = [s[0]["exponent"]["high"] < MUCH * s[-1]["exponent"]["low"] for s in steps.values()]
    peak = result["peak"]
    far = [p for p in (*peak["features"], *peak["rows"]) if abs(p["rows"] - p["features"]) >= 4]
    return {
        "limited by variance: the exponent is about 1 in every dimension": all(
            low <= v["exponent"]["low"] and v["exponent"]["high"] <= high for v in variance
        ),
        "limited by resolution: the exponent falls from 2 to 3 to 4 dimensions": all(
            f["by"]["low"] > 0 for f in falls if f["to"] <= 4
        ),
        "few steps fake an exponent below half of that of many, on the same rows": all(faked),
        "the peak is where features are as many as rows, in features and in rows": all(
            _worst(lines) == (AT, AT) for lines in peak.values()
        ),
        f"away from the peak the means are within {CLOSE:.0%} of theory": all(
            abs(p["mean"]["value"] / p["theory"] - 1) <= CLOSE for p in far
        ),
    }


def _worst(lines: list[dict[str, Any]]) -> tuple[int, int]:
    worst = max(lines, key=lambda p: p["median"])
    return worst["rows"], worst["features"]


def _over_seeds(values: Sequence[float]) -> dict[str, float]:
    return mean_interval(values, level=LEVEL).to_dict()


def _geometric(values_SK: NDArray[np.float64]) -> list[float]:
    """Means of logs over seeds."""
    return np.exp(np.log(values_SK).mean(axis=0)).tolist()


def _joined(numbers: Sequence[int]) -> str:
    return "-".join(map(str, numbers))


def stated(args: argparse.Namespace) -> str:
    """What the result says of its sizes first."""
    small = [n for n, v in FULL.items() if getattr(args, n) < v]
    small += [n for n, v in LISTS.items() if not set(v) <= set(getattr(args, n))]
    return f"not reproduced: below the stated sizes ({', '.join(small)})" if small else "at the stated sizes"


def main(arguments: list[str] | None = None) -> None:
    """Run or resume, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, default=Path("reproductions/results/data_regimes.jsonl"))
    parser.add_argument("--json", action="store_true")
    for name, size in FULL.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=size)
    for name, values in LISTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, nargs="+", default=list(values))
    args = parser.parse_args(arguments)
    ledger = Ledger(args.ledger)
    result: dict[str, Any] = {
        "verdict": stated(args),
        "sizes": {n: getattr(args, n) for n in (*FULL, *LISTS)},
        "machine": platform.platform(),
        "variance": in_variance(args, ledger),
        "resolution": in_resolution(args, ledger),
        "peak": at_peak(args, ledger),
        "steps": in_steps(args, ledger),
    }
    result["claims"] = claims(result)
    args.ledger.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [result["verdict"], *(f"{'holds' if held else 'FAILS'}: {c}" for c, held in result["claims"].items())]
    names = ("exponent", "with a fitted floor", "fitted floor over true")
    rows = [[v["dimensions"], *(_told(v[name]) for name in names)] for v in result["variance"]]
    lines += ["limited by variance:", table(rows, ["dimensions", *names])]
    rows = [[r["dimensions"], _told(r["exponent"]), f"{r['kernel']:.2f}"] for r in result["resolution"]["lines"]]
    lines += ["limited by resolution:", table(rows, ["dimensions", "exponent", "3 / d"])]
    lines += [f"falls from {f['from']} to {f['to']} by {_told(f['by'])}" for f in result["resolution"]["falls"]]
    lines += ["the same rows in fewer or more steps:", table(*_step_table(result))]
    for name, points in result["peak"].items():
        rows = [
            [
                p[name],
                _told(p["mean"]),
                f"{p['median']:.3g}",
                "infinite" if p["theory"] is None else f"{p['theory']:.3g}",
                f"{EARLIER.get(p[name], float('nan')):g}" if name == "features" else "",
            ]
            for p in points
        ]
        lines += [f"peak in {name}:", table(rows, [name, "mean loss", "median", "theory", "earlier"])]
    return "\n".join(lines)


def _step_table(result: dict[str, Any]) -> tuple[list[list[Any]], list[str]]:
    """Rows and header of part (c)."""
    header = ["dimensions", "steps", "exponent", "beta with a floor", "floor's share at the most rows", "4 / d"]
    header += ["sizes settled since fewer steps", "test loss at least and most rows", "train loss"]
    rows = []
    for line in result["steps"]:
        law, gains = line["law"], line.get("divided by", [])
        rows.append(
            [
                line["dimensions"],
                line["steps"],
                _told(line["exponent"]),
                f"{law['beta']:.2f}",
                f"{law['share of floor']:.0%}",
                f"{4 / line['dimensions']:g}",
                f"{sum(g < SETTLED for g in gains)} of {len(gains)}" if gains else "",
                f"{line['test'][0]:.2g} {line['test'][-1]:.2g}",
                f"{line['train'][0]:.1g} {line['train'][-1]:.1g}",
            ]
        )
    return rows, header


def _told(told: dict[str, Any]) -> str:
    return str(Estimate(**told))


if __name__ == "__main__":
    main()
