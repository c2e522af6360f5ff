"""What a proof proposes to do, and registers before a trial is judged: arms, rules, protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from dataworth.errors import RequestError
from dataworth.proof.arms import ArmPlan
from dataworth.proof.forecast import Forecast
from dataworth.proof.looks import looks_at
from dataworth.proof.verdict import Rules
from dataworth.proving.trainers import learns
from dataworth.records import Protected, Sealed, Subtask
from dataworth.session import Session
from dataworth.store.fingerprint import fingerprint

TWIN = " without near-goal rows"
"""What the name of a subject's twin adds."""


@dataclass(frozen=True)
class Proposal:
    """Everything that is registered before a trial is judged.

    `subjects` are what the proof is about; `controls` what they are compared with, each a verdict, and without any they
    are compared with one another; `others` (the sizes of the random curve) are trained and shown. `tokens` is the
    budget of the equal-token protocol; `lr_factors` multiply the recipe's learning rate in each arm's search on tune
    rows, and an arm whose best lies at an end of what it tried goes on by doubling or halving, up to `lr_further`
    times. `seen` are the ids of the goal rows that a subject was selected by, and `forecasts` what
    was foretold of it, with a key for what that is about, where that is known.
    """

    subjects: tuple[ArmPlan, ...]
    controls: tuple[ArmPlan, ...]
    others: tuple[ArmPlan, ...]
    rules: Rules
    tokens: int | None = None
    lr_factors: tuple[float, ...] = (1.0,)
    lr_further: int = 0
    seen: Mapping[str, frozenset[str]] = field(default_factory=dict)
    forecasts: Mapping[str, tuple[Forecast, str]] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[ArmPlan, ...]:
        """All arms that train."""
        return (*self.subjects, *self.controls, *self.others)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names of what is compared, in the order of verdicts."""
        return pairs_of([s.name for s in self.subjects], [c.name for c in self.controls])

    def sizes(self, session: Session) -> list[tuple[ArmPlan, int]]:
        """Each arm with the training tokens of its largest draw."""
        trainee = session.trainee
        tokens = dict(zip(session.pool.ids, trainee.size_N.tolist(), strict=True))
        epochs = trainee.recipe.epochs if learns(session.trainer, "epochs") else 1
        if any(arm.draws[0].goal for arm in self.arms):
            tokens |= {row.id: len(row) for row in trainee.steer()}
        return [(arm, self.tokens or epochs * max(d.tokens(tokens) for d in arm.draws)) for arm in self.arms]

    def owners(self) -> dict[str, str]:
        """Arms whose trials are those of an arm before them, by name: a size of the curve at which another arm is."""
        found = {}
        for n, arm in enumerate(self.arms):
            # A curve's arm has the random arm's first draws, or in each trial the full pool's.
            for owner in (a for a in self.arms[:n] if a.name not in found and a.redrawn <= arm.redrawn):
                draws = owner.draws if owner.redrawn else owner.draws * len(arm.draws)
                if draws[: len(arm.draws)] == arm.draws:
                    found[arm.name] = owner.name
                    break
        return found

    def protocol(self, session: Session) -> str:
        """How long every arm trains, in words."""
        if self.tokens is not None:
            return f"{self.tokens:,} training {session.trainee.unit}s each"
        if not learns(session.trainer, "epochs"):
            return "as the command trains"
        epochs = session.trainee.recipe.epochs
        return f"{epochs} epoch{'s' if epochs > 1 else ''} each"

    def only(self, names: Sequence[str], seeds: int) -> Proposal:
        """The proposal with these arms and so many seeds in one look; the level is shared by what is left."""
        subjects, controls, others = (
            tuple(a for a in arms if a.name in names) for arms in (self.subjects, self.controls, self.others)
        )
        looks = self.rules.looks if seeds == self.rules.looks.seeds[-1] else looks_at((seeds,))
        comparisons = max(1, len(pairs_of([s.name for s in subjects], [c.name for c in controls])))
        rules = replace(self.rules, looks=looks, comparisons=comparisons)
        return replace(self, subjects=subjects, controls=controls, others=others, rules=rules)

    def registration(self, session: Session) -> dict[str, Any]:
        """What the run folder holds of it."""
        looks = self.rules.looks
        return {
            "pool": session.pool.fingerprint,
            "goal": session.goal.fingerprint if session.goal else None,
            "learner": session.trainee.fingerprint,
            "arms": {
                arm.name: {
                    "role": arm.role,
                    "rows": arm.rows,
                    "redrawn": arm.redrawn,
                    **({"per_seed": arm.per_seed} if arm.per_seed > 1 else {}),
                    "draws": [fingerprint({"ids": list(d.ids), "weights": list(d.weights)}) for d in arm.draws],
                }
                for arm in self.arms
            },
            "subjects": [a.name for a in self.subjects],
            "looks": list(looks.seeds),
            "level": {"two_sided": self.rules.alpha, "margin": self.rules.alpha_margin},
            "comparisons": self.rules.comparisons,
            "margin": self.rules.margin,
            "protocol": "epochs" if self.tokens is None else f"{self.tokens} training {session.trainee.unit}s",
            "lr_factors": list(self.lr_factors),
            **({"lr_further": self.lr_further} if self.lr_further else {}),
            "trainer": session.trainer and session.trainer.registered,
            "judged": [[s.name, s.judge_kind, str(rows.path)] for s, rows in sealed_parts(session)],
        }


def pairs_of(subjects: Sequence[str], controls: Sequence[str]) -> list[tuple[str, str]]:
    """Each subject with each control; without controls the subjects with one another, though not with their twins."""
    if controls:
        return [(s, c) for s in subjects for c in controls]
    return [(a, b) for a, b in combinations(subjects, 2) if a.removesuffix(TWIN) != b.removesuffix(TWIN)]


def sealed_parts(session: Session) -> list[tuple[Subtask | Protected, Sealed]]:
    """The goal's subtasks and the protected skills, each with the rows that judge it, unopened; none under a metric.

    Raises:
        RequestError: No goal, or a subtask without judge rows.
    """
    goal = session.goal
    if session.metric is not None:
        return []
    if goal is None:
        raise RequestError("a proof needs a goal: expected --goal FILE with rows to judge by")
    found: list[tuple[Subtask | Protected, Sealed]] = []
    for sub in goal.subtasks:
        if sub.judge is None:
            raise RequestError(f"goal subtask {sub.name!r} has no judge rows: add `judge:` to the goal file")
        found.append((sub, sub.judge))
    return [*found, *((skill, skill.judge) for skill in goal.protected)]


def refuse_seen(session: Session, seen: Mapping[str, frozenset[str]], judge_ids: set[str]) -> None:
    """Refuse judge rows by which a subject was selected, or by which an arm or a learning rate would be.

    Raises:
        RequestError: Names who saw how many.
    """
    for name, ids in seen.items():
        if known := len(ids & judge_ids):
            raise RequestError(
                f"{name} was selected with {known:,} of the {len(judge_ids):,} judge rows of this proof: expected "
                "judge rows that no selection saw; run `dataworth goal FILE` and select with its goal.yaml"
            )
    for sub in session.goal.subtasks if session.goal else ():
        for part, pool in (("steer", sub.steer), ("tune", sub.tune)):
            if pool is not None and (known := len(judge_ids.intersection(pool.ids))):
                raise RequestError(
                    f"goal subtask {sub.name!r}: {known:,} of its {part} rows are judge rows: expected parts that "
                    "share no row; `dataworth goal FILE` makes such"
                )
