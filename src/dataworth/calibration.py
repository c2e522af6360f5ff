"""How fast this machine does the real work: tokenizer, probes and trainer timed on a hash-chosen sample of the pool.

Everything is CPU-seconds per unit (a token, a row, a model load, a process start), so that a price is a sum of
products. On a GPU the unit is a second of that device instead, since the processor only waits for it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count, cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from dataworth import artefacts, plugins
from dataworth.engines.runner import load_work, one_thread
from dataworth.errors import NotApplicable, RequestError
from dataworth.gating import GATE, question
from dataworth.numerics.quantize import quantize
from dataworth.records import Example, Pool, hash_unit
from dataworth.results import Score
from dataworth.session import Session, cpu_seconds, first_device, shard_size

if TYPE_CHECKING:
    from dataworth.learners.render import Encoded

SECONDS = 60.0
"""Timed seconds of a calibration that involves the learner."""
STAGE_SECONDS = 15.0
"""Timed seconds of each of its stages, at least."""
SAMPLE_ROWS = 2000
CHARACTERS_PER_TOKEN = 4
_SIMILARITY_ROWS = 2048
_START = """
import json, sys
from dataworth.learners.causal_lm import CausalLM
from dataworth.recipe import Recipe
model, recipe, device = json.loads(sys.argv[1])
CausalLM.load(model, recipe=Recipe.from_dict(recipe), device=device)
"""

PerUnit = dict[str, float]
Turn = Callable[[], tuple[int, float]]
"""Does a little work; returns its tokens, and seconds of it that don't grow with tokens."""


@dataclass(frozen=True)
class Sample:
    """Rows of a pool in hash order: as read, as the learner sees them (None without a tokenizer), tokens of each.

    `seconds` holds the CPU-seconds of reading a row back (`read`) and of a token (`tokenise`).
    """

    examples: list[Example]
    rows: list[Encoded] | None
    tokens: list[int]
    seconds: PerUnit


