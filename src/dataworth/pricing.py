"""What a selection will cost before any long work, beside the price of simply training on everything.

Rows to do come from the same artefacts a run would fill; tokens are exact where they are cached and otherwise those
of a hash-chosen sample, scaled; CPU-seconds are what `calibration` measured on this machine, times the work.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from dataworth import artefacts, rendered
from dataworth.calibration import CHARACTERS_PER_TOKEN, PerUnit, Sample, draw, measure
from dataworth.influence import Checkpoint, finished_warm_up, gradient_artefact, warm_up_rows
from dataworth.piloting import policy_of
from dataworth.probes.spec import FeatureSpec
from dataworth.records import Budget, Pool
from dataworth.results import PlanResult, Score, Stage, duration
from dataworth.session import Session, shard_size, worker_devices
from dataworth.store.artefact import Artefact

_ROW_BYTES = 96
"""Of a stored row beside its values: id, scale, norm, loss, counts, and its share of the markers."""
_TOKEN_BYTES = 5
_MODEL = frozenset({"losses", "losses_alone", "vectors", "goal_vectors", "similarity"}) | artefacts.OF_HALVES
_UNPRICED = frozenset({"neighbours", "clusters", "near_duplicates"})
_KEPT_OF_A_PARAMETER = 3 * 4
"""Bytes a checkpoint holds per adapter parameter: itself and two moments in fp32."""


@dataclass(frozen=True)
class Item:
    """A stage and what it is made of: (kind of unit, how many)."""

    stage: Stage
    work: tuple[tuple[str, float], ...]

    def shared(self, how: Mapping[str, Any]) -> Item:
        """The item with training's CPU time shared by its threads, as they were when it was timed."""
        threads = how.get("threads", {}).get("training", 1) if how.get("device") == "cpu" else 1
        trains = any(unit == "training" for unit, _ in self.work)
        return replace(self, stage=replace(self.stage, at_once=threads)) if trains else self

    def priced(self, cost: Mapping[str, float] | None) -> Stage:
        """The stage with its CPU-seconds; None where a unit's cost isn't known."""
        if cost is None or any(n and unit not in cost for unit, n in self.work):
            return self.stage
        return replace(self.stage, cpu_seconds=sum(n * cost[unit] for unit, n in self.work if n))


class Lengths:
    """Tokens of rows: known ones by id, the mean of the sample for the others."""

    def __init__(self, samples: Sequence[Sample], cached: Mapping[str, int]) -> None:
        drawn = {e.id: tokens for s in samples for e, tokens in zip(s.examples, s.tokens, strict=True)}
        self.known = {**drawn, **cached}
        self.mean = sum(drawn.values()) / max(1, len(drawn))

    def of(self, ids: Iterable[str]) -> int:
        """Tokens of these rows together."""
        return round(sum(self.known.get(i, self.mean) for i in ids))


def price(
    session: Session, method: Score, budget: Budget, *, calibrate: bool, of_pick: frozenset[str] = frozenset()
) -> PlanResult:
    """Stages of a selection with rows, tokens, passes, disk and CPU-seconds, and both trainings beside them.

    Args:
        session: Pool, goal, learner and gradient options of the request.
        method: The score.
        budget: How much is to be kept.
        of_pick: What the pick needs.
        calibrate: Time the machine on the pool first (about a minute with a learner). Without, CPU-seconds are None.

    Raises:
        MissingExtra: A calibration needs a model library that isn't installed.
    """
    has_torch = importlib.util.find_spec("torch") is not None
    tokenizer = session.request.model is not None and (calibrate or has_torch)
    sample = draw(session, session.pool, tokenizer)
    book = _Book(session, sample, tokenizer, method.needs | of_pick)
    items = book.selection(method, budget)
    full, pick = book.training("train on everything", 1.0), book.training("train on the pick", book.kept(budget))
    cost: PerUnit | None = None
    how: dict[str, Any] = {}
    if calibrate:
        missing = max((i.stage.rows for i in items if i.work and i.work[0][0] in book.loads), default=0)
        cost, how = measure(session, sample, method, sorted(book.loads), missing)
        cost["reading"] = session.costs["reading"]["cpu_seconds"]
    stages = tuple(i.shared(how).priced(cost) for i in items)
    result = PlanResult(stages, pick.priced(cost), full.priced(cost), how, session.recipe.to_dict())
    return replace(result, notes=(*book.notes(), *wall_time(result), *comparison(result)))


