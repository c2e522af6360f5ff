"""A proof run: arms are planned and registered, trials run round by round, and words said at the planned looks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.laws.worth import RandomCurve, worth
from dataworth.numerics.ranks import Estimate, mean_interval
from dataworth.proof.arms import ArmPlan, Trial, schedule
from dataworth.proof.budget import FULL_CURVE, ArmPrice, TrialRates, fit
from dataworth.proof.foresight import foresee
from dataworth.proof.result import ArmResult, Kept, ProofResult, Sizes, judged_on
from dataworth.proof.sizes import apart, beyond, random_curve, smallest_keeping, uneven, worth_more_each
from dataworth.proof.verdict import CANNOT_TELL, LEVEL, Arm, Verdict, judge, retained
from dataworth.proving.proposal import Proposal, refuse_seen, sealed_parts
from dataworth.proving.rates import best_factor, search_factors
from dataworth.proving.registrations import opened_by, said
from dataworth.proving.trainers import learns, seedless
from dataworth.proving.trials import Training, TrialSet, common_unit, judged_by_metric, open_judged
from dataworth.records import Subtask
from dataworth.results import duration
from dataworth.session import Session
from dataworth.store.atomic import write_atomic
from dataworth.store.json_files import read_json
from dataworth.store.run import RunFolder

REGISTRATION = "registration.json"
CLAIMS = ("better", "as good as", "worse")
_ROUNDING = 1e-9
"""A skill whose loss is the margin to the last bits hasn't lost more."""


