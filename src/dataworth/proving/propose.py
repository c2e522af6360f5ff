"""From a `prove` request to the arms of its proof: the subjects, what they are compared with, and the random curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dataworth import config
from dataworth.errors import NonsenseRefused, RequestError
from dataworth.forecasts import forecast_subject, is_about
from dataworth.proof.arms import (
    RANDOM_DRAWS,
    ArmPlan,
    Draw,
    curve_arms,
    curve_sizes,
    fixed_arm,
    method_arm,
    random_arm,
    stratified_arm,
    token_matched_arm,
)
from dataworth.proof.looks import THREE_LOOKS, looks_at
from dataworth.proof.verdict import Rules
from dataworth.proving import rates
from dataworth.proving.proposal import TWIN, Proposal, pairs_of
from dataworth.proving.provable import controls_of, method_of
from dataworth.proving.subsets import Subset, read_subset
from dataworth.proving.trainers import refuse_fractions
from dataworth.records import Budget
from dataworth.session import Session
from dataworth.store.fingerprint import fingerprint

USUAL = "random,full"
_UNLIKE = 1.25
"""A subject's rows that are so many times as long as random ones, or as short, train on something else, too."""
_SAME_SIZE = 0.02
"""Subsets whose rows differ by such a share are of one size."""

Best = Callable[[str, int, int], Sequence[str]]
"""(score, rows, seed) -> ids of so many rows that are best by it, its warm-up and other draws made by the seed."""


def propose(session: Session, request: config.TrialRequest, best: Best) -> Proposal:
    """Arms and rules of a request; `best` picks the rows of scores that are compared with.

    The gate has been through the session already: near-goal rows are in no arm but in a subject that brought them,
    which then has a twin without them, so that the gain is shown with and without.

    Raises:
        RequestError: A subset that isn't one, subsets of different sizes to prove, an unknown control.
    """
    looks = looks_at(THREE_LOOKS if request.looks else (request.seeds,))
    subsets = _subsets(session, request, best, looks.seeds[-1])
    plain = list(subsets)
    if isinstance(request, config.ProveRequest):
        arms = _Arms(session, _one_size(plain), looks.seeds[-1], best)
        controls = _controls(arms, request.against or USUAL, plain)
        others = _beside(session, arms, controls, plain, usual=request.against is None)
        others += arms.curve([arms.size]) if request.curve else []
        if request.protocol != "tokens" and {c.name for c in controls} & {"random", "full"}:
            session.notes += [note for arm, s in subsets.items() if s or not session.dry for note in arms.longer(arm)]
    else:
        arms = _Arms(session, max(arm.rows for arm in plain), looks.seeds[-1], best)
        controls, others = [], arms.curve([arm.rows for arm in plain])
    taken = {arm.name for arm in (*controls, *others)}
    named = [replace(a, name=f"{a.name} (subset)" if a.name in taken else a.name) for a in plain]
    subjects = [arm for one in named for arm in _with_clean_twin(session, one)]
    comparisons = len(pairs_of([s.name for s in subjects], [c.name for c in controls]))
    rules = Rules(looks, max(1, comparisons), request.margin)
    tokens = max(map(arms.tokens, plain)) * session.trainee.recipe.epochs if request.protocol == "tokens" else None
    no_search = session.trainer.no_search if session.trainer else ""
    session.notes += [no_search] if request.lr_search and no_search else []
    factors, further = (rates.FACTORS, rates.FURTHER) if request.lr_search and not no_search else ((1.0,), 0)
    found = [(arm.name, s) for arm, s in zip(named, subsets.values(), strict=True) if s is not None]
    seen = {name: s.seen for name, s in found}
    about = [(name, s, forecast_subject(session, s.ids)) for name, s in found if s.forecast and not request.metric]
    foretold = {name: (s.forecast, fingerprint(of)) for name, s, of in about if s.forecast and is_about(s.of, of)}
    return Proposal(tuple(subjects), tuple(controls), tuple(others), rules, tokens, factors, further, seen, foretold)


