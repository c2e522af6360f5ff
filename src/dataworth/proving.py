"""A proof run: arms are planned and registered, trials run round by round, and words said at the planned looks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.artefacts import as_read, token_artefact, token_table
from dataworth.errors import NonsenseRefused, RequestError
from dataworth.laws.worth import RandomCurve, Worth, worth
from dataworth.numerics.ranks import Estimate, mean_interval
from dataworth.proof.arms import ArmPlan, Draw, Trial, schedule
from dataworth.proof.budget import ArmPrice, fit
from dataworth.proof.looks import looks_at
from dataworth.proof.result import ArmResult, Kept, ProofResult
from dataworth.proof.verdict import Arm, Rules, Verdict, judge, retained
from dataworth.records import Protected, Sealed, Subtask
from dataworth.results import duration
from dataworth.session import Session
from dataworth.store.artefact import Artefact
from dataworth.store.atomic import write_atomic
from dataworth.store.fingerprint import fingerprint
from dataworth.store.json_files import read_json
from dataworth.store.run import RunFolder
from dataworth.trials import RUNNER, Job, Training, open_judged

UNTOUCHED = "untouched"
REGISTRATION = "registration.json"
A_DAY = 86400.0
"""Seconds after which a training counts as hung."""


@dataclass(frozen=True)
class Proposal:
    """Everything that is registered before a judge row is read.

    `subjects` are what the proof is about; `controls` what they are compared with, each a verdict; `others` (the sizes
    of the random curve) are trained and shown. `tokens` is the budget of the equal-token protocol.
    """

    subjects: tuple[ArmPlan, ...]
    controls: tuple[ArmPlan, ...]
    others: tuple[ArmPlan, ...]
    rules: Rules
    tokens: int | None = None

    @property
    def arms(self) -> tuple[ArmPlan, ...]:
        """All arms that train."""
        return (*self.subjects, *self.controls, *self.others)

    def sizes(self, session: Session) -> list[tuple[ArmPlan, int]]:
        """Each arm with the training tokens of its largest draw."""
        ids = session.pool.ids
        found = token_table(session, session.pool).column("tokens", fill=0)
        tokens, epochs = dict(zip(ids, found.tolist(), strict=True)), session.recipe.epochs
        return [
            (arm, self.tokens or epochs * max(sum(tokens[i] for i in d.ids) for d in arm.draws)) for arm in self.arms
        ]

    def protocol(self, session: Session) -> str:
        """How long every arm trains, in words."""
        if self.tokens is not None:
            return f"{self.tokens:,} training tokens each"
        return f"{session.recipe.epochs} epoch{'s' if session.recipe.epochs > 1 else ''} each"

    def only(self, names: Sequence[str], seeds: int) -> Proposal:
        """The proposal with these arms and so many seeds in one look; the level is shared by what is left."""
        subjects, controls, others = (
            tuple(a for a in arms if a.name in names) for arms in (self.subjects, self.controls, self.others)
        )
        looks = self.rules.looks if seeds == self.rules.looks.seeds[-1] else looks_at((seeds,))
        rules = replace(self.rules, looks=looks, comparisons=len(subjects) * len(controls))
        return Proposal(subjects, controls, others, rules, self.tokens)

    def registration(self, session: Session) -> dict[str, Any]:
        """What the run folder holds of it."""
        looks = self.rules.looks
        return {
            "pool": session.pool.fingerprint,
            "goal": session.goal.fingerprint if session.goal else None,
            "learner": session.learner.fingerprint,
            "arms": {
                arm.name: {
                    "role": arm.role,
                    "rows": arm.rows,
                    "redrawn": arm.redrawn,
                    "draws": [fingerprint({"ids": sorted(d.ids), "weights": list(d.weights)}) for d in arm.draws],
                }
                for arm in self.arms
            },
            "subjects": [a.name for a in self.subjects],
            "looks": list(looks.seeds),
            "level": {"two_sided": self.rules.alpha, "margin": self.rules.alpha_margin},
            "comparisons": self.rules.comparisons,
            "margin": self.rules.margin,
            "protocol": "epochs" if self.tokens is None else f"{self.tokens} training tokens",
            "judged": [[s.name, s.judge_kind, str(rows.path)] for s, rows in sealed_parts(session)],
        }


def sealed_parts(session: Session) -> list[tuple[Subtask | Protected, Sealed]]:
    """The goal's subtasks and the protected skills, each with the rows that judge it, unopened.

    Raises:
        RequestError: No goal, or a subtask without judge rows.
    """
    goal = session.goal
    if goal is None:
        raise RequestError("a proof needs a goal: expected --goal FILE with rows to judge by")
    found: list[tuple[Subtask | Protected, Sealed]] = []
    for sub in goal.subtasks:
        if sub.judge is None:
            raise RequestError(f"goal subtask {sub.name!r} has no judge rows: add `judge:` to the goal file")
        found.append((sub, sub.judge))
    return [*found, *((skill, skill.judge) for skill in goal.protected)]


class Prover:
    """Runs the trials of a proposal and compares them.

    Args:
        session: Pool, goal, learner, engine.
        run: Where the registration is kept: arms and rules as proposed, before a judge row is read.
        proposal: Arms and rules.
    """

    def __init__(self, session: Session, run: RunFolder, proposal: Proposal) -> None:
        self.session, self.run, self.proposal = session, run, proposal
        self.registration = self._register()
        self.judged = open_judged([(s, rows.open_for("proof")) for s, rows in sealed_parts(session)])
        self.goals = len(session.goal.subtasks) if session.goal else 0
        units = {(j.judge.unit, j.judge.higher) for j in self.judged[: self.goals]}
        if len(units) > 1:
            raise RequestError(
                f"the goal's subtasks are judged in {sorted(u for u, _ in units)}: expected one unit, as they are "
                "averaged; prove them one by one"
            )
        self.unit, self.higher = units.pop()
        self.sign_J = np.array([1.0 if j.judge.higher == "worse" else -1.0 for j in self.judged])
        self.artefact = self._artefact()
        self.failed: dict[str, str] = {}

    def _register(self) -> dict[str, Any]:
        """What was registered, now or when this run began."""
        path = self.run.path / REGISTRATION
        if not path.exists():
            self._write(self.proposal.registration(self.session))
        return read_json(path, "delete the run folder; trials stay in the cache", {"arms": dict})

    def _write(self, registration: Mapping[str, Any]) -> None:
        text = json.dumps(registration, indent=1, sort_keys=True) + "\n"
        write_atomic(self.run.path / REGISTRATION, text.encode())

    def afford(self, budget: float, workers: int, rates: Callable[[], Mapping[str, float]]) -> str:
        """Cut the proposal down to what a budget pays for; the cut is registered and holds for the run.

        Args:
            budget: Seconds of wall time.
            workers: How many trials run side by side.
            rates: Gives seconds per token of `training` and of judging (`losses`), and of their `load ...`.

        Returns:
            What it pays for, in a sentence.
        """
        known = self.registration.get("affordable")
        if known is None:
            plan = fit(self._prices(rates()), self.proposal.rules.looks.seeds[-1], budget, workers)
            known = {"arms": list(plan.arms), "seeds": plan.seeds, "seconds": plan.seconds, "budget": budget}
            self.registration = {**self.registration, "affordable": known}
            self._write(self.registration)
        self.proposal = self.proposal.only(known["arms"], known["seeds"])
        left = [a for a in self.registration["arms"] if a not in known["arms"]]
        lost = f"; left out: {', '.join(left)}" if left else ""
        return f"{duration(budget)} pays for {known['seeds']} seeds of {', '.join(known['arms'])}{lost}"

    def _prices(self, rate: Mapping[str, float]) -> list[ArmPrice]:
        judged = sum(len(self.session.learner.renderer.encode(row)) for j in self.judged for row in j.rows)
        fixed = judged * rate["losses"] + rate["load losses"] + rate["load training"]
        seen, found = set[tuple[Draw, ...]](), []
        for arm, trained in self.proposal.sizes(self.session):
            first = not seen & {arm.draws, arm.draws[:1]}
            seen |= {arm.draws, *([arm.draws[:1]] if arm.role == "full" else [])}
            found.append(ArmPrice(arm.name, arm.role, trained * rate["training"] + fixed if first else 0.0))
        return found

    def _artefact(self) -> Artefact:
        session = self.session
        sets = [
            {"name": j.name, "judge": j.judge.name, "rows": fingerprint({"ids": [r.id for r in j.rows]})}
            for j in self.judged
        ]
        spec = {"learner": session.learner.frozen_spec, "judged": sets}
        return session.artefact("trials", as_read(session.pool, spec))

    def prove(self, tell: Callable[[str], None]) -> ProofResult:
        """Run to the last look, or to the first at which every subject's verdicts are claims.

        Args:
            tell: Called with a line after every trial that changes where the first comparison stands.
        """
        looks = self.proposal.rules.looks.seeds
        for n, seeds in enumerate(looks):
            self._run(seeds, tell)
            found = self.result(seeds)
            if n + 1 == len(looks) or all(v.word in ("better", "as good as", "worse") for v in found.verdicts):
                break
        return found

    def _run(self, seeds: int, tell: Callable[[str], None]) -> None:
        planned, said = self._planned(seeds), [""]
        started = {trial_id: n for n, trial_id in enumerate(planned)}
        longest = {i: -len(t.draw) for i, (t, _) in planned.items() if t is not None}
        table = token_table(self.session, self.session.pool)

        def order(ids: Sequence[str]) -> tuple[int, int, int]:
            trial = planned[ids[0]][0]
            return (trial.number if trial else -1, longest.get(ids[0], 0), started[ids[0]])

        def progress(done: int, total: int) -> None:
            self.session.progress("trials", done, total)
            if 0 < done < total:
                said.append(self.result(seeds).headline())
                if said[-1] != said[-2]:
                    tell(said[-1])

        with self.session.costing("trials", len(self.artefact.missing(planned))):
            self.session.engine.run(
                self.artefact,
                list(planned),
                runner=RUNNER,
                config={"model": str(self.session.learner.source.folder), "judged": self.judged},
                payload=lambda ids: [self._job(*planned[i], table.unscored) for i in ids],
                shard_rows=1,
                progress=progress,
                order=order,
                hang_s=A_DAY,
            )

    def _planned(self, seeds: int) -> dict[str, tuple[Trial | None, Training]]:
        """Trial id -> trial and training, in the order of rounds; the untouched model first."""
        untouched = Training((), (), self.session.recipe)
        found: dict[str, tuple[Trial | None, Training]] = {self._id(untouched): (None, untouched)}
        for trial in schedule(self.proposal.arms, seeds, seed=self.session.recipe.seed):
            training = self._training(trial)
            found.setdefault(self._id(training), (trial, training))
        return found

    def _training(self, trial: Trial) -> Training:
        recipe = replace(self.session.recipe, seed=trial.seed)
        return Training(trial.draw.ids, trial.draw.weights, recipe, self.proposal.tokens)

    def _id(self, training: Training) -> str:
        return fingerprint(training.spec(self.session.learner.frozen_spec))[:32]

    def _job(self, trial: Trial | None, training: Training, unscored: Mapping[str, str]) -> Job:
        """What a worker gets; rows without loss are left out, as a trainer would find nothing in them."""
        from dataworth.probes.tokens import encoded_rows

        recipe = training.recipe.to_dict()
        if trial is None:
            return Job((), (), recipe, None, "")
        keep = [n for n, i in enumerate(training.ids) if i not in unscored]
        ids = [training.ids[n] for n in keep]
        rows = encoded_rows(token_artefact(self.session, self.session.pool).table(ids), ids)
        weights = tuple(training.weights[n] for n in keep) if training.weights else ()
        spec = as_read(self.session.pool, training.spec(self.session.learner.frozen_spec))
        folder = self.session.cache.folder("trainings", spec)
        self.session.used[folder.name] = "trainings"
        return Job(tuple(rows), weights, recipe, training.tokens, str(folder))

    def result(self, seeds: int) -> ProofResult:
        """What the trials that are there say."""
        mean_of, tokens_of = self._means(seeds)
        untouched_J = mean_of[self._id(Training((), (), self.session.recipe))] if mean_of else None
        if untouched_J is None:
            raise NonsenseRefused("the untouched model could not be judged: see the reasons above")
        costs_J = {arm.name: self._costs(arm, seeds, mean_of) for arm in self.proposal.arms}
        arms = {a.name: Arm(a.name, costs_J[a.name][:, : self.goals].mean(1), a.redrawn) for a in self.proposal.arms}
        untouched = float(untouched_J[: self.goals].mean())
        verdicts = self._verdicts(arms, untouched)
        return ProofResult(
            run=self.run.path,
            protocol=self.proposal.protocol(self.session),
            unit=self.unit,
            higher=self.higher,
            seeds=seeds,
            verdicts=verdicts,
            arms=tuple(self._arm(a, arms[a.name], costs_J[a.name], tokens_of) for a in self.proposal.arms),
            untouched=untouched,
            worth=self._worth(arms),
            retained=self._retained(arms, untouched),
            protected=self._protected(costs_J, untouched_J),
            failed=dict(self.failed),
            notes=tuple(self.session.notes),
        )

    def _means(self, seeds: int) -> tuple[dict[str, NDArray[np.float64]], dict[str, int]]:
        planned = self._planned(seeds)
        missing = set(self.artefact.missing(planned))
        found = self.artefact.table([i for i in planned if i not in missing])
        for i, reason in found.unscored.items():
            trial = planned[i][0]
            self.failed[f"{trial.arm} {trial.number}" if trial else UNTOUCHED] = reason
        ids = [i for i in planned if i not in missing and i not in found.unscored]
        if not ids:
            return {}, {}
        mean_nJ, tokens_n = found.column("mean") * self.sign_J, found.column("tokens")
        return dict(zip(ids, mean_nJ, strict=True)), dict(zip(ids, tokens_n.tolist(), strict=True))

    def _costs(self, arm: ArmPlan, seeds: int, mean_of: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Costs `[R, J]` of the trials of an arm that are there; a missing number is left out, not shifted."""
        ids = [self._id(self._training(t)) for t in schedule([arm], seeds, seed=self.session.recipe.seed)]
        return np.array([mean_of[i] for i in ids if i in mean_of]).reshape(-1, len(self.judged))

    def _verdicts(self, arms: Mapping[str, Arm], untouched: float) -> tuple[Verdict, ...]:
        pairs = [(s.name, c.name) for s in self.proposal.subjects for c in self.proposal.controls]
        return tuple(
            judge(arms[s], arms[c], self.proposal.rules, untouched=untouched)
            for s, c in pairs
            if len(arms[s].cost_R) > 1 and len(arms[c].cost_R) > 1
        )

    def _arm(self, plan: ArmPlan, arm: Arm, costs_RJ: NDArray[np.float64], tokens_of: Mapping[str, int]) -> ArmResult:
        ids = [self._id(self._training(t)) for t in schedule([plan], len(costs_RJ), seed=self.session.recipe.seed)]
        tokens = [tokens_of[i] for i in ids if i in tokens_of]
        means = (costs_RJ * self.sign_J).mean(0) if len(costs_RJ) else np.zeros(0)
        return ArmResult(
            plan.name,
            plan.role,
            float(np.mean([len(d) for d in plan.draws])),
            float(np.mean(tokens)) if tokens else 0.0,
            tuple(arm.cost_R.tolist()),
            mean_interval(arm.cost_R) if len(arm.cost_R) > 1 else None,
            {j.name: float(m) for j, m in zip(self.judged, means, strict=False)},
        )

    def _worth(self, arms: Mapping[str, Arm]) -> dict[str, Worth]:
        """Worth of each subject on the random curve, once all its sizes have the same chains."""
        sized = [(a.rows, arms[a.name].cost_R) for a in self.proposal.others if a.role == "curve"]
        chains = min((len(cost_R) for _, cost_R in sized), default=0)
        if len(sized) < 2 or chains < 2:
            return {}
        curve = RandomCurve(
            np.array([n for n, _ in sized], dtype=np.float64), np.stack([c[:chains] for _, c in sized], 1)
        )
        subjects = [arms[s.name] for s in self.proposal.subjects]
        return {s.name: worth(s.cost_R, curve) for s in subjects if len(s.cost_R) > 1}

    def _retained(self, arms: Mapping[str, Arm], untouched: float) -> dict[str, Estimate]:
        full = next((arms[c.name] for c in self.proposal.controls if c.role == "full"), None)
        if full is None or len(full.cost_R) < 2:
            return {}
        found = {}
        for subject in (arms[s.name] for s in self.proposal.subjects):
            if len(subject.cost_R) > 1:
                try:
                    found[subject.name] = retained(subject, full, untouched)
                except RequestError as reason:
                    note = f"no share of the full pool's improvement: {reason}"
                    self.session.notes += [note] if note not in self.session.notes else []
        return found

    def _protected(
        self, costs_J: Mapping[str, NDArray[np.float64]], untouched_J: NDArray[np.float64]
    ) -> tuple[Kept, ...]:
        goal = self.session.goal
        found = []
        for n, skill in enumerate(goal.protected if goal else (), self.goals):
            for arm in (*self.proposal.subjects, *self.proposal.controls):
                lost_R = costs_J[arm.name][:, n] - untouched_J[n]
                if len(lost_R) > 1:
                    cost = mean_interval(lost_R, level=0.9)  # its lower end is the one-sided 5 % bound
                    margin = skill.margin or 0.0
                    found.append(Kept(skill.name, arm.name, cost, margin, cost.low > margin))
        return tuple(found)
