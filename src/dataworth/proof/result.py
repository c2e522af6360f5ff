"""What a proof found: verdict sentences first, then arms, worth, protected skills, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from dataworth.laws.curve import Prediction
from dataworth.laws.worth import Worth
from dataworth.numerics.ranks import Estimate
from dataworth.outcome import SHARES
from dataworth.proof.forecast import Forecast
from dataworth.proof.sizes import Smallest
from dataworth.proof.verdict import Verdict
from dataworth.results import html_of, table
from dataworth.store.run import CARD


@dataclass(frozen=True)
class ArmResult:
    """One arm on the goal: rows and training tokens of a trial (means), learning rate, and each trial's cost by number.

    `tokens` is 0 and `lr` None where a trainer of the user's own doesn't say them.

    Costs are in the goal's unit, lower better. `interval` is Student's over trials at 95 %, None for a single trial.
    `subtasks` holds the mean of each judged set. `tuned` is the cost of the chosen learning rate's trial on tune rows:
    what choices among arms may look at; None without a search.
    """

    name: str
    role: str
    rows: float
    tokens: float
    lr: float | None
    numbers: tuple[int, ...]
    costs: tuple[float, ...]
    interval: Estimate | None
    subtasks: Mapping[str, float]
    tuned: float | None = None


@dataclass(frozen=True)
class Kept:
    """A protected skill under one arm: how much it costs against the untouched model (positive: it got worse).

    `broken` if the cost is shown to exceed the margin: one-sided, at a level of 5 % shared by the subjects and skills.
    """

    skill: str
    arm: str
    cost: Estimate
    margin: float
    broken: bool


JUDGED = "mean of each judged set, each in its own judge's unit"
_HELD = {True: "it held", False: "it did not hold", None: "this proof can't tell"}


@dataclass(frozen=True)
class Sizes:
    """What the random curve says: each subject's `worth`, by the fitted `law` beyond it, and `enough` random rows.

    `forecast` is what had been foretold of the subjects, `per_row` the pairs of subjects of which the first is shown to
    be worth more per row. All are empty or None where they weren't measured.
    """

    worth: Mapping[str, Worth] = field(default_factory=dict)
    law: Mapping[str, Prediction] = field(default_factory=dict)
    enough: Smallest | None = None
    forecast: Mapping[str, Forecast] = field(default_factory=dict)
    per_row: tuple[tuple[str, str], ...] | None = None

    def explain(self, rows_of: Mapping[str, float]) -> list[str]:
        """A sentence each; `rows_of` are the arms' own sizes, in the order in which they are told."""
        lines = []
        for name in (n for n in rows_of if n in self.worth):
            found = self.worth[name]
            each = found.per(rows_of[name])
            per = f"; {each} for each of its {rows_of[name]:,.0f} rows, on average" if each else ""
            lines.append(f"{name}: worth in random rows {found} ({found.level:.0%} set){per}")
            if name in self.law:
                lines.append(f"{name}: beyond the measured sizes, by the fitted law: {self.law[name]}")
            if name in self.forecast:
                lines.append(f"{name}: foretold was {self.forecast[name]}: {_HELD[self.forecast[name].held(found)]}")
        pairs = combinations((n for n in rows_of if n in self.worth), 2)
        lines += [self._each(a, b, rows_of) for a, b in pairs if rows_of[a] != rows_of[b]]
        misses = next((found.misses for found in self.worth.values()), None)
        if misses is not None:
            lines.append(
                "sets of worth don't allow for errors of interpolating the random curve between its sizes: an inner "
                f"size that is left out is missed by {misses:.2g} at most"
            )
        return lines + ([str(self.enough)] if self.enough else [])

    def _each(self, one: str, other: str, rows_of: Mapping[str, float]) -> str:
        """Which of two subsets is worth more per row."""
        for a, b in ((one, other), (other, one)):
            if (a, b) in (self.per_row or ()):
                return f"per row {a} is worth more than {b} (their sets lie apart, at 5 % shared by all such pairs)"
        return f"per row no difference shown between {one} and {other}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "worth": {name: found.to_dict() for name, found in self.worth.items()},
            "law": {name: found.to_dict() for name, found in self.law.items()},
            "enough": self.enough and self.enough.to_dict(),
            "forecast": {
                name: {**told.to_dict(), "held": told.held(self.worth[name])} for name, told in self.forecast.items()
            },
            "per_row": None if self.per_row is None else [list(pair) for pair in self.per_row],
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Sizes:
        """The inverse of `to_dict`."""
        return cls(
            {name: Worth.from_dict(found) for name, found in told["worth"].items()},
            {name: Prediction.from_dict(found) for name, found in told.get("law", {}).items()},
            Smallest(**told["enough"]) if told.get("enough") else None,
            {
                name: Forecast.from_dict({k: v for k, v in found.items() if k != "held"})
                for name, found in told.get("forecast", {}).items()
            },
            None if told.get("per_row") is None else tuple((more, less) for more, less in told["per_row"]),
        )


