"""How often is a proof wrong? `python -m reproductions.proof_calibration` simulates proofs with spreads of real trials.

The spreads come from the trials of `less_fidelity` (its ledger): the seed's from one subset trained with several seeds,
the draw's from uniform subsets trained once each; and from every finished `flan_proof`: the seed's from its subsets
together, the draw's from its random arm, and the full pool's own. Per goal, for one look at 5 seeds and for looks at 3,
5 and 8: false verdicts where all arms are equal, where they differ by the margin, and where the subset is itself a
random draw, with the widths of the intervals and how often nothing could be told; and the coverage of worth with as
many chains as seeds at every look. Then for real, from what `flan_proof` found: each chain of the random curve left out
in turn, and what was said of two random draws in a subset's place.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from dataworth.laws.worth import RandomCurve, Worth
from dataworth.proof.calibration import Components, chance_verdicts, false_verdicts, worth_coverage
from dataworth.proof.looks import looks_at
from dataworth.proof.sizes import random_curve
from reproductions.less_fidelity import Ledger

FULL = {"proofs": 20_000, "trials": 19}
"""Trials that the least known spreads rest on; the 15 draws and 5 seeds of `less_fidelity` share one."""
SIZES = (88.0, 175.0, 350.0, 700.0, 1400.0)
BETA = 0.4
STEEP = 0.3
"""Exponent of the simulated curve, and how much of what training gains still falls with the size at its middle: both
are assumed, and the coverage and width of worth depend on them."""
MARGINS = 2.0
"""The margin of `as good as`, in standard deviations of a single trial."""


def components(ledger: Ledger, judged: str) -> tuple[Components, dict[str, Any]]:
    """Spreads of one judged set, and how many trials they rest on."""
    costs: dict[str, list[float]] = {}
    for key, value in ledger.found.items():
        if key.startswith("trial "):
            costs.setdefault(key.split()[1], []).append(value[judged])
    uniform = [found[0] for subset, found in costs.items() if subset.startswith("uniform")]
    seeds = max(costs.values(), key=len)
    if min(len(uniform), len(seeds)) < 3 or "untouched" not in ledger.found:
        raise SystemExit(
            f"{len(uniform)} draws and {len(seeds)} seeds give no spread: run reproductions.less_fidelity first"
        )
    seed_sd, total_sd = (float(np.std(v, ddof=1)) for v in (seeds, uniform))
    draw_sd = max(0.0, total_sd**2 - seed_sd**2) ** 0.5
    middle, untouched = float(np.mean(uniform)), float(ledger.found["untouched"][judged])
    sizes = np.array(SIZES)
    fall = (sizes / sizes[len(sizes) // 2]) ** -BETA
    curve = middle + STEEP * (untouched - middle) * (fall - 1)
    about = {
        "seed_sd": seed_sd,
        "draw_sd": draw_sd,
        "seeds": len(seeds),
        "draws": len(uniform),
        "cost": middle,
        "untouched": untouched,
        "sd_over_gain": total_sd / (untouched - middle),
    }
    return Components(seed_sd, draw_sd, sizes, curve, untouched), about


def components_of_proof(told: dict[str, Any]) -> tuple[Components, dict[str, Any]]:
    """Spreads of a finished proof's trials, on its own random curve."""
    proof = told["epochs"]
    arms = {role: [a for a in proof["arms"] if a["role"] == role] for role in ("subject", "random", "full", "curve")}
    seed_sd = float(np.mean([np.var(a["costs"], ddof=1) for a in arms["subject"]]) ** 0.5)
    random, full = (arms[role][0]["costs"] for role in ("random", "full"))
    total_sd, full_sd = float(np.std(random, ddof=1)), float(np.std(full, ddof=1))
    draw_sd = max(0.0, total_sd**2 - seed_sd**2) ** 0.5
    sized = sorted(arms["curve"], key=lambda a: a["rows"])
    sizes = np.array([a["rows"] for a in sized])
    curve = np.minimum.accumulate([float(np.mean(a["costs"])) for a in sized])
    middle, untouched = float(np.mean(random)), float(proof["untouched"])
    about = {
        "seed_sd": seed_sd,
        "draw_sd": draw_sd,
        "full_sd": full_sd,
        "seeds": sum(len(a["costs"]) for a in arms["subject"]),
        "draws": len(random),
        "cost": middle,
        "untouched": untouched,
        "sd_over_gain": total_sd / (untouched - middle),
    }
    return Components(seed_sd, draw_sd, sizes, curve, untouched, full_sd), about


def left_out(curve: RandomCurve, level: float = 0.9) -> dict[str, Any]:
    """Each chain's draw of each size as one more random draw: how often the other chains' interval holds its cost.

    Also the median, over draws, of the largest over the smallest size whose interval does; the whole range where no
    size is ruled out.
    """
    chains, size_M = len(curve.cost_CK), curve.grid()
    held, ratios = [], []
    for c in range(chains):
        others = RandomCurve(curve.sizes_K, np.delete(curve.cost_CK, c, axis=0))
        cost_CM = others.at(size_M)
        factor = float(stats.t.ppf((1 + level) / 2, chains - 2)) * (1 + 1 / (chains - 1)) ** 0.5
        mean_M, half_M = cost_CM.mean(0), factor * cost_CM.std(0, ddof=1)
        for size, cost in zip(curve.sizes_K, curve.cost_CK[c], strict=True):
            fits_M = np.abs(cost - mean_M) <= half_M
            held.append(bool(fits_M[size_M == size][0]))
            ratios.append(float(np.ptp(np.log(size_M[fits_M]))) if fits_M.any() else 0.0)
    return {
        "held": sum(held),
        "of": len(held),
        "level": level,
        "median_high_over_low": float(np.exp(np.median(ratios))),
    }