def draw(session: Session, pool: Pool, tokenizer: bool) -> Sample:
    """Up to `SAMPLE_ROWS` rows of a pool, read and, with `tokenizer`, rendered."""
    order = np.argsort(hash_unit(pool.ids, session.request.seed, "plan sample"), kind="stable")[:SAMPLE_ROWS]
    began = time.process_time()
    examples = list(pool.examples(order.tolist()))
    seconds = {"read": (time.process_time() - began) / len(examples)}
    if not tokenizer:
        return Sample(examples, None, [-(-len(e.full_text) // CHARACTERS_PER_TOKEN) for e in examples], seconds)
    renderer = session.learner.renderer
    began = time.process_time()
    rows = [renderer.encode(e) for e in examples]
    tokens = [len(r) for r in rows]
    seconds["tokenise"] = (time.process_time() - began) / max(1, sum(tokens))
    return Sample(examples, rows, tokens, seconds)


def measure(
    session: Session, sample: Sample, method: Score, probes: Sequence[str], missing: int
) -> tuple[PerUnit, dict[str, Any]]:
    """Time what a request needs.

    Args:
        session: Its device and recipe.
        sample: Rows of the pool.
        method: Timed on the sample if it reads nothing but text.
        probes: Which of `losses`, `embeddings`, `gradients` are to be run, and `judging`: losses over hidden states
            that are there already, as trials find them where the recipe has `lora_layers`.
        missing: Rows of the pool that a probe has still to do; they decide the size of its shards.

    Returns:
        Seconds per unit, and how they were found. A token of `training` is one that is trained on for one epoch;
        `states` is what a token takes once, in layers that a recipe with `lora_layers` leaves alone.

    Raises:
        RequestError: No row of the sample carries loss.
    """
    began = time.perf_counter()
    found = {**sample.seconds, **text_costs(session, sample, method)}
    device = first_device(session.request.device) if sample.rows is not None else "cpu"
    if sample.rows is not None:
        rows = [r for r in sample.rows if not r.reason and r.supervised[1:].any()]
        if not rows:
            raise RequestError("no sampled row of the pool carries loss: give rows with an answer, or correct --map")
        with TemporaryDirectory() as folder:
            found |= _Bench(session, rows, device, Path(folder)).run(probes, shard_size(missing, artefacts.MODEL_SHARD))
        if "similarity" in method.needs:
            found["similarity"] = _similarity_cost(session, device)
    torch = sys.modules.get("torch")
    return found, {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "device": device,
        "threads": {"probes": 1, "training": torch.get_num_threads() if torch else 1},
        "sampled_rows": len(sample.examples),
        "seconds": time.perf_counter() - began,
        "seconds_per_unit": found,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def text_costs(session: Session, sample: Sample, method: Score) -> PerUnit:
    """Seconds a row of the gate and of a score that reads only text."""
    rows, found = len(sample.examples), {}
    if session.goal is not None:
        pool = session.pool
        stems = [(e.id, pool.source_of(pool.position[e.id]), question(e)) for e in sample.examples]
        steer = [(e.id, question(e)) for sub in session.goal.subtasks for e in sub.steer.examples()]
        began = time.process_time()
        with suppress(NotApplicable):  # nothing to compare costs what finding that out costs
            plugins.load("checks", GATE)({"prompts:pool": stems, "prompts:goal": steer})
        found["gate"] = (time.process_time() - began) / rows
    if method.needs <= artefacts.OF_TEXT:
        inputs: dict[str, Any] = {"ids": tuple(e.id for e in sample.examples)}
        inputs["text:pool"] = [e.full_text for e in sample.examples]
        inputs["text:response"] = [e.response for e in sample.examples]
        inputs["text:goal"] = artefacts.goal_texts(session) if session.goal else {}
        began = time.process_time()
        method(inputs)
        found["score"] = (time.process_time() - began) / rows
    return found


class _Bench:
    """The learner's stages, timed by turns until each had its share."""

    def __init__(self, session: Session, rows: list[Encoded], device: str, folder: Path) -> None:
        self.session, self.rows, self.device, self.folder = session, rows, device, folder
        self.now = time.process_time if device == "cpu" else time.perf_counter
        self.found: PerUnit = {}
        self.checkpoint: Path | None = None
        self.states = folder / "states"

    def run(self, probes: Sequence[str], shard_rows: int) -> PerUnit:
        """Seconds per token of training and of each probe, per load of each, and for a plan per process start."""
        # A plan's trainings have the machine for themselves; trials are one beside another.
        trials = "judging" in probes
        train_as = partial(one_thread, self.device) if trials else nullcontext
        with train_as():
            turns: dict[str, Turn] = {"training": self._training()}
        if not trials:  # they share the processes of a proof, and a process takes as long as many small trials
            self.found["start"] = max(0.0, self._fresh_process() - self.found["load training"])
        with train_as():
            turns["training"]()  # leaves the checkpoint that gradients are taken at
        turns |= {kind: self._probe(kind, shard_rows) for kind in probes}
        spent, aside, tokens = dict.fromkeys(turns, 0.0), dict.fromkeys(turns, 0.0), dict.fromkeys(turns, 0)
        share = max(STAGE_SECONDS, SECONDS / len(turns))
        while min(spent.values()) < share:
            turn = min(spent, key=lambda name: spent[name])
            with train_as() if turn == "training" else one_thread(self.device):
                began = self.now()
                done, opening = turns[turn]()
                spent[turn] += self.now() - began
            tokens[turn] += done
            aside[turn] += opening
            total = sum(min(s, share) for s in spent.values())
            self.session.progress("calibration (seconds)", int(total), int(share * len(turns)))
        self.found |= {name: max(0.0, spent[name] - aside[name]) / tokens[name] for name in turns}
        return self.found

    def _fresh_process(self) -> float:
        """CPU-seconds of a process that starts, imports what a worker imports, and loads the learner."""
        session, began = self.session, cpu_seconds()
        what = json.dumps([str(session.learner.source.folder), session.recipe.to_dict(), self.device])
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", _START, what], check=True, env=env, stdout=subprocess.DEVNULL)
        return cpu_seconds() - began

    def _training(self) -> Turn:
        """A turn of training: a few steps of one epoch, in a folder of its own.

        Opening is set aside, and so are the states of frozen layers, which a row takes only once.
        """
        from dataworth.learners.batching import batches
        from dataworth.learners.causal_lm import CausalLM
        from dataworth.learners.products import widened
        from dataworth.learners.trainer import MICRO_TOKENS, train
        from dataworth.learners.upper import UpperForward, open_forward

        recipe, folder = self.session.recipe, str(self.session.learner.source.folder)
        # The first load also imports, and the first forward warms what all others find warm.
        open_forward(CausalLM.load(folder, recipe=recipe, device=self.device), recipe, self.folder).close()
        began = self.now()
        learner = CausalLM.load(folder, recipe=recipe, device=self.device)
        loaded = self.now()
        forward = open_forward(learner, recipe, self.folder, self.states)
        opening = self.now() - loaded
        self.found |= {"load training": self.now() - began, "states": 0.0}
        short = replace(recipe, epochs=1)
        parts, numbers = _parts(self.rows, max(8, recipe.batch_size)), count()
        known, below = set[str](), [0.0, 0]

        def fill(rows: list[Encoded]) -> float:
            """Seconds that it took to keep the states of new rows."""
            if not isinstance(forward, UpperForward):
                return 0.0
            started = self.now()
            with widened(forward.split.weight):
                for batch in batches(rows, MICRO_TOKENS["cpu"], forward.split.weight.device):
                    forward.split.states(batch.ids_BT, batch.lengths_B)
            took = self.now() - started
            if known.isdisjoint(r.id for r in rows):
                below[0] += took
                below[1] += sum(map(len, rows))
                self.found["states"] = below[0] / below[1]
            known.update(r.id for r in rows)
            return took

        def turn() -> tuple[int, float]:
            part = next(parts)
            aside = opening + fill(part)
            out = self.folder / f"training-{next(numbers)}"
            trained = train(learner, part, out=out, recipe=short, states=self.states)
            self.checkpoint = trained.folders[-1]
            return trained.tokens, aside

        return turn

    def _probe(self, kind: str, shard_rows: int) -> Turn:
        """A turn of a probe: one batch as it would be cut from one of its shards.

        One of `judging` goes over its batch twice, as trials do again and again, and sets the first time aside.
        """
        from dataworth.learners.batching import batches
        from dataworth.probes.opening import CPU_BATCH_TOKENS, CUDA_BATCH_TOKENS

        gradient = self.session.gradient.with_recipe(self.session.recipe)
        settings = artefacts.model_settings(self.session, self.checkpoint if gradient.warmup else None)
        if kind == "gradients":
            settings["feature"] = gradient.feature.to_dict()
        else:
            settings["checkpoint"] = None
        again = kind == "judging"
        probe = "losses" if again else kind
        # A folder of its own: states that it left would be found by the training, and cost it nothing.
        settings |= {"states": self.folder / kind} if again else {}
        began = self.now()
        with one_thread(self.device):
            work = load_work(f"dataworth.probes.{probe}:open_{probe}", settings, self.device)
        self.found[f"load {kind}"] = self.now() - began
        budget = CPU_BATCH_TOKENS if self.device == "cpu" else CUDA_BATCH_TOKENS
        shards = [self.rows[n : n + shard_rows] for n in range(0, len(self.rows), shard_rows)]
        cut = [[shard[i] for i in b.rows] for shard in shards for b in batches(shard, budget, "cpu")]
        order = np.random.default_rng(self.session.request.seed).permutation(len(cut))
        turns = cycle([cut[n] for n in order])

        def turn() -> tuple[int, float]:
            rows, aside = next(turns), 0.0
            if again:
                started = self.now()
                work(tuple(r.id for r in rows), rows)
                aside = self.now() - started
            work(tuple(r.id for r in rows), rows)
            return sum(len(r) for r in rows), aside

        return turn


def _similarity_cost(session: Session, device: str) -> float:
    """Seconds per row of the product of stored features with a goal of as many subtasks."""
    from dataworth.probes.similarity import GoalProduct

    feature, subtasks = session.gradient.feature, len(artefacts.goal_of(session).subtasks)
    rng = np.random.default_rng(session.request.seed)
    product = GoalProduct(rng.normal(size=(2 * subtasks, feature.width)), device)
    stored = quantize(rng.normal(size=(_SIMILARITY_ROWS, feature.width)).astype(np.float32), feature.format)
    began = time.process_time()
    product(stored.codes_NP, stored.scale_N)
    return (time.process_time() - began) / _SIMILARITY_ROWS


def _parts(rows: list[Encoded], size: int) -> Iterator[list[Encoded]]:
    """Rows in turns of `size` (fewer where there aren't so many), over and over."""
    size = min(size, len(rows))
    return cycle([rows[n : n + size] for n in range(0, len(rows) - size + 1, size)])