def judged_on(rows_of: Mapping[str, int]) -> str:
    """How many rows of which judged sets every trial is judged on; a set without rows is a trainer's own metric."""
    judged = [f"{rows:,} rows of {name}" for name, rows in rows_of.items() if rows]
    return f"on {', '.join(judged)}" if judged else "by your trainer"


@dataclass(frozen=True)
class ProofResult:
    """A proof, finished or interim.

    `verdicts` compare each subject with each comparator on the goal; `retained` is by subject, absent where it wasn't
    measured. `unit` and `higher` describe the goal's number; costs have accuracies negated. `untouched` is None where
    the user's own trainer judges what it trains. `length` is what `ArmResult.tokens` counts: tokens, or rows seen;
    `judged` holds how many rows each judged set has, and is empty in runs of earlier versions.
    """

    run: Path
    protocol: str
    unit: str
    higher: str
    seeds: int
    verdicts: tuple[Verdict, ...]
    arms: tuple[ArmResult, ...]
    untouched: float | None
    sizes: Sizes = field(default_factory=Sizes)
    retained: Mapping[str, Estimate] = field(default_factory=dict)
    protected: tuple[Kept, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    length: str = "tokens"
    judged: Mapping[str, int] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    def headline(self) -> str:
        """Where the first comparison stands, in a line; without any, the worth of the first subject."""
        if self.verdicts:
            return self.sentence(self.verdicts[0])
        told = self.sizes.explain({arm.name: arm.rows for arm in self.arms})
        return told[0] if told else f"{self.unit}: too few trials for an estimate"

    def sentence(self, verdict: Verdict) -> str:
        """A verdict as a sentence that states its protocol, and what it cost."""
        seen = f", {self.basis(verdict)}" if verdict.gain else ""
        return f"{verdict.subject}: {verdict.text}{self.at_the_cost(verdict)} [{self.unit}, {self.protocol}{seen}]"

    def interim(self) -> list[str]:
        """Where each comparison stands before its look, in a line; those without an interval yet are left out."""
        trials = {arm.name: len(arm.costs) for arm in self.arms}
        return [
            f"interim: gain of {v.subject} over {v.comparator} {v.gain} {self.unit}, by {trials[v.subject]} and "
            f"{trials[v.comparator]} trials; {self.seeds} seeds are planned"
            for v in self.verdicts
            if v.gain
        ]

    def basis(self, verdict: Verdict) -> str:
        """What a verdict with a gain rests on: level and seeds, the kind of claim, what was detectable, the margin."""
        claim = "a prediction about one fixed subset" if verdict.claim == "prediction" else "a difference of means"
        if not verdict.gain:
            return ""
        margin = "" if verdict.margin is None else f"; the margin is {verdict.margin:g}"
        draws = next((len(arm.costs) for arm in self.arms if arm.name == verdict.comparator), 0)
        against = f" against {draws} draws" if draws > verdict.gain.n else ""
        return (
            f"{verdict.gain.n} seeds{against}, {100 * verdict.gain.level:.3g} % interval, {claim}; "
            f"{verdict.detectable:.3g} was detectable{margin}"
        )

    def at_the_cost(self, verdict: Verdict) -> str:
        """`, at the cost of wikipedia` where a verdict for a subject hides a protected skill that it lost."""
        broken = self.costs_of(verdict)
        return f", at the cost of {', '.join(broken)}" if broken else ""

    def costs_of(self, verdict: Verdict) -> list[str]:
        """Protected skills that a `better` or `as good as` subject is shown to lose: it is never plainly so then."""
        broken = [k.skill for k in self.protected if k.broken and k.arm == verdict.subject]
        return list(dict.fromkeys(broken)) if verdict.word in ("better", "as good as") else []

    @property
    def sign(self) -> float:
        """What turns a cost into the unit's own direction."""
        return -1.0 if self.higher == "better" else 1.0

    def ends(self, arm: ArmResult) -> tuple[float, float] | None:
        """An arm's interval in the unit's own direction; that of a share of rows ends at 0 and 1."""
        if arm.interval is None:
            return None
        low, high = sorted((self.sign * arm.interval.low, self.sign * arm.interval.high))
        return (max(0.0, low), min(1.0, high)) if self.unit in SHARES else (low, high)

    def worth_lines(self) -> list[str]:
        """Each subject's worth in random rows, and its share of the full pool's improvement."""
        lines = self.sizes.explain({arm.name: arm.rows for arm in self.arms})
        return lines + [
            f"{name}: keeps {share.value:.0%} [{share.low:.0%} .. {share.high:.0%}] of the full pool's improvement"
            for name, share in self.retained.items()
        ]

    def protected_lines(self) -> list[str]:
        """What every protected skill loses under every arm."""
        return [
            f"protected {k.skill}: {k.arm} costs {k.cost} against the untouched model"
            + (f" (more than the margin {k.margin:g})" if k.broken else "")
            for k in self.protected
        ]

    def failed_lines(self) -> list[str]:
        """Trials without a number, and why."""
        return [f"{trial} failed and is left out: {why}" for trial, why in self.failed.items()]

    def arm_table(self) -> tuple[tuple[str, ...], list[list[str]]]:
        """Header and rows of the table of arms, in the unit's own direction.

        A size of the random curve at which an arm above it has the same trials isn't told twice.
        """
        sign = self.sign
        told = {(a.rows, a.costs) for a in self.arms if a.role != "curve" and a.costs}
        rows = [
            [
                arm.name,
                f"{arm.rows:,.0f}",
                f"{arm.tokens:,.0f}" if arm.tokens else "",
                "" if arm.lr is None else f"{arm.lr:.3g}",
                str(len(arm.costs)),
                f"{sign * sum(arm.costs) / len(arm.costs):.4f}" if arm.costs else "",
                "{:.4f} .. {:.4f}".format(*ends) if (ends := self.ends(arm)) else "",
            ]
            for arm in self.arms
            if arm.role != "curve" or (arm.rows, arm.costs) not in told
        ]
        if self.untouched is not None:
            rows.append(["untouched model", "0", "0", "", "", f"{sign * self.untouched:.4f}", ""])
        return ("arm", "rows", self.length, "lr", "trials", self.unit, "95 % interval"), rows

    def judged_table(self) -> tuple[tuple[str, ...], list[list[str]]] | None:
        """Header and rows of every arm's mean on each judged set; None where there is but one."""
        judged = list(dict.fromkeys(name for arm in self.arms for name in arm.subtasks))
        if len(judged) < 2:
            return None
        rows = [[a.name, *(f"{a.subtasks[j]:.4f}" if j in a.subtasks else "" for j in judged)] for a in self.arms]
        return ("arm", *judged), rows

    def explain(self) -> str:
        """Sentences, then worth, protected skills, the tables of arms and of judged sets, and notes."""
        lines = [*map(self.sentence, self.verdicts), *self.worth_lines(), *self.protected_lines()]
        header, rows = self.arm_table()
        lines.append(table(rows, header))
        judged = self.judged_table()
        if judged is not None:
            lines += [f"{JUDGED}:", table(judged[1], judged[0])]
        card = [f"a card of this proof to paste: {self.run / CARD}"] if self.record else []
        return "\n".join([*lines, *self.failed_lines(), *self.notes, *card])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "run": str(self.run),
            "protocol": self.protocol,
            "unit": self.unit,
            "higher": self.higher,
            "seeds": self.seeds,
            "verdicts": [
                v.to_dict() | {"at_the_cost_of": self.costs_of(v), "sentence": self.sentence(v)} for v in self.verdicts
            ],
            "arms": [
                {
                    **vars(a),
                    "numbers": list(a.numbers),
                    "costs": list(a.costs),
                    "interval": a.interval and a.interval.to_dict(),
                }
                for a in self.arms
            ],
            "untouched": self.untouched,
            **self.sizes.to_dict(),
            "retained": {name: share.to_dict() for name, share in self.retained.items()},
            "protected": [{**vars(k), "cost": k.cost.to_dict()} for k in self.protected],
            "failed": dict(self.failed),
            "notes": list(self.notes),
            "length": self.length,
            "judged": dict(self.judged),
        }

    @classmethod
    def from_dict(cls, run: Path, told: Mapping[str, Any], record: Mapping[str, Any]) -> ProofResult:
        """The inverse of `to_dict`."""
        same = {k: told[k] for k in ("protocol", "unit", "higher", "seeds", "untouched", "failed")}
        arms = [
            ArmResult(
                **{
                    **a,
                    "numbers": tuple(a["numbers"]),
                    "costs": tuple(a["costs"]),
                    "interval": a["interval"] and Estimate(**a["interval"]),
                }
            )
            for a in told["arms"]
        ]
        return cls(
            run=run,
            verdicts=tuple(Verdict.from_dict(v) for v in told["verdicts"]),
            arms=tuple(arms),
            sizes=Sizes.from_dict(told),
            # A record's keys are sorted; subjects are told in the order of their arms.
            retained={a.name: Estimate(**told["retained"][a.name]) for a in arms if a.name in told["retained"]},
            protected=tuple(Kept(**{**k, "cost": Estimate(**k["cost"])}) for k in told["protected"]),
            notes=tuple(told["notes"]),
            record=record,
            length=told.get("length", "tokens"),
            judged=told.get("judged", {}),
            **same,
        )

    def _repr_html_(self) -> str:
        return html_of(self.explain())