def wall_time(plan: PlanResult) -> tuple[str, ...]:
    """How long the request takes by the clock, and how that is reckoned; nothing without prices."""
    if plan.wall_seconds is None:
        return ()
    most = max(s.at_once for s in plan.stages)
    how = f"CPU time of shared steps over up to {most} workers or threads, the rest" if most > 1 else "all steps"
    return (f"selecting takes about {duration(plan.wall_seconds)} of wall time: {how} one after another",)


def comparison(plan: PlanResult) -> tuple[str, ...]:
    """Selecting and training on the pick against training on everything, in a sentence; nothing without prices."""
    select = plan.cpu_seconds
    pick, full = (s.cpu_seconds if s else None for s in (plan.train_pick, plan.train_full))
    if select is None:
        return ("no CPU times: they need a calibration, a minute or more on this machine; `dataworth plan` makes one",)
    if pick is None or full is None:
        return ()
    cached = sum(s.cached for s in plan.stages)
    text = (
        f"selecting costs {duration(select)} of CPU time, training on everything {duration(full)}, on the pick "
        f"{duration(pick)}: selecting and training on the pick is {(select + pick) / full:.2f} times training on "
        "everything"
    )
    if cached:
        text += f" (beyond the {cached:,} rows that the cache holds already)"
    if select >= full - pick:
        text += (
            f"; selection can't save time here: it costs at least the {duration(full - pick)} that it would save, "
            "so only a better model would justify it"
        )
    return (text,)


def adapter_parameters(config: Mapping[str, int], recipe: Mapping[str, object]) -> int:
    """Parameters of the recipe's LoRA on a decoder of this config; unknown targets count as square ones."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    inner = config.get("intermediate_size", 4 * hidden)
    head = config.get("head_dim") or hidden // heads
    queries, keys = heads * head, (config.get("num_key_value_heads") or heads) * head
    ends = {
        "q_proj": hidden + queries,
        "k_proj": hidden + keys,
        "v_proj": hidden + keys,
        "o_proj": queries + hidden,
        "gate_proj": hidden + inner,
        "up_proj": hidden + inner,
        "down_proj": inner + hidden,
    }
    targets: Sequence[str] = recipe["lora_targets"]  # type: ignore[assignment]
    layers = int(recipe["lora_layers"] or config["num_hidden_layers"])  # type: ignore[call-overload]
    return layers * int(recipe["lora_r"]) * sum(ends.get(t, 2 * hidden) for t in targets)  # type: ignore[call-overload]


def _by_learner(session: Session, needs: frozenset[str]) -> frozenset[str]:
    """What the learner's passes have to make for these artefacts; none of vectors that an encoder or the rows bring."""
    found = set(needs)
    if found & {"neighbours", "clusters"}:
        found.add("vectors")
    if "entropies" in found:
        found.add("losses")
    brought = session.request.encoder is not None or artefacts.has_own_vectors(session.pool)
    return frozenset(found - {"vectors", "goal_vectors"} if brought else found) - _UNPRICED - {"entropies"}