def for_real(folder: Path) -> dict[str, Any]:
    """Left-out chains and random draws of every finished `flan_proof`, by goal."""
    out = {}
    for path in sorted(folder.glob("*.json")):
        told = json.loads(path.read_text())
        sized = [a for a in told["epochs"]["arms"] if a["role"] == "curve"]
        curve = random_curve([(a["rows"], dict(zip(a["numbers"], a["costs"], strict=True))) for a in sized])
        same = told.get("random draws", {"verdicts": (), "worth": {}})  # the last of a proof's three parts
        out[path.stem] = {
            "sizes": told["verdict"],
            "chains left out": None if curve is None else left_out(curve),
            "random draws": [{k: v[k] for k in ("subject", "comparator", "sentence")} for v in same["verdicts"]],
            "worth of random draws": {
                name: {"rows": next(a["rows"] for a in same["arms"] if a["name"] == name), **found}
                for name, found in same["worth"].items()
            },
        }
    return out


def main(arguments: list[str] | None = None) -> None:
    """Simulate, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, default=Path("reproductions/results/less_fidelity.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("reproductions/results/proof_calibration.json"))
    parser.add_argument("--real", type=Path, default=Path("reproductions/results/flan_proof"))
    parser.add_argument("--proofs", type=int, default=FULL["proofs"])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    ledger = Ledger(args.ledger)
    known = {name: components(ledger, name) for name in ("gsm8k judge", "arc_easy judge")}
    proofs = {path.stem: json.loads(path.read_text()) for path in sorted(args.real.glob("*.json"))}
    known |= {f"flan_proof {name}": components_of_proof(told) for name, told in proofs.items()}
    trials = min(about["seeds"] + about["draws"] for _, about in known.values())
    small = [n for n, have in (("proofs", args.proofs), ("trials", trials)) if have < FULL[n]]
    result: dict[str, Any] = {
        "verdict": f"not reproduced: below the stated sizes ({', '.join(small)})" if small else "at the stated sizes",
        "proofs": args.proofs,
        "trials": trials,
        "goals": {},
    }
    for judged, (parts, about) in known.items():
        margin = MARGINS * (parts.seed_sd**2 + parts.draw_sd**2) ** 0.5
        cell: dict[str, Any] = {"components": about, "margin": margin}
        for seeds in ((5,), (3, 5, 8)):
            looks = looks_at(seeds)
            cell[f"looks {','.join(map(str, seeds))}"] = {
                "equal arms": false_verdicts(parts, looks, proofs=args.proofs, margin=margin),
                "at the margin": false_verdicts(parts, looks, proofs=args.proofs, margin=margin, shift=margin, seed=1),
                "subset is a random draw": chance_verdicts(parts, looks, proofs=args.proofs, seed=2),
            }
        for seeds in (3, 5, 8):
            cell[f"worth at {seeds}"] = worth_coverage(parts, chains=seeds, seeds=seeds, proofs=args.proofs, seed=3)
        result["goals"][judged] = cell
    result["real"] = for_real(args.real)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [result["verdict"]]
    for judged, cell in result["goals"].items():
        about = cell["components"]
        lines.append(
            f"{judged}: sd {about['seed_sd']:.4f} between {about['seeds']} seeds, {about['draw_sd']:.4f} between "
            f"{about['draws']} draws beyond that; a trial's sd is {about['sd_over_gain']:.1%} of what training gains"
        )
        for name, looks in cell.items():
            if name.startswith("looks"):
                for case, found in looks.items():
                    false, width = found["false"], found.get("median_half_width")
                    told = f"  {name}, {case}: false {false['share']:.3f} (upper bound {false['upper95']:.3f})"
                    if width:
                        told += (
                            f", cannot tell {found['cannot_tell']['share']:.3f}, half widths {width['random']:.4f} to "
                            f"random and {width['full']:.4f} to full"
                        )
                    lines.append(told)
            if name.startswith("worth"):
                ratio = looks["median_high_over_low"] or float("nan")
                lines.append(
                    f"  {name} seeds: covered {looks['coverage']:.3f}, median high/low {ratio:.2f}, one-sided "
                    f"{looks['one_sided']:.2f}, cannot tell {looks['cannot_tell']:.3f}"
                )
    for goal, cell in result["real"].items():
        lines.append(f"{goal}, for real ({cell['sizes']})")
        chains = cell["chains left out"]
        if chains:
            ratio = chains["median_high_over_low"]
            lines.append(f"  chains left out: {chains['held']} of {chains['of']} held, median high/low {ratio:.2f}")
        lines += [f"  {told['sentence']}" for told in cell["random draws"]]
        for name, found in cell["worth of random draws"].items():
            lines.append(f"  {name}: {found['rows']:,.0f} random rows worth {Worth.from_dict(found)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
