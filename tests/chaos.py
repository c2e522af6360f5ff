"""Kill workers and drivers at random moments, resume until done, compare with an undisturbed run, byte for byte.

    python tests/chaos.py --n 40 --seed 0 [--scenario llama|smollm2|prove|toy] [--json]

A scenario is a command line that works in a folder and resumes when it is given again: `dataworth select --method less`
with a tiny random Llama and (2 kills) with SmolLM2; on demand `dataworth prove` with the tiny Llama, and a toy without
a model. Killing the driver is SIGKILL to that command; killing a worker is SIGKILL to one of its children. Run folder,
picked rows and cache are compared, with checkpoints and training state; what may differ is listed in
`dataworth.store.run`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from dataworth.demo_pool import make_demo
from dataworth.learners.load import find_smollm2
from dataworth.store import digests

HERE = Path(__file__).resolve()


@dataclass(frozen=True)
class Scenario:
    """A resumable command.

    `command(folder)` is the command line; everything it writes below `folder` is compared, and `folder` is the same
    for all rounds, emptied between them. `prepare(folder.parent)` makes the inputs once. `fixed_kills` takes so many
    of `--n`; scenarios without it share the rest. `environment(folder)` is added to the command's. `default` scenarios
    run when none is named.
    """

    name: str
    command: Callable[[Path], list[str]]
    fixed_kills: int | None = None
    prepare: Callable[[Path], None] = lambda folder: None
    environment: Callable[[Path], dict[str, str]] = lambda folder: {}
    default: bool = True


@dataclass
class Outcome:
    """What happened: kills by kind, starts of the command, rounds compared, differing files, failures, orphans."""

    scenario: str
    kills: dict[str, int] = field(default_factory=lambda: {"worker": 0, "driver": 0})
    starts: int = 0
    rounds: int = 0
    files: int = 0
    prepare_s: float = 0.0
    undisturbed_s: float = 0.0
    seconds: float = 0.0
    differing: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    orphans: int = 0

    @property
    def passed(self) -> bool:
        """Whether every round equals the undisturbed run and nothing was left behind."""
        return not self.differing and not self.failures and not self.orphans and self.rounds > 0


class Harness:
    """Runs one scenario in `base`, killing `n` times in all."""

    def __init__(self, scenario: Scenario, base: Path, n: int, seed: int) -> None:
        self.scenario, self.base, self.n = scenario, base, n
        self.folder = base / "work"
        self.random = random.Random(f"{scenario.name}:{seed}")
        self.outcome = Outcome(scenario.name)
        self.wanted: dict[str, str] = {}

    def run(self) -> Outcome:
        """An undisturbed run, then disturbed rounds until all kills are spent."""
        began = time.monotonic()
        self.scenario.prepare(self.base)
        self.outcome.prepare_s = round(time.monotonic() - began, 1)
        first = self._start()
        first.wait()
        self.outcome.undisturbed_s = round(time.monotonic() - began - self.outcome.prepare_s, 1)
        self._check_exit(first)
        self.wanted = self._take_away()
        self.outcome.files = len(self.wanted)
        while self._left() and not self.outcome.failures:
            self._round()
        self.outcome.seconds = round(time.monotonic() - began, 1)
        return self.outcome

    def _round(self) -> None:
        while not self.outcome.failures:
            driver = self._start()
            if self._disturb(driver):
                self._check_exit(driver)
                break
        found = self._take_away()
        names = sorted(n for n in {*found, *self.wanted} if found.get(n) != self.wanted.get(n))
        self.outcome.differing += [f"round {self.outcome.rounds}: {name}" for name in names]
        self.outcome.rounds += 1
        print(report(self.outcome), file=sys.stderr, flush=True)

    def _take_away(self) -> dict[str, str]:
        """The digests of the folder, which is then deleted, or kept beside it when it differs from the first."""
        found = digests(self.folder)
        if self.wanted and found != self.wanted:
            self.folder.rename(self.base / f"round{self.outcome.rounds}")
        elif self.wanted:
            shutil.rmtree(self.folder)
        else:
            self.folder.rename(self.base / "undisturbed")
        return found

    def _disturb(self, driver: subprocess.Popen[bytes]) -> bool:
        """Kill things until the driver ends; whether it ended by itself."""
        while self._left():
            kind = self._kind()
            while kind == "worker" and driver.poll() is None and not self._children(driver):
                time.sleep(0.01)
            try:
                driver.wait(timeout=self.random.uniform(0, 0.4 * self.outcome.undisturbed_s))
                return True
            except subprocess.TimeoutExpired:
                children = self._children(driver)
            if kind == "worker" and children:
                self.random.choice(children).kill()
                self.outcome.kills["worker"] += 1
            elif kind == "driver":
                driver.kill()
                driver.wait()
                self.outcome.kills["driver"] += 1
                self.outcome.orphans += len(psutil.wait_procs(children, timeout=20)[1])
                return False
        driver.wait()
        return True

    @staticmethod
    def _children(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
        try:
            return psutil.Process(driver.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _kind(self) -> str:
        """Workers and drivers equally often, in random order: what falls behind, or either when they are even."""
        worker, driver = self.outcome.kills["worker"], self.outcome.kills["driver"]
        return self.random.choice(["worker", "driver"]) if worker == driver else ["worker", "driver"][worker > driver]

    def _left(self) -> bool:
        return sum(self.outcome.kills.values()) < self.n

    def _start(self) -> subprocess.Popen[bytes]:
        self.outcome.starts += 1
        env = {**os.environ, **self.scenario.environment(self.folder)}
        log = (self.base / "stderr.log").open("ab")
        with log:
            return subprocess.Popen(self.scenario.command(self.folder), env=env, stdout=subprocess.DEVNULL, stderr=log)

    def _check_exit(self, driver: subprocess.Popen[bytes]) -> None:
        if driver.returncode:
            tail = (self.base / "stderr.log").read_text(errors="replace").splitlines()[-3:]
            self.outcome.failures.append(f"exit {driver.returncode}: {' | '.join(tail)}")


def toy(config: dict, device: str) -> Callable:
    """A runner with a fixed-width, a ragged column and unscored rows, which takes its time."""
    import numpy as np

    def work(ids: tuple[str, ...], payload: object) -> tuple[dict, dict]:
        time.sleep(config["sleep"])
        values = [int(i[:8], 16) for i in ids if not i.endswith("0")]
        rng = [np.random.default_rng(v) for v in values]
        wide = np.array([r.standard_normal(64) for r in rng], dtype=np.float32).reshape(-1, 64)
        ragged = [r.integers(0, 50_000, v % 40, dtype=np.int32) for r, v in zip(rng, values, strict=True)]
        return {"wide": wide, "ragged": ragged}, {i: "empty mask" for i in ids if i.endswith("0")}

    return work


def toy_driver(folder: Path) -> None:
    """The toy's command: fill an artefact with two workers, then write a run folder from it."""
    from dataworth.engines import LocalEngine
    from dataworth.store import Cache, RunFolder

    ids = [hashlib.md5(str(i).encode()).hexdigest() for i in range(600)]
    run = RunFolder(folder / "run", {"rows": len(ids)})
    with run.lock:
        began = time.time()
        artefact = Cache(folder / "cache").artefact("toy", {"probe": "toy"})
        engine = LocalEngine(2)
        engine.run(artefact, ids, runner="chaos:toy", config={"sleep": 0.03}, shard_rows=20)
        table = artefact.table(ids)
        score = table.column("wide", fill=float("nan"))[:, 0]
        run.write_table("scores/toy", {"id": ids, "value": score})
        run.write_record({"rows": len(table), "unscored": len(table.unscored)}, {"began": began})
        run.finish()