def _subsets(session: Session, request: config.TrialRequest, best: Best, trials: int) -> dict[ArmPlan, Subset | None]:
    """The subjects as arms under names that differ, each with the subset that it is; a method is none."""
    mapping = config.pairs(request.map, "--map") or None
    subsets = {p: read_subset(p, session.pool, mapping) for p in request.subset if not method_of(p)}
    for subset in subsets.values() if session.trainer else ():
        refuse_fractions(subset.weights, subset.name)
    repeated = len({s.name for s in subsets.values()}) < len(subsets)
    found: dict[ArmPlan, Subset | None] = {}
    for n, path in enumerate(dict.fromkeys(request.subset), 1):
        if path not in subsets:
            found[_method_arm(session, path, best, trials)] = None
            continue
        subset = subsets[path]
        name = f"{subset.name}-{n}" if repeated else subset.name
        if subset.unmatched:
            session.notes.append(
                f"{name}: {len(subset.unmatched)} of its rows are not in the pool and are left out, "
                f"such as {subset.unmatched[0]}"
            )
        found[fixed_arm(name, "subject", subset.ids, subset.weights)] = subset
    return found


def _method_arm(session: Session, given: str, best: Best, trials: int) -> ArmPlan:
    """The best rows by a score, selected anew in every trial: the claim is about the method.

    Raises:
        RequestError: A size that isn't rows or a share.
    """
    name, _, keep = given.partition("@")
    rows, seed = Budget.parse(keep).rows(len(session.pool)), session.request.seed
    arm = method_arm(given, [best(name, rows, seed + r) for r in range(trials)], len(session.pool))
    if arm.alike:
        session.notes.append(f"{given}: its selections share most of their rows, so it is judged as one subset")
    return arm


def _one_size(plain: Sequence[ArmPlan]) -> int:
    """The size at which random rows are drawn.

    Raises:
        RequestError: The subsets have no size in common.
    """
    size = round(float(np.median([arm.rows for arm in plain])))
    if any(abs(arm.rows - size) > _SAME_SIZE * size for arm in plain):
        sizes = ", ".join(f"{arm.name} {arm.rows:,}" for arm in plain)
        raise RequestError(
            f"subsets of different sizes ({sizes}): expected one size to draw at random; prove them apart, or compare "
            "them by `dataworth worth`"
        )
    return size


def _beside(
    session: Session, arms: _Arms, controls: Sequence[ArmPlan], plain: Sequence[ArmPlan], *, usual: bool
) -> list[ArmPlan]:
    """Arms that are shown without a verdict, which would cost the others power.

    Random rows always, and unless the request names its own the baselines that need no model; but none whose rows a
    subject has anyway.
    """
    names = [] if any(c.role == "random" for c in controls) else ["random"]
    if usual and not session.classifies:
        names += ["longest"] if session.goal is None else ["longest", "bm25"]
    taken = {frozenset(draw.ids) for arm in plain for draw in arm.draws if not draw.weights}
    found = []
    for name in names:
        try:
            found.append(arms.control(name, plain[0]))
        except (NonsenseRefused, RequestError) as reason:  # nobody asked for it, so it stops nothing
            session.notes.append(f"{name} isn't shown beside: {reason}")
    return [a for a in found if frozenset(a.draws[0].ids) not in taken]


def _controls(arms: _Arms, against: str, plain: Sequence[ArmPlan]) -> list[ArmPlan]:
    """What `--against` names.

    Raises:
        RequestError: Nothing, or what isn't defined for several subsets.
    """
    names = controls_of(against)
    if not names or ("random-tokens" in names and len(plain) > 1):
        raise RequestError(
            f"--against {against!r} with {len(plain)} subsets: expected at least one arm such as random, and "
            "random-tokens for one subset alone"
        )
    per_seed = 1 if any(arm.independent for arm in plain) else RANDOM_DRAWS
    return [arms.control(name, plain[0], per_seed) for name in names]


def _with_clean_twin(session: Session, arm: ArmPlan) -> list[ArmPlan]:
    """A subject, and its twin without near-goal rows if it has any; rows that carry no loss are told.

    Raises:
        RequestError: None of its rows could show anything.
    """
    draw = arm.draws[0]
    dull = session.trainee.unscored
    lost, near = (sum(i in some for i in draw.ids) for some in (dull, session.excluded))
    if all(i in dull or i in session.excluded for i in draw.ids):
        why = "carry no loss" if lost == len(draw.ids) else "nearly equal goal or protected rows"
        why += " or carry no loss" if lost and lost < len(draw.ids) else ""
        raise RequestError(f"{arm.name}: all of its rows {why}: nothing can be shown of it; choose other rows")
    if lost:
        session.notes.append(f"{arm.name}: {lost:,} of its rows carry no loss and are left out of its training")
    if not near:
        return [arm]
    clean = [n for n, i in enumerate(draw.ids) if i not in session.excluded]
    weights = [draw.weights[n] for n in clean] if draw.weights else ()
    twin = fixed_arm(arm.name + TWIN, "subject", [draw.ids[n] for n in clean], weights)
    fewer = ""
    if near > _SAME_SIZE * arm.rows:
        fewer = ", so its worth tells more than a comparison with random rows, which would be more"
    session.notes.append(
        f"{arm.name}: {near:,} of its rows nearly equal goal rows; both are shown, without them for "
        f"{twin.rows:,} rows of {arm.rows:,}{fewer}"
    )
    return [arm, twin]