@dataclass(frozen=True)
class ProofPlan:
    """What a proof would train: (arm, role, rows and training tokens of its largest draw, trials) and the rules.

    A size of the random curve at which an arm before it has the same trials isn't listed twice.
    """

    arms: tuple[tuple[str, str, int, int, int], ...]
    protocol: str
    looks: tuple[int, ...]
    comparisons: int
    margin: float | None
    notes: tuple[str, ...] = ()
    length: str = "tokens"

    def explain(self) -> str:
        """A table of arms, and what the proof will say."""
        rows = [[name, role, f"{n:,}", f"{tokens:,}", str(trials)] for name, role, n, tokens, trials in self.arms]
        looks = ", ".join(map(str, self.looks))
        margin = f"; 'as good as' within {self.margin:g}" if self.margin is not None else ""
        total = sum(tokens * trials for *_, tokens, trials in self.arms)
        return "\n".join(
            [
                table(rows, ["arm", "role", "rows", self.length, "trials"]),
                f"at most {total:,} {self.length} trained on ({self.protocol}{self._searched()}); "
                f"{self.comparisons} verdict{'s' if self.comparisons > 1 else ''} at {looks} seeds{margin}",
                *self.notes,
            ]
        )

    def _searched(self) -> str:
        more = min(trials for *_, trials in self.arms) - self.looks[-1]
        return f"; {more} seeds of each arm are for its learning rate" if more else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = ("name", "role", "rows", "tokens", "trials")
        return {**vars(self), "arms": [dict(zip(names, arm, strict=True)) for arm in self.arms]}