def write_inputs(folder: Path, rows: int, goal_rows: int, batch_size: int, epochs: int) -> None:
    """A pool with a copy, a row without an answer and a broken line; a goal; a recipe of few steps."""
    demo = make_demo(0, rows)
    mute = {"messages": [*demo.pool_rows[0]["messages"][:-1], {"role": "assistant", "content": ""}]}
    pool = [json.dumps(row) for row in [*demo.pool_rows, demo.pool_rows[3], mute]]
    (folder / "pool.jsonl").write_text("\n".join([*pool, '{"messages": [']) + "\n")
    (folder / "goal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in demo.goal_rows[:goal_rows]))
    (folder / "recipe.yaml").write_text(f"lr: 0.001\nbatch_size: {batch_size}\nepochs: {epochs}\n")


def select(folder: Path, model: Path | None, warmup: float) -> list[str]:
    """The command as a user types it."""
    base = folder.parent
    return [
        *(
            sys.executable,
            "-m",
            "dataworth.cli",
            "select",
            str(base / "pool.jsonl"),
            "--goal",
            str(base / "goal.jsonl"),
        ),
        *("--model", str(model), "--method", "less", "--option", f"warmup={warmup}"),
        *("--recipe", str(base / "recipe.yaml"), "--keep", "10%", "--max-rejected", "0.1", "--workers", "2"),
        *("--device", "cpu", "--run", str(folder / "run"), "-o", str(folder / "picked.jsonl")),
    ]


def prove(folder: Path) -> list[str]:
    """A proof of a few rows with curve and learning-rate search, on the upper layer alone."""
    base = folder.parent
    return [
        *(sys.executable, "-m", "dataworth.cli", "prove", str(base / "subset.jsonl")),
        *("--pool", str(base / "pool.jsonl"), "--goal", str(base / "goal.jsonl"), "--model", str(base / "model")),
        *("--recipe", str(base / "recipe.yaml"), "--seeds", "3", "--max-rejected", "0.1", "--workers", "2"),
        *("--device", "cpu", "--run", str(folder / "run")),
    ]


def prepare_proof(base: Path) -> None:
    """The inputs of `prepare_llama`, a subset of the pool, and enough goal rows to be split."""
    prepare_llama(base)
    lines = (base / "pool.jsonl").read_text().splitlines(keepends=True)
    (base / "subset.jsonl").write_text("".join(lines[:24]))
    goal = make_demo(1, 100).pool_rows
    (base / "goal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in goal))
    with (base / "recipe.yaml").open("a") as file:
        file.write("lora_layers: 1\n")


def surroundings(folder: Path) -> dict[str, str]:
    """The cache among what is compared; one thread."""
    return {"DATAWORTH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def prepare_llama(base: Path) -> None:
    """A random Llama of 2 layers with a byte-level tokenizer, and a pool of 200 rows."""
    sys.path.append(str(HERE.parent / "learners"))
    from tinymodel import tiny_folder

    tiny_folder(base / "model", hidden_size=64)
    write_inputs(base, rows=200, goal_rows=8, batch_size=4, epochs=2)


SCENARIOS = [
    Scenario(
        "llama",
        lambda folder: select(folder, folder.parent / "model", 0.2),
        prepare=prepare_llama,
        environment=surroundings,
    ),
    Scenario(
        "smollm2",
        lambda folder: select(folder, find_smollm2(), 0.2),
        fixed_kills=2,
        prepare=lambda base: write_inputs(base, rows=40, goal_rows=4, batch_size=2, epochs=1),
        environment=surroundings,
    ),
    Scenario("prove", prove, prepare=prepare_proof, environment=surroundings, default=False),
    Scenario("toy", lambda folder: [sys.executable, str(HERE), "--toy-driver", str(folder)], default=False),
]


def shares(scenarios: list[Scenario], n: int) -> list[int]:
    """Kills per scenario."""
    free = [s.name for s in scenarios if s.fixed_kills is None]
    rest = max(0, n - sum(s.fixed_kills or 0 for s in scenarios))
    return [s.fixed_kills or rest // len(free) + (free.index(s.name) < rest % len(free)) for s in scenarios]


def report(o: Outcome) -> str:
    """An outcome in words."""
    lines = [
        f"{o.scenario}: {'passed' if o.passed else 'FAILED'}: {o.kills['worker']} workers, {o.kills['driver']} drivers "
        f"killed, {o.starts} starts, {o.rounds} rounds of {o.files} files, {len(o.differing)} files differ, "
        f"{o.orphans} orphans, {o.seconds} s (undisturbed {o.undisturbed_s} s)"
    ]
    return "\n".join([*lines, *o.differing[:5], *o.failures])


def main() -> int:
    """Run the chosen scenarios and print what happened; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=40, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scenario",
        action="append",
        choices=[s.name for s in SCENARIOS],
        help=f"repeatable; default {' and '.join(s.name for s in SCENARIOS if s.default)}",
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--toy-driver", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.toy_driver:
        toy_driver(args.toy_driver)
        return 0
    chosen = [s for s in SCENARIOS if (s.name in args.scenario if args.scenario else s.default)]
    outcomes = []
    for scenario, n in zip(chosen, shares(chosen, args.n), strict=True):
        with tempfile.TemporaryDirectory(prefix="chaos-") as base:
            outcomes.append(Harness(scenario, Path(base), n, args.seed).run())
        if not args.json:
            print(report(outcomes[-1]), flush=True)
    if args.json:
        print(json.dumps({"seed": args.seed, "scenarios": [{**asdict(o), "passed": o.passed} for o in outcomes]}))
    return 0 if all(o.passed for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
