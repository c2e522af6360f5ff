"""59,000 rows diagnosed with SmolLM2 in half an hour: `python -m reproductions.diagnose_mixed`.

The pool is flan_cot with its rationales, t0_mixture and alpaca. One `dataworth diagnose`: sizes up to 1,000 in 3 nested
chains, a second rank at two sizes, bits on 500 sampled rows; held-out rows of the pool judge. What it says, how far
1,000 rows are from 59,000, what would settle it, and the wall time it took are the result. The adapters sit on the
upper 4 of 30 layers, over cached states of the others: half an hour of two cores pays for no more. `--reread` reads the
kept measurements as today's code does, without training.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import dataworth as dw
from dataworth.diagnosing.diagnosis import Diagnosis
from dataworth.diagnosing.measured import Measured
from dataworth.views.terminal import Bars
from reproductions import flan
from reproductions.foretold_curves import mixed_pool

FULL = {"largest": 1000, "chains": 3}
MINUTES = 30
UPPER = 4
SIZES = 5
KEPT = Path("reproductions/results/diagnose_mixed.json")


def read(found: Diagnosis) -> dict[str, Any]:
    """What a diagnosis says of its measurements."""
    told = found.to_dict()
    return {
        k: told[k] for k in ("headline", "predictions", "regime", "capacity", "what_would_tell", "checks", "findings")
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Diagnose, print, and keep the result."""
    parser = flan.parser(__doc__, FULL, "diagnose_mixed")
    parser.add_argument("--pool", nargs="+", default=None, help="files instead of the 59,000 rows")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.set_defaults(lora_layers=UPPER)
    parser.add_argument("--reread", action="store_true", help="read the kept measurements anew; nothing is trained")
    args = parser.parse_args(argv)
    if args.reread:
        kept = json.loads((args.out or KEPT).read_text())
        reread = Diagnosis(args.work, Measured.from_dict(kept["measured"]))
        flan.keep_result(args, KEPT.name, {**kept, **read(reread)})
        print(json.dumps({**kept, **read(reread)}) if args.json else reread.explain())
        return
    args.work.mkdir(parents=True, exist_ok=True)
    recipe = {"lora_layers": args.lora_layers, "epochs": args.epochs, "lr": args.lr}
    pool = [str(p) for p in (args.pool or mixed_pool(args.work))]
    began = time.monotonic()
    with Bars() as bars:
        found = dw.diagnose(
            pool,
            model=args.model,
            recipe=str(flan.settle(args.work / "recipe.yaml", yaml.safe_dump(recipe))),
            sizes=",".join(str(round(args.largest / 2**k)) for k in reversed(range(SIZES))),
            chains=args.chains,
            capacity=True,
            budget=f"{MINUTES}m",
            device=args.device,
            workers=args.workers,
            run=str(args.work / "run"),
            progress=bars,
        )
    minutes = (time.monotonic() - began) / 60
    result = {
        **flan.stated(args, FULL),
        "recipe": recipe,
        "minutes": minutes,
        "within_the_goal": minutes <= MINUTES,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        **read(found),
        "measured": found.measured.to_dict(),
    }
    flan.keep_result(args, KEPT.name, result)
    print(json.dumps(result) if args.json else f"{result['verdict']}: {minutes:.1f} minutes\n{found.explain()}")


if __name__ == "__main__":
    main()