class _Book:
    """The price list in the making. `loads` counts model loads by probe; `crew` the worker processes started."""

    def __init__(self, session: Session, sample: Sample, tokenizer: bool, needs: frozenset[str]) -> None:
        self.session, self.tokenizer = session, tokenizer
        self.pool = session.pool
        self.asked, self.needs = needs, _by_learner(session, needs)
        self.goal_pools = [sub.steer for sub in session.goal.subtasks] if session.goal else []
        self.lengths = self._lengths(self.pool.ids, [sample])
        self.goal_lengths = self._lengths((), [draw(session, pool, tokenizer) for pool in self.goal_pools])
        self.loads: dict[str, int] = {}
        self.crew = 0
        self.disk_of_adapter = self._adapter_bytes()

    def selection(self, method: Score, budget: Budget) -> list[Item]:
        """Every step of the selection in the order in which it would run."""
        needs, rows = self.needs, len(self.pool)
        items = [Item(Stage("read the pool", rows, 0, 0, 1, 0, None), (("reading", 1),))]
        if self.session.goal is not None:
            items.append(Item(Stage("gate", rows, 0, 0, 1, 0, None), (("read", rows), ("gate", rows))))
        if needs & (_MODEL | {"tokens"}) or (budget.unit == "tokens" and self.session.request.model is not None):
            items.append(self._tokens(self.pool, self.lengths, "tokens"))
        items += self._losses()
        if "vectors" in needs:
            items.append(self._probe("embeddings", self.pool, self.lengths, "embeddings"))
        if "goal_vectors" in needs:
            for pool in self.goal_pools:
                items.append(self._tokens(pool, self.goal_lengths, "tokens (goal)"))
                items.append(self._probe("embeddings", pool, self.goal_lengths, "embeddings (goal)"))
        if "similarity" in needs:
            items += self._influence()
        if policy_of(self.session.request) is not None:
            items.append(self._pilots(budget))
        return [*items, *self._overhead(method, budget)]

    def _losses(self) -> list[Item]:
        """Passes of the untouched learner, and of two that were trained on halves."""
        items, ids = [], self.pool.ids
        if "losses" in self.needs:
            items.append(self._probe("losses", self.pool, self.lengths, "losses"))
        if "losses_alone" in self.needs:
            items.append(self._step("losses without prompts", ids, None, "losses", self.lengths, 0))
        if self.needs & artefacts.OF_HALVES:
            items.append(self.training("train on each half", 1.0))
            items += [self._step(f"losses by half {n}", ids, None, "losses", self.lengths, 0) for n in (1, 2)]
        return items

    def _pilots(self, budget: Budget) -> Item:
        """The two trainings of `--policy auto`, each on as many rows as are kept; what judges them isn't priced."""
        stage, work = vars(self.training("pilots of --policy auto", self.kept(budget))).values()
        both = replace(stage, passes=2 * stage.passes, at_once=min(2, max(1, self.workers)))
        return Item(both, tuple((unit, 2 * n) for unit, n in work))

    @cached_property
    def workers(self) -> int:
        """Worker processes of the request."""
        return len(worker_devices(self.session.request.device, self.session.request.workers))

    def _overhead(self, method: Score, budget: Budget) -> list[Item]:
        """What doesn't grow with the probes' tokens, and the pure functions at the end."""
        needs, rows, items = self.needs, len(self.pool), []
        if needs & _MODEL:
            loads = tuple((f"load {kind}", n) for kind, n in self.loads.items())
            total = sum(self.loads.values())
            items.append(Item(Stage("model loads in workers", 0, 0, 0, total, 0, None, max(1, self.crew)), loads))
        if needs & (_MODEL | {"tokens"}) or self.crew:
            starts = Stage("process starts", 0, 0, 0, 1 + self.crew, 0, None, max(1, self.crew))
            items.append(Item(starts, (("start", 1 + self.crew),)))
        if method.needs <= artefacts.OF_TEXT:
            work = (("score", rows), ("read", rows))  # every score looks for rows without an answer
            items.append(Item(Stage(f"score {method.name}", rows, 0, 0, 1, 0, None), work))
        out = round(sum(f.size for f in self.pool.files) * self.kept(budget)) + rows * _ROW_BYTES
        # Besides writing, a pick by a model looks for rows without an answer and at what two baselines would pick.
        passes = 4 if needs & _MODEL else 1
        items.append(Item(Stage("pick and write", rows, 0, 0, passes, out, None), (("read", passes * rows),)))
        return items

    def kept(self, budget: Budget) -> float:
        """The share of the pool's rows that the budget keeps."""
        rows = len(self.pool)
        count = budget.amount / max(1e-9, self.lengths.mean) if budget.unit == "tokens" else budget.rows(rows)
        return min(1.0, count / rows)

    def training(self, name: str, share: float) -> Item:
        """Training on a share of the rows with the recipe's epochs."""
        epochs, tokens = self.session.recipe.epochs, round(self.lengths.of(self.pool.ids) * share)
        stage = Stage(name, round(share * len(self.pool)), 0, tokens, epochs, self.disk_of_adapter, None)
        return Item(stage, (("training", tokens * epochs), ("states", tokens), ("load training", 1), ("start", 1)))

    def notes(self) -> list[str]:
        """What the reader must know to read the figures."""
        model, out = self.session.request.model, []
        if not self.tokenizer:
            why = "no --model was given" if model is None else "torch isn't installed, so nothing cached is counted"
            out.append(f"tokens are characters / {CHARACTERS_PER_TOKEN}, and adapters take no disk here ({why})")
        elif len(self.lengths.known) < len(self.pool):
            out.append(f"tokens are those of {len(self.lengths.known):,} of {len(self.pool):,} rows, scaled")
        unpriced = sorted(self.asked & _UNPRICED)
        if self.session.request.encoder is not None and self.asked & artefacts.OF_VECTORS:
            unpriced.append("the encoder's pass")
        if unpriced:
            out.append(f"not priced: {', '.join(unpriced)} (processor time that grows with the rows)")
        if self.tokenizer and any("cuda" in d for d in worker_devices(self.session.request.device, None)):
            out.append("prices of model passes are seconds of one GPU, not of a processor")
        return out

    def _lengths(self, ids: Sequence[str], samples: Sequence[Sample]) -> Lengths:
        if not self.tokenizer:
            return Lengths(samples, {})
        artefact = rendered.token_artefact(self.session, self.pool)
        absent = set(artefact.missing(ids))
        have = [i for i in ids if i not in absent]
        tokens = artefact.table(have).column("tokens", fill=0).tolist() if have else []
        return Lengths(samples, dict(zip(have, tokens, strict=True)))

    def _step(
        self,
        name: str,
        ids: Sequence[str],
        artefact: Artefact | None,
        unit: str,
        tokens_of: Lengths,
        row_bytes: int,
    ) -> Item:
        """A probe over rows. None as artefact: nothing of it can be cached yet."""
        missing = artefact.missing(ids) if artefact else list(ids)
        tokens = tokens_of.of(missing)
        most = rendered.TOKEN_SHARD if unit == "tokenise" else artefacts.MODEL_SHARD
        openings = 1
        if missing:
            shards = -(-len(missing) // shard_size(len(missing), most))
            openings = min(max(1, self.workers), shards)
            self.crew = max(self.crew, min(self.workers, shards))
            if unit != "tokenise":
                self.loads[unit] = self.loads.get(unit, 0) + openings
        disk = len(missing) * (_ROW_BYTES + row_bytes) + (tokens * _TOKEN_BYTES if unit == "tokenise" else 0)
        stage = Stage(name, len(missing), len(set(ids)) - len(missing), tokens, 1, disk, None, openings)
        return Item(stage, ((unit, tokens),))

    def _tokens(self, pool: Pool, lengths: Lengths, name: str) -> Item:
        artefact = rendered.token_artefact(self.session, pool) if self.tokenizer else None
        return self._step(name, pool.ids, artefact, "tokenise", lengths, 0)

    def _probe(self, kind: str, pool: Pool, lengths: Lengths, name: str) -> Item:
        artefact = artefacts.probe_artefact(self.session, kind, pool) if self.tokenizer else None
        width = self._config().get("hidden_size", 0) if kind == "embeddings" else 0
        return self._step(name, pool.ids, artefact, kind, lengths, 4 * width)

    def _influence(self) -> list[Item]:
        """Warm-up, features of pool and goal at its checkpoints, similarity."""
        session, share = self.session, self.session.gradient.warmup
        items = [self._tokens(pool, self.goal_lengths, "tokens (goal)") for pool in self.goal_pools]
        warm = finished_warm_up(session) if self.tokenizer else None
        points: Sequence[Checkpoint | None] = warm.checkpoints if warm else [None] * session.recipe.epochs
        if share:
            rows = warm_up_rows(session, share, len(self.pool))
            todo = 0 if warm else min(rows, len(self.pool))
            tokens, epochs = round(self.lengths.mean * todo), session.recipe.epochs
            disk = (epochs + 1) * self.disk_of_adapter if todo else 0
            stage = Stage("warm-up training", todo, len(warm.ids) if warm else 0, tokens, epochs, disk, None)
            work = (("training", tokens * epochs), ("states", tokens), ("load training", int(todo > 0)))
            items.append(Item(stage, work))
        feature = session.gradient.with_recipe(session.recipe).feature
        plain = replace(feature, optimizer="sgd", bias_correction=False)
        for n, point in enumerate(points, 1):
            label = f"checkpoint {n} of {len(points)}"
            items.append(self._gradients([self.pool], point, feature, self.lengths, f"gradients, {label}"))
            items.append(self._gradients(self.goal_pools, point, plain, self.goal_lengths, f"goal gradients, {label}"))
        seen = len(self.pool) * len(points)
        items.append(Item(Stage("similarity", len(self.pool), 0, 0, len(points), 0, None), (("similarity", seen),)))
        return items

    def _gradients(
        self, pools: Sequence[Pool], point: Checkpoint | None, feature: FeatureSpec, lengths: Lengths, name: str
    ) -> Item:
        artefact = gradient_artefact(self.session, point, feature, pools[0]) if point and self.tokenizer else None
        ids = tuple(i for pool in pools for i in pool.ids)
        width = {"int8": feature.width, "fp16": 2 * feature.width, "int4": -(-feature.width // 2)}[feature.format]
        return self._step(name, ids, artefact, "gradients", lengths, width)

    def _config(self) -> dict[str, int]:
        """The model's config; empty where its folder isn't known."""
        return self.session.learner.config if self.tokenizer else {}

    def _adapter_bytes(self) -> int:
        config = self._config()
        if not {"hidden_size", "num_attention_heads", "num_hidden_layers"} <= set(config):
            return 0  # another family's names: its adapter's size isn't known before it is loaded
        return _KEPT_OF_A_PARAMETER * adapter_parameters(config, self.session.recipe.to_dict())