class Prover:
    """Runs the trials of a proposal and compares them.

    Args:
        session: Pool, goal, learner, engine.
        run: Where the registration is kept: arms and rules as proposed, before a trial is judged.
        proposal: Arms and rules.
    """

    def __init__(self, session: Session, run: RunFolder, proposal: Proposal) -> None:
        self.session, self.run, self.proposal = session, run, proposal
        proposed = json.loads(json.dumps(proposal.registration(session)))
        self.registration = self._register(proposed)
        opened = [(s, rows.open_for("proof")) for s, rows in sealed_parts(session)]
        refuse_seen(session, proposal.seen, {i for _, pool in opened for i in pool.ids})
        judged = (
            open_judged(session.trainee, opened)
            if session.metric is None
            else judged_by_metric(session, session.metric)
        )
        self.goals = len(session.goal.subtasks) if session.goal and session.metric is None else 1
        self.unit, self.higher = common_unit(judged[: self.goals])
        judge_ids = {i for s, pool in opened if isinstance(s, Subtask) for i in pool.ids}
        session.notes += said(opened_by(session.cache.root, judge_ids, proposed, run.path)) if judge_ids else []
        self.trials = TrialSet(session, judged)
        self.recipe = session.trainee.recipe
        self.untouched = Training((), (), self.recipe)
        # What the user's script measures on what it trained says nothing of a model that it didn't train.
        self.bare = [self.untouched] if session.metric is None else []
        self.lr = {arm.name: self.recipe.lr for arm in proposal.arms}
        self.tuned: dict[str, float] = {}

    def _register(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """What was registered, now or when this run began."""
        path = self.run.path / REGISTRATION
        if not path.exists():
            self._write(proposed)
        found = read_json(path, "delete the run folder; trials stay in the cache", {"arms": dict})
        differing = [k for k in proposed if proposed[k] != found.get(k)]
        if differing:
            raise RequestError(
                f"{path} registered another proof (differs in {', '.join(differing)}): a changed proof is a new one; "
                "choose another --run"
            )
        return found

    def _write(self, registration: Mapping[str, Any]) -> None:
        text = json.dumps(registration, indent=1, sort_keys=True) + "\n"
        write_atomic(self.run.path / REGISTRATION, text.encode())

    def afford(self, budget: float, workers: int, rates: Callable[[], TrialRates]) -> str:
        """Cut the proposal down to what a budget pays for; the cut is registered and holds for the run.

        Args:
            budget: Seconds of wall time.
            workers: How many trials run side by side.
            rates: Gives what training and judging take.

        Returns:
            What it pays for, in a sentence.
        """
        known = self.registration.get("affordable")
        if known is None:
            searches = len(self.proposal.lr_factors) - 1
            rate, seeds = rates(), self.proposal.rules.looks.seeds[-1]
            once = partial(self._shared, rate.states)
            plan = fit(self._prices(rate), seeds, budget, workers, more=searches, once=once)
            rules = self.proposal.only(plan.arms, plan.seeds).rules
            known = {
                "arms": list(plan.arms),
                "seeds": plan.seeds,
                "seconds": plan.seconds,
                "round": plan.round,
                "lr_further": plan.spares(budget, self.proposal.lr_further),
                "budget": budget,
                "comparisons": rules.comparisons,
                "level": {"two_sided": rules.alpha, "margin": rules.alpha_margin},
            }
            self.registration = {**self.registration, "affordable": known}
            self._write(self.registration)
        left = [a.name for a in self.proposal.arms if a.name not in known["arms"]]
        whole = self._curve_end()
        self.proposal = replace(
            self.proposal.only(known["arms"], known["seeds"]), lr_further=known.get("lr_further", 0)
        )
        lost = f"; left out: {', '.join(left)}" if left else ""
        self.session.notes += [f"--budget {duration(budget)} didn't pay for {', '.join(left)}"] if left else []
        sizes = sum(arm.role == "curve" for arm in self.proposal.others)
        if 0 < sizes < FULL_CURVE:
            self.session.notes.append(
                f"the random curve has {sizes} sizes, not {FULL_CURVE}: worth is read more coarsely"
            )
        if 0 < (end := self._curve_end()) < whole:
            self.session.notes.append(f"the random curve ends at {end:,} rows: of more than that worth says no number")
        shared = self.proposal.owners()  # one arm under two names, such as the random curve at the subject's size
        paid = ", ".join(name for name in known["arms"] if name not in shared)
        return f"{duration(budget)} pays for {known['seeds']} seeds of {paid}{lost}"

    def _curve_end(self) -> int:
        return max((arm.rows for arm in self.proposal.others if arm.role == "curve"), default=0)

    def timed(self) -> TrialRates:
        """What the user's own trainer takes a token, from the first trial of the proof.

        Every other trial is taken to need time in proportion to its tokens, whatever it takes to start.
        """
        first = next(self._schedule(1))
        training, began = self._training(first), time.perf_counter()
        self.session.progress.say("timing the trainer on the first trial")
        self.trials.run([training], "first trial", order=lambda t: 0)
        seconds = max(time.perf_counter() - began, self.trials.seconds(training))
        tokens = {arm.name: n for arm, n in self.proposal.sizes(self.session)}[first.arm]
        return TrialRates(seconds / max(1, tokens))

    def _prices(self, rate: TrialRates) -> list[ArmPrice]:
        fixed = rate.opening + self._judged * rate.judging
        found, owners = [], self.proposal.owners()
        for arm, trained in self.proposal.sizes(self.session):
            only_shown, seconds = arm in self.proposal.others and arm.role != "curve", trained * rate.training + fixed
            shares = owners.get(arm.name, "")
            found.append(ArmPrice(arm.name, arm.role, seconds, shares, only_shown, arm.rows, arm.per_seed))
        return found

    @property
    def _judged_rows(self) -> dict[str, int]:
        """How many rows each judged set has."""
        return {j.name: len(j.rows) for j in self.trials.judged}

    @cached_property
    def _judged(self) -> int:
        """Tokens (rows of a classifier) that every trial is judged on."""
        return sum(self.session.trainee.length(row) for j in self.trials.judged for row in j.rows)

    def _shared(self, states: float, arms: Sequence[ArmPrice]) -> float:
        """Seconds of the states of every row that these arms train on or are judged on, at so many a token."""
        pool, names = self.session.pool, {a.name for a in arms}
        drawn = set[str]().union(*(d.ids for a in self.proposal.arms if a.name in names for d in a.draws if not d.goal))
        trained_on = float(self.session.trainee.size_N[[pool.position[i] for i in drawn]].sum())
        return states * (self._judged + trained_on)

    def prove(self, tell: Callable[[str], None]) -> ProofResult:
        """Run to the last look, or to the first at which every subject's verdicts are claims.

        Args:
            tell: Called with a line before the first trial and after every one that changes where a comparison stands.
        """
        tell(f"every trial is judged {judged_on(self._judged_rows)}; a gain above 0 is for the first arm named")
        tell(self._foretell({}))
        gained = self._search()
        if gained and self.proposal.pairs:
            tell(self._foretell(gained))
        looks = self.proposal.rules.looks.seeds
        for n, seeds in enumerate(looks):
            self._run(seeds, tell)
            found = self.result(seeds, look=True)
            if n + 1 == len(looks) or (found.verdicts and all(v.word in CLAIMS for v in found.verdicts)):
                break
        self.trials.close()
        # Between looks nothing is said; after the last one silence needs a reason.
        why = "trials failed, so that the planned number of seeds wasn't reached: lower the learning rate"
        settled = [v if v.word else replace(v, word=CANNOT_TELL, reason=why) for v in found.verdicts]
        return replace(found, verdicts=tuple(settled))

    def _search(self) -> dict[str, float]:
        """Choose each arm's learning rate on tune rows, by its first seed at each factor; the judge rows have no say.

        Random arms are searched by both draws of that seed: a rate that suits one draw may break others.

        Returns:
            What the chosen one gained on tune rows over the untouched model, by arm; empty without a search.
        """
        goal, factors, shared = self.session.goal, self.proposal.lr_factors, self.proposal.owners()
        arms = [arm for arm in self.proposal.arms if arm.name not in shared]
        tuned = [(s, s.tune) for s in (goal.subtasks if goal else ()) if s.tune is not None]
        if len(factors) < 2:
            return {}
        if len(tuned) < self.goals:
            self.session.notes.append("no learning rate was searched: it needs tune rows for every subtask of the goal")
            return {}
        trials, recipe = TrialSet(self.session, open_judged(self.session.trainee, tuned)), self.recipe
        listed = ", ".join(f"{recipe.lr * f:.3g}" for f in factors)
        self.session.progress.say(f"each arm first tries learning rates {listed} on tune rows, and goes on from an end")

        def measure(asked: Sequence[tuple[str, float]]) -> dict[tuple[str, float], float]:
            first = list(self._schedule(1))
            grid = {(n, f): [self._training(t, recipe.lr * f) for t in first if t.arm == n] for n, f in asked}
            trainings = list(dict.fromkeys([self.untouched, *(t for listed in grid.values() for t in listed)]))
            trials.run(trainings, "learning rates", order=lambda t: -len(t.ids))
            found = {t: float(cost_J.mean()) for t, (cost_J, _) in trials.costs(trainings).items()}
            whole = {key: listed for key, listed in grid.items() if all(t in found for t in listed)}
            return {key: float(np.mean([found[t] for t in listed])) for key, listed in whole.items()}

        tried, at_end = search_factors([a.name for a in arms], factors, self.proposal.lr_further, measure)
        bare, gained = trials.costs([self.untouched]).get(self.untouched), {}
        for arm in arms:
            best = best_factor(tried[arm.name])
            cost = None if best is None else tried[arm.name][best]
            if best is None or cost is None:
                if arm not in self.proposal.others:
                    raise NonsenseRefused(
                        f"arm {arm.name!r} can't be trained at any learning rate: lower lr in --recipe"
                    )
                # Nobody asked for it, so it stops nothing.
                self.session.notes.append(f"{arm.name} can't be trained at any learning rate that was tried")
                continue
            self.lr[arm.name], self.tuned[arm.name] = recipe.lr * best, cost
            if bare is not None:
                gained[arm.name] = float(bare[0].mean()) - cost
        for name, owner in shared.items():
            if owner in self.tuned:
                self.lr[name], self.tuned[name] = self.lr[owner], self.tuned[owner]
        self._note_ends(tried, at_end)
        return gained

    def _note_ends(self, tried: Mapping[str, Mapping[float, float | None]], at_end: Sequence[str]) -> None:
        """Note the arms whose best learning rate lies at an end of what was tried."""
        unpaid = "" if self.proposal.lr_further else "; --budget didn't pay for going on from there"
        for way, end in (("higher", max), ("lower", min)):
            if names := [n for n in at_end if best_factor(tried[n]) == end(tried[n])]:
                self.session.notes.append(
                    f"the best learning rate of {', '.join(names)} lies at an end of the search: try a {way} lr in "
                    f"--recipe{unpaid}"
                )

    def _foretell(self, gained: Mapping[str, float]) -> str:
        """What the first comparison will be able to see, by trials in the cache, else by what the search gained."""
        if not self.proposal.pairs:
            return "each subset's worth is read off the curve of random rows"
        names, seeds = self.proposal.pairs[0], self.proposal.rules.looks.seeds[-1]
        of_arm: dict[str, list[Training]] = {name: [] for name in names}
        for trial in self._schedule(seeds):
            of_arm.get(trial.arm, []).append(self._training(trial))
        there = self.trials.costs([t for listed in of_arm.values() for t in listed])
        plan = {arm.name: arm for arm in self.proposal.arms}
        subject, other = (
            Arm(n, np.array([there[t][0][: self.goals].mean() for t in of_arm[n] if t in there]), plan[n].independent)
            for n in names
        )
        rules = self.proposal.rules
        margin = None if rules.margin is None else (rules.margin, rules.alpha_margin)
        gain, per_seed = gained.get(other.name), plan[other.name].per_seed
        found = foresee(subject, other, seeds, rules.alpha, gain, margin, per_seed)
        paid = self.registration.get("affordable")
        if not paid:
            return found.explain(self.unit)
        each = paid.get("round", paid["seconds"] / paid["seeds"])  # registrations of earlier versions don't say it
        return found.explain(self.unit, lambda n: paid["seconds"] + (n - paid["seeds"]) * each)

    def _run(self, seeds: int, tell: Callable[[str], None]) -> None:
        trainings = [*self.bare, *(self._training(t) for t in self._schedule(seeds))]
        place = {t: n for n, t in reversed(list(enumerate(trainings)))}
        round_of = {self._training(t): t.round for t in reversed(list(self._schedule(seeds)))}
        told: set[str] = set()

        def interim() -> None:
            """Tell the first comparison that a trial has moved: one of a random draw moves many."""
            if len(self.trials.costs(self.bare)) < len(self.bare):
                return
            found = self.result(seeds, look=False)
            lines = found.interim() if found.verdicts else [found.headline()]
            news = [line for line in lines if line not in told]
            told.update(news)
            if news:
                tell(news[0])

        self.trials.run(
            list(place),
            "trials",
            # Round by round, so that every comparison tightens; within one the longest first, to end together.
            order=lambda t: (round_of.get(t, -1), -len(t.ids), place[t]),
            done=interim,
        )

    def _schedule(self, seeds: int) -> Iterator[Trial]:
        return schedule(self.proposal.arms, seeds, seed=self.recipe.seed)

    def _training(self, trial: Trial, lr: float | None = None) -> Training:
        recipe = replace(self.recipe, seed=trial.seed, lr=self.lr[trial.arm] if lr is None else lr)
        draw = trial.draw
        return Training(draw.ids, draw.weights, recipe, self.proposal.tokens, draw.goal)

    def result(self, seeds: int, *, look: bool) -> ProofResult:
        """What the trials that are there say; at a look in words, else interim.

        Raises:
            NonsenseRefused: The untouched model couldn't be judged.
        """
        of_arm: dict[str, list[tuple[int, Training]]] = {}
        for trial in self._schedule(seeds):
            of_arm.setdefault(trial.arm, []).append((trial.number, self._training(trial)))
        trainings = [*self.bare, *(t for listed in of_arm.values() for _, t in listed)]
        found = self.trials.costs(trainings)
        if self.bare and self.untouched not in found:
            raise NonsenseRefused(f"the untouched model: {self.trials.failed.get(self.untouched, 'not judged yet')}")
        untouched_J = found[self.untouched][0] if self.bare else None
        failed = {
            f"{name}, trial {number}": self.trials.failed[t]
            for name, listed in of_arm.items()
            for number, t in listed
            if t in self.trials.failed
        }
        # A trial that failed is left out of its arm, and said; it isn't replaced by another's number.
        have = {name: {n: found[t] for n, t in listed if t in found} for name, listed in of_arm.items()}
        sets = len(self.trials.judged)
        costs_J = {n: np.array([c for c, _ in got.values()]).reshape(-1, sets) for n, got in have.items()}
        arms = {
            a.name: Arm(a.name, costs_J[a.name][:, : self.goals].mean(1), a.independent) for a in self.proposal.arms
        }
        untouched = None if untouched_J is None else float(untouched_J[: self.goals].mean())
        shares, no_shares = self._retained(arms, untouched)
        sizes = self._sizes(arms, {name: list(got) for name, got in have.items()}, untouched, look)
        told = [*self.trials.unjudged(trainings), *(seedless(arms.values()) if self.session.trainer else ())]
        odd = self._odd(arms, {name: list(got) for name, got in have.items()}, untouched) if look else []
        return ProofResult(
            run=self.run.path,
            protocol=self.proposal.protocol(self.session),
            unit=self.unit,
            higher=self.higher,
            seeds=seeds,
            verdicts=self._verdicts(arms, untouched, seeds if look else None),
            arms=tuple(
                self._arm(a, arms[a.name], costs_J[a.name], {n: tokens for n, (_, tokens) in have[a.name].items()})
                for a in self.proposal.arms
            ),
            untouched=untouched,
            sizes=sizes,
            retained=shares,
            protected=() if untouched_J is None else self._protected(costs_J, untouched_J),
            failed=failed,
            notes=(*self.session.notes, *no_shares, *told, *odd),
            length=self.session.trainee.length_name,
            judged=self._judged_rows,
        )

    def _verdicts(self, arms: Mapping[str, Arm], untouched: float | None, seeds: int | None) -> tuple[Verdict, ...]:
        """Verdicts; words of a look only where both arms have its trials: what is left of failed ones is no sample."""
        reached = {
            plan.name: seeds is not None and len(arms[plan.name].cost_R) >= seeds * plan.per_seed
            for plan in self.proposal.arms
        }
        return tuple(
            judge(arms[s], arms[c], self.proposal.rules, untouched=untouched, look=reached[s] and reached[c])
            for s, c in self.proposal.pairs
        )

    def _arm(self, plan: ArmPlan, arm: Arm, costs_RJ: NDArray[np.float64], tokens_of: Mapping[int, int]) -> ArmResult:
        means = (costs_RJ * self.trials.sign_J).mean(0) if len(costs_RJ) else np.zeros(0)
        return ArmResult(
            plan.name,
            plan.role,
            float(np.mean([d.rows for d in plan.draws])),
            float(np.mean(list(tokens_of.values()))) if tokens_of else 0.0,
            self.lr[plan.name] if learns(self.session.trainer, "lr") else None,
            tuple(tokens_of),
            tuple(arm.cost_R.tolist()),
            mean_interval(arm.cost_R) if len(arm.cost_R) > 1 else None,
            {j.name: float(m) for j, m in zip(self.trials.judged, means, strict=False)},
            self.tuned.get(plan.name),
        )

    def _sizes(
        self, arms: Mapping[str, Arm], numbers: Mapping[str, Sequence[int]], untouched: float | None, look: bool
    ) -> Sizes:
        """Worth of each subject on the random curve; at a look also what takes a law, and the fewest rows that do."""
        curve = self._curve(arms, numbers)
        if curve is None:
            return Sizes()
        subjects = [arms[s.name] for s in self.proposal.subjects if len(arms[s.name].cost_R) > 1]
        found = {s.name: worth(s.cost_R, curve) for s in subjects}
        if not look:
            return Sizes(found)
        sizes = {s.name: float(np.mean([d.rows for d in s.draws])) for s in self.proposal.subjects}
        laws = {s.name: beyond(s.cost_R, curve, found[s.name]) for s in subjects}
        full, enough = self._full(arms), None
        if full is not None and untouched is not None:
            with suppress(RequestError):  # told where the subjects' own shares are
                enough = smallest_keeping(curve, arms[full.name], untouched, pool_rows=full.rows)
        return Sizes(
            found,
            {name: law for name, law in laws.items() if law is not None},
            enough,
            {name: told for name, (told, _) in self.proposal.forecasts.items() if name in found},
            worth_more_each({s.name: s.cost_R for s in subjects}, sizes, curve),
        )

    def _curve(self, arms: Mapping[str, Arm], numbers: Mapping[str, Sequence[int]]) -> RandomCurve | None:
        sized = [a for a in self.proposal.others if a.role == "curve"]
        return random_curve(
            [(a.rows, dict(zip(numbers[a.name], arms[a.name].cost_R.tolist(), strict=True))) for a in sized]
        )

    def _odd(self, arms: Mapping[str, Arm], numbers: Mapping[str, Sequence[int]], untouched: float | None) -> list[str]:
        """What of the trials looks like a training gone wrong rather than like its rows."""
        curve = self._curve(arms, numbers)
        sign = -1.0 if self.higher == "better" else 1.0
        return apart(arms.values(), untouched) + (uneven(curve, sign) if curve else [])

    def _full(self, arms: Mapping[str, Arm]) -> ArmPlan | None:
        """The arm of all rows: the control, else the curve's last size, of which all draws are the same."""
        every = [a for a in (*self.proposal.controls, *self.proposal.others) if a.everything]
        return next((a for a in every if len(arms[a.name].cost_R) > 1), None)

    def _retained(self, arms: Mapping[str, Arm], untouched: float | None) -> tuple[dict[str, Estimate], list[str]]:
        """Each subject's share of the full pool's improvement, and why there is none."""
        full = self._full(arms)
        found: dict[str, Estimate] = {}
        why: list[str] = []
        for subject in (arms[s.name] for s in self.proposal.subjects):
            if full is not None and untouched is not None and len(subject.cost_R) > 1:
                try:
                    found[subject.name] = retained(subject, arms[full.name], untouched)
                except RequestError as reason:
                    why.append(f"{subject.name}: no share of the full pool's improvement: {reason}")
        return found, why

    def _protected(
        self, costs_J: Mapping[str, NDArray[np.float64]], untouched_J: NDArray[np.float64]
    ) -> tuple[Kept, ...]:
        skills = self.session.goal.protected if self.session.goal else ()
        # The lower end is a one-sided bound at 5 % of a proof, over every skill that a subject may be shown to lose.
        level = 1 - 2 * LEVEL / max(1, len(skills) * len(self.proposal.subjects))
        found = []
        for n, skill in enumerate(skills, self.goals):
            for arm in (*self.proposal.subjects, *self.proposal.controls):
                lost_R = costs_J[arm.name][:, n] - untouched_J[n]
                if len(lost_R) > 1:
                    cost = mean_interval(lost_R, level=level)
                    margin = skill.margin or 0.0
                    found.append(Kept(skill.name, arm.name, cost, margin, cost.low > margin + _ROUNDING))
        return tuple(found)
