"""Do learning curves come out as foretold? `python -m reproductions.foretold_curves --foretell`, then `--score`.

Cases: SmolLM2-135M adapters on the pool of 59,000 rows, judged by loss on GSM8K and by choices on ARC-Easy; the small
ResNet on CIFAR-10 and Fashion-MNIST, judged by accuracy. `--foretell` runs `dataworth diagnose` on five sizes and
writes what it predicts at twice, four and eight times the largest, refusals included. `--score` trains those sizes,
which nobody has trained before, and holds the means of their chains against the 90 % intervals: it refuses to begin
before the predictions are a committed file, whose commit goes into the result.

Coverage is told over all predictions, with those that were refused counted apart. A larger size may do best after more
epochs than any foretold one was tried for, as the design tries as many steps as the largest of all sizes takes: such a
point isn't of the curve that was foretold, and is counted apart, too. Each training is a trial in the
cache, so both commands resume.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import dataworth as dw
from dataworth.diagnosing.diagnosis import Diagnosis
from dataworth.numerics.ranks import mean_interval
from dataworth.views.terminal import Bars
from reproductions import flan

CASES = ("smollm2-gsm8k", "smollm2-arc_easy", "cifar10", "fashion_mnist")
TIMES = (2, 4, 8)
FULL = {"largest_text": 250, "largest_images": 4000, "chains": 3}
FORETOLD = Path("reproductions/results/foretold")
SCORED = Path("reproductions/results/foretold_scores.json")
OTHERS = {"t0_mixture": "t0_mixture/t0_mixture.jsonl.gz", "alpaca": "alpaca/alpaca_random9k.jsonl.gz"}
RECIPES = {"text": {"lora_layers": flan.UPPER, "epochs": 2}, "images": {"epochs": 10, "width": 16}}


def mixed_pool(folder: Path) -> list[Path]:
    """The pool of about 59,000 rows: flan_cot with its rationales, t0_mixture and alpaca, a file each."""
    flan_cot = [
        {"prompt": r["question"], "completion": f"{r['rationale']}\n{r['answer']}"}
        for r in flan.read("flan_cot/flan_cot.jsonl.gz")
    ]
    others = {name: flan.read(place) for name, place in OTHERS.items()}
    return [flan.write(folder / f"{name}.jsonl", rows) for name, rows in {"flan_cot": flan_cot, **others}.items()]


def request(case: str, args: argparse.Namespace) -> dict[str, Any]:
    """What `diagnose` is asked for a case, without its sizes."""
    folder = args.work / case
    folder.mkdir(parents=True, exist_ok=True)
    kind = "text" if case.startswith("smollm2") else "images"
    told = {**RECIPES[kind], **({"lora_layers": args.lora_layers} if kind == "text" else {})}
    recipe = flan.settle(folder / "recipe.yaml", yaml.safe_dump(told))
    common = {
        "recipe": str(recipe),
        "chains": args.chains,
        "larger": "none",
        "budget": "30d",
        "device": args.device,
        "workers": args.workers,
    }
    if kind == "images":
        train, test = images(case, folder)
        return {**common, "pool": train, "goal": test, "model": "resnet"}
    pool = [str(p) for p in (args.pool or mixed_pool(args.work))]
    name = case.partition("-")[2]
    if name == "gsm8k":
        goal = flan.goal(name, "gsm8k/test.jsonl.gz", folder)
    else:
        rows = flan.read("eval_small/arc_easy.jsonl.gz")
        order = np.random.default_rng(0).permutation(len(rows))
        goal = flan.goal_of(name, [rows[i] for i in order], folder, {"judge_kind": "choice"})
    return {**common, "pool": pool, "goal": str(goal), "model": args.model, "map": args.map}


def images(case: str, folder: Path) -> tuple[list[str], str]:
    """Training files and the test file of an image set; its test rows are split, and tune rows judge."""
    data = flan.data_folder() / case
    if case == "cifar10":
        return [str(p) for p in sorted(data.glob("train-*.parquet"))], str(data / "test.parquet")
    found = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        out = folder / f"{part}.npz"
        if not out.exists():
            with gzip.open(data / f"{stem}-images-idx3-ubyte.gz") as file:
                pixels = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 28, 28)
            with gzip.open(data / f"{stem}-labels-idx1-ubyte.gz") as file:
                labels = np.frombuffer(file.read()[8:], np.uint8)
            np.savez(out, x=pixels, y=labels.astype(np.int64))
        found[part] = str(out)
    return [found["train"]], found["test"]


def halvings(largest: int, times: Sequence[int] = ()) -> str:
    """Five sizes up to `largest`, and its multiples, as `--sizes` takes them."""
    return ",".join(
        str(n) for n in (*(round(largest / 2**k) for k in reversed(range(5))), *(largest * t for t in times))
    )


def diagnosed(case: str, args: argparse.Namespace, times: Sequence[int]) -> Diagnosis:
    """The diagnosis of a case with these multiples of its largest size trained, too."""
    largest = args.largest_text if case.startswith("smollm2") else args.largest_images
    run = args.work / case / ("scored" if times else "foretold")
    with Bars() as bars:
        return dw.diagnose(**request(case, args), sizes=halvings(largest, times), run=str(run), progress=bars)


def foretell(case: str, args: argparse.Namespace) -> dict[str, Any]:
    """Predictions at sizes that weren't trained."""
    found = diagnosed(case, args, ())
    if isinstance(found.curve, str):
        raise SystemExit(f"{case}: {found.curve}")
    largest = found.measured.sizes[-1]
    findings, _ = found.checks
    return {
        "case": case,
        "sizes": list(found.measured.sizes),
        "chains": found.measured.chains,
        "unit": found.measured.unit,
        "measured": found.measured.grid("test").tolist(),
        "epochs": {str(n): e for n, e in found.measured.chosen.items()},
        "most_epochs_tried": max(found.measured.tried[largest]),
        "predictions": [found.curve.predict(float(largest * t)).to_dict() for t in TIMES],
        "whatever_speaks_against_it": [
            {"rows": largest * t, **found.curve.band(float(largest * t)).to_dict()} for t in TIMES
        ],
        "checks": [f.code for f in findings],
        "headline": found.headline(),
    }


