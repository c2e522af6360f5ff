"""Finished proof runs on disk with made-up trials, stored by the very function that stores real ones; no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tests.made_pools import jsonl_file

from dataworth import config
from dataworth.formats import open_pool
from dataworth.laws.worth import RandomCurve, worth
from dataworth.numerics.ranks import mean_interval
from dataworth.proof.arms import fixed_arm
from dataworth.proof.looks import looks_at
from dataworth.proof.result import ArmResult, Kept, ProofResult, Sizes
from dataworth.proof.verdict import Arm, Rules, judge, retained
from dataworth.recipe import Recipe
from dataworth.runs import store_proof
from dataworth.session import SILENT, Session
from dataworth.store.cache import Cache
from dataworth.store.run import RunFolder

SEEDS = 5
SIZES = (125, 250, 500, 1000, 2000)
ASKED = (
    "How do I true a wheel without a stand?",
    "Translate to French: the train leaves at nine.",
    "A shop sells pens at 3 for 2 euros. What do 12 pens cost?",
    "Write a short poem about rain.",
    "Why does my chain skip under load?",
    "Summarise the minutes below in two sentences.",
)


def mixed_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of four sources whose lengths differ by source and spread widely."""
    rng = np.random.default_rng(seed)
    named = (("flan_cot", 0.45, 4.6), ("dolly", 0.3, 4.0), ("oasst1", 0.2, 5.3), ("help desk", 0.05, 3.4))
    sources = rng.choice([n for n, _, _ in named], count, p=[share for _, share, _ in named])
    words = {name: scale for name, _, scale in named}
    return [
        {
            "prompt": f"{ASKED[int(rng.integers(len(ASKED)))]} ({n})",
            "completion": " ".join(["word"] * max(1, int(rng.lognormal(words[source] - 1.5, 0.7)))),
            "source": str(source),
        }
        for n, source in enumerate(sources)
    ]


def arm(
    name: str, role: str, costs: Sequence[float], rows: float = 500, tokens: float = 61250, **more: Any
) -> ArmResult:
    listed = tuple(float(c) for c in costs)
    interval = mean_interval(listed) if len(listed) > 1 else None
    told = {"subtasks": {}, "lr": 2e-4, **more}
    return ArmResult(
        name, role, rows, tokens, numbers=tuple(range(len(listed))), costs=listed, interval=interval, **told
    )


def random_cost(rows: float) -> float:
    return float(0.9 + 9 * rows**-0.5)


def proof_result(
    run: Path,
    subjects: Sequence[str] = ("picked",),
    controls: Sequence[str] = ("random", "full"),
    *,
    curve: bool = True,
    protected: Sequence[str] = ("wikipedia",),
    higher: str = "worse",
    noise: float = 0.008,
    worth_of: float = 900,
    untouched: float = 2.1,
    margin: float | None = None,
    **more: Any,
) -> ProofResult:
    """A proof in which the first subject is worth `worth_of` random rows, the next ones less and less.

    Accuracies are costs with a minus sign, about 0.6.
    """
    rng = np.random.default_rng(3)
    shift = -2.0 if higher == "better" else 0.0
    drawn = lambda mean: mean + shift + rng.normal(0, noise, SEEDS)  # noqa: E731
    of = {name: drawn(random_cost(worth_of * 0.55**n)) for n, name in enumerate(subjects)}
    against = {name: drawn(random_cost(2000 if name == "full" else 500 + 60 * n)) for n, name in enumerate(controls)}
    roles = {"random": "random", "full": "full"}
    arms = [arm(n, "subject", c) for n, c in of.items()]
    arms += [arm(n, roles.get(n, "baseline"), c, 2000 if n == "full" else 500) for n, c in against.items()]
    cost_CK = np.array([drawn(random_cost(size)) for size in SIZES]).T
    arms += [arm(f"random {s:,}", "curve", cost_CK[:, k], s, s * 122.5) for k, s in enumerate(SIZES)] if curve else []
    rules = Rules(looks_at((SEEDS,)), len(of) * len(against), margin)
    tried = {n: Arm(n, c, n == "random") for n, c in {**of, **against}.items()}
    before = untouched + shift
    lost = rng.normal(0.05, 0.01, SEEDS)
    return ProofResult(
        run=run,
        protocol="2 epochs each",
        unit="accuracy" if higher == "better" else "nats/token",
        higher=higher,
        seeds=SEEDS,
        verdicts=tuple(judge(tried[s], tried[c], rules, untouched=before) for s in of for c in against),
        arms=tuple(arms),
        untouched=before,
        sizes=Sizes(
            {n: worth(c, RandomCurve(np.array(SIZES, dtype=float), cost_CK)) for n, c in of.items()} if curve else {}
        ),
        retained={n: retained(tried[n], tried["full"], before) for n in of} if "full" in against else {},
        protected=tuple(
            Kept(skill, name, mean_interval(lost * (1 - n), level=0.9), 0.02, n == 0)
            for skill in protected
            for n, name in enumerate((*of, "full") if "full" in against else of)
        ),
        **more,
    )


def proof_run(
    folder: Path, rows: Sequence[dict[str, Any]] | None = None, made: ProofResult | None = None, **fields: Any
) -> Path:
    """A finished proof in `folder`/run, of the pool `folder`/pool.jsonl; its subjects are made of `help desk` rows."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = mixed_rows(2000) if rows is None else list(rows)
    pool_file = jsonl_file(folder / "pool.jsonl", listed)
    pool = open_pool(pool_file)
    subset = fields.pop("subset", ())
    run = RunFolder(folder / "run", {"verb": "prove", "pool": [str(pool_file)]})
    result = made or proof_result(run.path, **fields)
    request = config.build(config.ProveRequest, {"pool": str(pool_file), "subset": subset})
    named = [a.name for a in result.arms if a.role == "subject"]
    prized = [n for n in range(len(pool)) if pool.source_of(n) == "help desk"] or list(range(min(3, len(pool))))
    with Session(request, pool, None, Recipe(), Cache(folder / "cache"), SILENT) as session:
        session.costs["trials"] = {"rows": 46, "wall_seconds": 4210.0, "cpu_seconds": 8390.0}
        session.guard("contamination-gate", True, "none of the pool's rows is near the goal", "")
        plans = [
            fixed_arm(name, "subject", [pool.ids[i] for i in (*prized, *range(n, len(pool), 9 + n))])
            for n, name in enumerate(named)
        ]
        plans = [fixed_arm(p.name, "subject", sorted(set(p.draws[0].ids), key=pool.position.get)) for p in plans]
        registered = '{"arms": {}, "looks": [5], "pool": "' + pool.fingerprint + '"}\n'
        (run.path / "registration.json").write_text(registered)
        store_proof(run, session, result, plans)
    return run.path
