"""`--keep auto`: the smallest pick that is as good as training on everything, within a margin that the user states.

The method's pick and random rows are trained at halvings of the pool, and everything is, with several seeds each; the
goal's tune rows judge. Each of these arms trains at its own best learning rate: at one rate fewer rows mean fewer
steps, and everything would win by those alone. It is searched as `prove` searches, but by a training that isn't tested,
as the same rows judge: the luck of the best of several would count for what scatters most. Sizes are tested from the
largest down by two one-sided tests, and the first that isn't shown to be as good ends it: a fixed order needs no
correction for how many are tested. "Keep everything" is an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dataworth import config
from dataworth.errors import NonsenseRefused, RequestError
from dataworth.piloting import without
from dataworth.proving import rates
from dataworth.records import Budget
from dataworth.results import Selection, table
from dataworth.session import Session

AUTO = "auto"
SEEDS = 3
_ONCE = 1 + 2 * (1 / 2 + 1 / 4 + 1 / 8 + 1 / 16)
TRAININGS = (SEEDS + len(rates.FACTORS)) * _ONCE, (SEEDS + len(rates.FACTORS) + rates.FURTHER) * _ONCE
"""What the sizes cost at least and at most, in trainings on everything."""
_GOOD = ("as good as", "better")

Run = Callable[[Mapping[str, Any], Budget], Selection]
"""A pick with its options; takes its inputs and a budget."""


def sizes_itself(request: config.Request) -> bool:
    """Whether trainings decide how much a request keeps."""
    return isinstance(request, config.SelectRequest) and request.keep.strip().lower() == AUTO


def budget_of(request: config.SelectRequest) -> Budget | None:
    """How much to keep; None where trainings decide.

    Raises:
        RequestError: `--keep auto` without what it takes, or `--margin` without it.
    """
    if not sizes_itself(request):
        if request.margin is not None:
            raise RequestError("--margin is for --keep auto: expected none beside a size; leave it out")
        return Budget.parse(request.keep)
    if request.model is None or request.margin is None or not request.margin > 0:
        raise RequestError(
            "--keep auto trains at several sizes: expected --model and --margin X, the loss (in the goal's unit) that "
            "doesn't matter; name them, or give a size"
        )
    if request.policy is not None:
        raise RequestError("--keep auto with --policy: expected one of them; choose the end of the score first")
    return None


Judges = tuple[Sequence[Any], frozenset[str], int]
"""What `piloting.judges` found: sets, rows that mustn't be trained on, how many sets are the goal's."""


def sized(session: Session, inputs: Mapping[str, Any], run: Run, found: Judges) -> Selection:
    """The smallest pick shown to be as good as everything within the margin, or everything; its notes say why.

    Raises:
        RequestError: A goal without tune rows, or too few rows for sizes.
        NonsenseRefused: Trials can't be trained or judged.
    """
    from dataworth.proof.arms import curve_arms, curve_sizes
    from dataworth.proof.looks import looks_at
    from dataworth.proof.verdict import MOST_MARGIN, Arm, Rules, judge

    request = session.request
    assert isinstance(request, config.SelectRequest) and request.margin is not None  # budget_of has seen to it
    margin = request.margin
    judged, held, goals = found
    given = without(inputs, held)
    ids = [i for i, eligible in zip(given["ids"], given["eligible_N"], strict=True) if eligible]
    ids = [i for i in ids if i not in session.trainee.unscored]
    sizes = curve_sizes(len(ids))
    picked = {n: run(given, Budget("rows", n)) for n in sizes[:-1]}
    draws = {a.rows: a.draws for a in curve_arms(ids, sizes[:-1], SEEDS + 1, seed=session.request.seed)}
    session.progress.say(
        f"--keep auto trains {trainings()} as much as one training on everything: {SEEDS} seeds of everything, and of "
        f"picks and random rows of {', '.join(f'{n:,}' for n in sizes[:-1])}, after a search for each one's learning "
        "rate"
    )
    cost, lr = _costs(session, judged, goals, ids, picked, draws)
    untouched = float(cost.pop("untouched")[0])
    gained = untouched - float(cost["everything"].mean())
    if margin >= MOST_MARGIN * gained:
        final = run(inputs, Budget("rows", int(np.sum(inputs["eligible_N"]))))
        why = (
            f"--keep auto keeps everything: a margin of {margin:g} is more than half of what training on everything "
            f"gains ({gained:.3g}), so it would accept what learnt little; give a smaller --margin"
        )
        return replace(final, notes=(*final.notes, _shown(judged[0].judge, sizes, cost, lr), why))
    everything = Arm("everything", cost["everything"], False)
    rules = Rules(looks_at((SEEDS,)), 1, margin)
    kept, verdicts = len(ids), []
    for n in sorted(picked, reverse=True):
        if f"pick {n}" not in cost:  # a training failed, which is noted
            break
        arm = Arm(f"{n:,} picked rows", cost[f"pick {n}"], False)
        verdict = judge(arm, everything, rules, untouched=untouched, look=True)
        verdicts.append(f"{n:,} picked rows: {verdict.text}")
        if verdict.word not in _GOOD:
            break
        kept = n
    final = run(inputs, Budget("rows", kept if kept < len(ids) else int(np.sum(inputs["eligible_N"]))))
    return replace(final, notes=(*final.notes, *_told(judged[0].judge, sizes, cost, lr, kept, margin), *verdicts))


def trainings() -> str:
    """What the sizes cost, in words."""
    return f"{TRAININGS[0]:.0f} to {TRAININGS[1]:.0f} times"


def _costs(
    session: Session,
    judged: Sequence[Any],
    goals: int,
    ids: Sequence[str],
    picked: Mapping[int, Selection],
    draws: Mapping[int, Sequence[Any]],
) -> tuple[dict[str, Any], dict[str, float]]:
    """Costs by arm, `[seeds]`, and its learning rate: everything, and the pick and random rows of each size.

    An arm of which a training failed has no costs, which is noted.

    Raises:
        NonsenseRefused: Training on everything failed, or the untouched model can't be judged.
    """
    from dataworth.proving.trials import Training, TrialSet

    recipe = session.trainee.recipe
    rows: dict[str, list[tuple[Sequence[str], Iterable[float]]]] = {"everything": [(ids, ())] * (SEEDS + 1)}
    for n, pick in picked.items():
        rows[f"pick {n}"] = [(pick.ids, pick.weights)] * (SEEDS + 1)
        rows[f"random {n}"] = [(draw.ids, ()) for draw in draws[n]]
    trials, untouched = TrialSet(session, judged), Training((), (), recipe)

    def training(name: str, seed: int, factor: float) -> Training:
        kept, weights = rows[name][seed]
        own = replace(recipe, seed=recipe.seed + seed, lr=recipe.lr * factor)
        return Training(tuple(kept), tuple(map(float, weights)), own)

    def run(wanted: Iterable[Training], stage: str) -> dict[Training, float]:
        listed = list(wanted)
        trials.run(listed, stage, order=lambda t: -len(t.ids))
        return {t: float(cost_J[:goals].mean()) for t, (cost_J, _) in trials.costs(listed).items()}

    def measure(asked: Sequence[tuple[str, float]]) -> dict[tuple[str, float], float]:
        grid = {(name, factor): training(name, SEEDS, factor) for name, factor in asked}
        found = run(grid.values(), "learning rates")
        return {key: found[t] for key, t in grid.items() if t in found}

    tried, at_end = rates.search_factors(rows, rates.FACTORS, rates.FURTHER, measure)
    best = {name: rates.best_factor(cost) or 1.0 for name, cost in tried.items()}
    lr = {name: recipe.lr * factor for name, factor in best.items()}
    arms = {name: [training(name, s, best[name]) for s in range(SEEDS)] for name in rows} | {"untouched": [untouched]}
    found = run((t for listed in arms.values() for t in listed), "sizes")
    trials.close()
    for way, end in (("higher", max), ("lower", min)):
        if names := [name for name in at_end if best[name] == end(tried[name])]:
            session.notes.append(
                f"the best learning rate of {', '.join(names)} lies at an end of the search: try a {way} lr in --recipe"
            )
    for name, listed in arms.items():
        if why := next((trials.failed.get(t, "no trial") for t in listed if t not in found), ""):
            told = f"{name} rows at a learning rate of {lr[name]:.3g}: {why}" if name in lr else f"{name} model: {why}"
            if name in ("everything", "untouched"):
                raise NonsenseRefused(f"--keep auto: {told}")
            session.notes.append(f"{told}; so they are left out")
    whole = {name: listed for name, listed in arms.items() if all(t in found for t in listed)}
    return {name: np.array([found[t] for t in listed]) for name, listed in whole.items()}, lr


def _shown(judge_of: Any, sizes: Sequence[int], cost: Mapping[str, Any], lr: Mapping[str, float]) -> str:
    """The curves of the pick and of random rows, with 95 % intervals over trainings, and learning rates."""
    from dataworth.numerics.ranks import mean_interval

    sign = 1.0 if judge_of.higher == "worse" else -1.0

    def cell(name: str) -> str:
        if name not in cost:
            return "a training failed"
        found = mean_interval(sign * cost[name])
        return f"{found.value:.4f} [{found.low:.4f} .. {found.high:.4f}] at {lr[name]:.2g}"

    rows = [[f"{n:,}", *(cell(f"{who} {n}") for who in ("pick", "random"))] for n in sizes[:-1]]
    rows.append([f"{sizes[-1]:,} (everything)", *[cell("everything")] * 2])
    return table(rows, ["rows", f"pick ({judge_of.unit}) at its learning rate", "random"])


def _told(
    judge_of: Any, sizes: Sequence[int], cost: Mapping[str, Any], lr: Mapping[str, float], kept: int, margin: float
) -> list[str]:
    """The curves, what was decided, how random rows of that size did, and what the next doubling would bring."""
    from dataworth.numerics.ranks import difference_interval

    shown = _shown(judge_of, sizes, cost, lr)
    if kept == sizes[-1]:
        half = max(n for n in sizes if n < kept)
        lines = [
            f"--keep auto keeps everything: {half:,} rows aren't shown to be as good within {margin:g} by the recipe's "
            f"epochs and each one's own learning rate, which is {lr['everything']:.3g} for everything"
        ]
        if f"pick {half}" in cost:
            gain = difference_interval(cost[f"pick {half}"], cost["everything"])
            more = (
                f"the other {kept - half:,} rows gain {gain} {judge_of.unit}, and cost as much training again as these"
            )
            lines.append(more)
        return [shown, *lines]
    after = min(n for n in sizes if n > kept)
    beyond = cost["everything"] if after == sizes[-1] else cost[f"pick {after}"]
    gain = difference_interval(cost[f"pick {kept}"], beyond)
    lines = [
        f"--keep auto keeps {kept:,} rows ({kept / sizes[-1]:.0%}), the fewest of these sizes shown to be as good as "
        f"everything within {margin:g} by the recipe's epochs and each one's own learning rate ({SEEDS} "
        "trainings each, judged on tune rows: dataworth prove judges on sealed ones)",
        f"train them at a learning rate of {lr[f'pick {kept}']:.3g}, at which this was shown (everything did best at "
        f"{lr['everything']:.3g})",
    ]
    if f"random {kept}" in cost:
        ahead = difference_interval(cost[f"random {kept}"], cost[f"pick {kept}"])
        word = "better than" if ahead.low > 0 else "worse than" if ahead.high < 0 else "not shown to differ from"
        lines.append(f"the pick is {word} as many random rows (gain {ahead} {judge_of.unit})")
    more = f"the next {after - kept:,} rows would gain {gain} {judge_of.unit} for {after / kept:.3g} times the training"
    return [shown, *lines, more]