class _Arms:
    """Arms drawn from the rows that carry loss and aren't near the goal."""

    def __init__(self, session: Session, size: int, trials: int, best: Best) -> None:
        self.session, self.size, self.trials, self.best = session, size, trials, best
        pool, unscored, size_N = session.pool, session.trainee.unscored, session.trainee.size_N
        usable = [n for n, i in enumerate(pool.ids) if i not in session.excluded and i not in unscored]
        self.position = np.array(usable, dtype=np.int64)
        self.ids = tuple(pool.ids[n] for n in usable)
        self.token_N, self.token_of = size_N[self.position], dict(zip(pool.ids, size_N.tolist(), strict=True))
        if len(self.ids) < size:
            near, dull = (sum(i in lost for i in pool.ids) for lost in (session.excluded, unscored))
            raise RequestError(
                f"{len(self.ids):,} of {len(pool):,} rows can be drawn at random ({near:,} are near goal or protected "
                f"rows, {dull:,} carry no loss): expected the {size:,} of the subset; check --goal, --protect and --map"
            )

    def tokens(self, arm: ArmPlan) -> int:
        """Training tokens of a fixed arm in one epoch."""
        return arm.draws[0].tokens(self.token_of)

    def longer(self, arm: ArmPlan) -> list[str]:
        """A note where a subject trains on much more, or less, than as many random rows would."""
        share = self.tokens(arm) / max(1.0, arm.rows * float(self.token_N.mean()))
        if 1 / _UNLIKE < share < _UNLIKE:
            return []
        return [
            f"{arm.name}: its rows have {share:.2g} times the {self.session.trainee.unit}s of random ones, so that "
            "what it gains or loses may be that alone: --protocol tokens or --against random-tokens takes it away"
        ]

    def control(self, name: str, subject: ArmPlan, per_seed: int = 1) -> ArmPlan:
        """What `--against` names: an arm of ours, else the best rows by the score of that name.

        Random rows are drawn `per_seed` times a seed.
        """
        seed, draws = self.session.request.seed, per_seed * self.trials
        made: dict[str, Callable[[], ArmPlan]] = {
            "random": lambda: random_arm(self.ids, self.size, draws, seed=seed),
            "random-tokens": lambda: token_matched_arm(self.ids, self.token_N, self.tokens(subject), draws, seed=seed),
            "random-source": lambda: stratified_arm(
                self.ids, self.session.pool.source_N[self.position], self.size, draws, seed=seed
            ),
            "full": lambda: fixed_arm("full", "full", self.ids),
            "goal-only": self._goal_only,
            "longest": lambda: fixed_arm("longest", "baseline", self.best("length", self.size, seed)),
        }
        if name in made:
            arm = made[name]()
            return replace(arm, per_seed=per_seed) if arm.redrawn else arm
        return fixed_arm(name, "baseline", self.best(name, self.size, seed))

    def _goal_only(self) -> ArmPlan:
        """The steer rows themselves: what a user could train on by hand.

        Raises:
            RequestError: None of them carries loss.
        """
        rows = self.session.trainee.steer()
        if not rows:
            raise RequestError("--against goal-only: none of the goal's steer rows carries loss; check --goal-map")
        said = fingerprint({"rows": [r.said for r in rows]})
        return ArmPlan("goal-only", "baseline", (Draw(tuple(r.id for r in rows), goal=said),))

    def curve(self, sizes_of: Sequence[int]) -> list[ArmPlan]:
        """Random rows at halvings of the pool and at the subjects' sizes, in nested chains."""
        sizes = curve_sizes(len(self.ids), include=sizes_of)
        return curve_arms(self.ids, sizes, self.trials, seed=self.session.request.seed)