def committed(path: Path) -> str:
    """The commit that a file is in as it stands.

    Raises:
        SystemExit: It isn't committed.
    """
    status, log = (
        subprocess.run(["git", *words, "--", str(path)], capture_output=True, text=True, check=False)
        for words in (["status", "--porcelain"], ["log", "-1", "--format=%H"])
    )
    dirty, commit = status.stdout or status.returncode, log.stdout.strip()
    if dirty or not commit:
        raise SystemExit(f"{path} isn't committed: predictions are committed before what they foretell is trained")
    return commit


def score(case: str, args: argparse.Namespace) -> dict[str, Any]:
    """What the larger sizes came to, beside what was foretold."""
    path = args.foretold / f"{case}.json"
    commit = "" if args.uncommitted else committed(path)
    told = json.loads(path.read_text())
    found = diagnosed(case, args, TIMES).measured
    test_CK = found.grid("test")
    out = []
    for prediction, band in zip(told["predictions"], told["whatever_speaks_against_it"], strict=True):
        loss_C = test_CK[:, found.sizes.index(int(band["rows"]))]
        measured = mean_interval(loss_C[np.isfinite(loss_C)], level=0.9)
        spoke = not prediction["refusal"]
        out.append(
            {
                "rows": band["rows"],
                "spoke": spoke,
                "measured": measured.to_dict(),
                "epochs": found.chosen[band["rows"]],
                "stopped_as_foretold": found.chosen[band["rows"]] <= told["most_epochs_tried"],
                "covered": bool(spoke and prediction["low"] <= measured.value <= prediction["high"]),
                "band_covered": bool(band["low"] <= measured.value <= band["high"]),
                "band": [band["low"], band["high"]],
            }
        )
    return {"case": case, "committed_in": commit, "unit": told["unit"], "scores": out}


def summary(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Coverage over all cases: of what was said, and of the bands whatever spoke against them."""
    scores = [s for case in cases for s in case["scores"]]
    alike = [s for s in scores if s["stopped_as_foretold"]]
    spoke = [s for s in alike if s["spoke"]]
    return {
        "predictions": len(scores),
        "of_another_curve": len(scores) - len(alike),
        "spoke": len(spoke),
        "covered": sum(s["covered"] for s in spoke),
        "bands_covered": sum(s["band_covered"] for s in alike),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Foretell or score the cases, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stage = parser.add_mutually_exclusive_group(required=True)
    stage.add_argument("--foretell", action="store_true")
    stage.add_argument("--score", action="store_true")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--work", type=Path, default=Path("runs/foretold_curves"))
    parser.add_argument("--foretold", type=Path, default=FORETOLD)
    parser.add_argument("--out", type=Path, default=SCORED)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--pool", nargs="+", default=None, help="files instead of the 59,000 rows")
    parser.add_argument("--map", nargs="*", default=[])
    parser.add_argument("--lora-layers", type=int, default=flan.UPPER)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--uncommitted", action="store_true", help="score without asking for a commit: no evidence")
    parser.add_argument("--json", action="store_true")
    for name, value in FULL.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    args = parser.parse_args(argv)
    small = [n for n, v in FULL.items() if getattr(args, n) < v] + (["uncommitted"] if args.uncommitted else [])
    verdict = f"not reproduced: below the stated sizes ({', '.join(small)})" if small else "at the stated sizes"
    if args.foretell:
        args.foretold.mkdir(parents=True, exist_ok=True)
        for case in args.cases:
            found = foretell(case, args)
            (args.foretold / f"{case}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(json.dumps(found) if args.json else f"{case}: {found['headline']}")
        return
    known = json.loads(args.out.read_text())["cases"] if args.out.exists() else []
    scored = [score(case, args) for case in args.cases]
    cases = [c for c in known if c["case"] not in args.cases] + scored
    result = {"verdict": verdict, **summary(cases), "cases": cases}
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result) if args.json else f"{verdict}: {summary(cases)}")


if __name__ == "__main__":
    main()
