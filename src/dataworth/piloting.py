"""`--policy auto`: which end of a score to keep, by a pilot training on each end at the target size.

Hard examples are worth keeping where data are abundant and easy ones where they are scarce (Sorscher et al. 2022, arXiv
2206.14486; exact for the perceptron in `laws.abundance`); where that turns depends on learner, data and score, so it
is asked of them. Two trainings are no proof: their difference is told with its standard error over the judging rows,
and `prove` is what shows whether the pick is worth anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dataworth import plugins
from dataworth.config import Request, SelectRequest
from dataworth.errors import NonsenseRefused, RequestError
from dataworth.records import Goal
from dataworth.results import Selection
from dataworth.session import Session

if TYPE_CHECKING:
    from dataworth.proving.trial_work import Judged
    from dataworth.proving.trials import RowValues, Training, TrialSet

_HELD_SHARE, _HELD_MOST, _HELD_LEAST = 0.1, 2000, 20
_OTHER = {"keep": "drop", "drop": "keep"}
_OUT = ("unscored", "excluded", "no-tokens", "near-goal")

Run = Callable[[Mapping[str, Any]], Selection]
"""A pick with its budget and options; takes its inputs."""


def policy_of(request: Request) -> str | None:
    """The policy of a request; None where the pick's own end is kept."""
    return request.policy if isinstance(request, SelectRequest) else None


def tuned_by(goal: Goal) -> list[str | None]:
    """Fingerprints of the tune rows, which decide a piloted pick."""
    return [sub.tune.fingerprint if sub.tune is not None else None for sub in goal.subtasks]


def refuse_policy(request: SelectRequest, needs: frozenset[str]) -> None:
    """Refuse a policy that can't be followed, before any work.

    Raises:
        RequestError: An unknown one, a pick that reads no score or keeps one end only, or no learner to pilot.
    """
    if request.policy is None:
        return
    if request.policy != "auto":
        raise RequestError(f"policy={request.policy!r}: expected auto; correct --policy or leave it out")
    if "score" not in needs:
        raise RequestError("--policy auto with a pick that reads no score: expected one such as top_k; correct --pick")
    if not getattr(plugins.load("picks", request.pick), "both_ends", True):
        raise RequestError(
            f"--policy auto with --pick {request.pick}, which can keep the high end only: expected a pick of either "
            "end, such as top_k; correct --pick or leave --policy out"
        )
    if request.model is None:
        raise RequestError("--policy auto trains pilots: expected --model, the learner; name it")


def piloted(session: Session, inputs: Mapping[str, Any], run: Run) -> Selection:
    """The pick from the end of the score on which a pilot does better, judged by tune rows.

    Without a goal, hash-chosen rows of the pool are the judges; neither pilot trains on them or on copies of them.
    Which pilot did how is noted.

    Raises:
        RequestError: A goal without tune rows or with judges of different units, too few rows to hold some out, or
            pilots that would be one.
        NonsenseRefused: A pilot can't be trained or judged.
    """
    from dataworth.proving.trials import TrialSet

    ends = {"usual": inputs, "other": {**inputs, "higher": _OTHER[inputs.get("higher", "keep")]}}
    picks = {name: run(given) for name, given in ends.items()}
    if set(picks["usual"].ids) == set(picks["other"].ids):
        session.notes.append("--policy auto: both ends are the same rows, so nothing was piloted")
        return picks["usual"]
    judged, held, goals = judges(session, "--policy auto")
    training = _trainings(session, {name: run(without(given, held)) for name, given in ends.items()})
    trials = TrialSet(session, judged)
    trials.run(list(training.values()), "pilots", order=lambda t: 0)
    found = trials.costs(training.values())
    trials.close()
    for name, trained in training.items():
        if trained not in found:
            raise NonsenseRefused(f"--policy auto: the pilot on the {name} end: {trials.failed[trained]}")
    cost = {name: float(found[t][0][:goals].mean()) for name, t in training.items()}
    better = min(cost, key=lambda name: (cost[name], name == "other"))
    session.notes += [_told(trials, training, cost, better, goals), *trials.unjudged(training.values())]
    return picks["usual"] if better == "usual" else _turned(picks["other"])


def _trainings(session: Session, pilots: Mapping[str, Selection]) -> dict[str, Training]:
    """A training on each pilot's rows."""
    from dataworth.proving.trials import Training

    if set(pilots["usual"].ids) == set(pilots["other"].ids):
        raise RequestError(
            "--policy auto without a goal holds out a tenth of the rows, and of the others both pilots would take all: "
            "expected a smaller --keep, or --goal with tune rows"
        )
    recipe = session.trainee.recipe
    return {
        name: Training(picked.ids, tuple(float(w) for w in picked.weights), recipe) for name, picked in pilots.items()
    }


def _turned(picked: Selection) -> Selection:
    """The pick with reasons that say which end was kept; rows that no end takes keep theirs."""
    texts = {
        code: text if code in _OUT else f"{text} (from the other end of the score, by --policy auto)"
        for code, text in picked.reason_texts.items()
    }
    return replace(picked, reason_texts=texts, turned=True)


def judges(session: Session, who: str) -> tuple[list[Judged], frozenset[str], int]:
    """What judges pilots of `who`, the pool's rows that they mustn't train on for it, and how many sets are the goal's.

    Raises:
        RequestError: A goal without tune rows or with judges of different units, or too few rows to hold some out.
    """
    from dataworth.proving.held_out import held_out_rows
    from dataworth.proving.trial_work import Judged
    from dataworth.proving.trials import common_unit, open_judged

    trainee, goal = session.trainee, session.goal
    if goal is None:
        held = held_out_rows(session, _HELD_SHARE, _HELD_MOST, _HELD_LEAST, "pilots", who)
        kind = "accuracy" if session.classifies else "loss"
        return [Judged("held-out rows", trainee.judge(kind), trainee.judged(held.rows))], held.untrained, 1
    tuned = [(sub, sub.tune) for sub in goal.subtasks if sub.tune is not None]
    if len(tuned) < len(goal.subtasks):
        raise RequestError(
            f"{who} with a goal without tune rows: expected `tune:` for every subtask; `dataworth goal FILE` "
            "makes such a goal.yaml"
        )
    found = open_judged(trainee, tuned)
    common_unit(found)
    return found, frozenset(), len(found)


def without(inputs: Mapping[str, Any], held: frozenset[str]) -> dict[str, Any]:
    """A pick's inputs with the held-out rows no longer eligible."""
    kept_N = np.array([i not in held for i in inputs["ids"]], dtype=bool)
    excluded = {**inputs["excluded"], **dict.fromkeys(held, ("held-out", "judges the pilots"))}
    return {**inputs, "eligible_N": inputs["eligible_N"] & kept_N, "excluded": excluded}


def _standard_error(one: Sequence[RowValues], other: Sequence[RowValues]) -> float:
    """Of the difference of two trials' numbers, over the rows that both were judged on, sets averaged."""
    variances = []
    for (row_q, value_q, weight_q), (at_q, beside_q, _) in zip(one, other, strict=True):
        _, mine, theirs = np.intersect1d(row_q, at_q, return_indices=True)
        difference_q, share_q = value_q[mine] - beside_q[theirs], weight_q[mine] / weight_q[mine].sum()
        off_q = share_q * (difference_q - difference_q @ share_q)
        variances.append(float(off_q @ off_q))
    return float(np.sqrt(sum(variances)) / len(variances))


def _told(
    trials: TrialSet, training: Mapping[str, Training], cost: Mapping[str, float], better: str, goals: int
) -> str:
    """What the pilots came to, with the standard error of their difference over the judging rows of the first set."""
    judge, rows = trials.judged[0].judge, sum(len(row) for row, *_ in trials.values(training["usual"])[:goals])
    sign = float(trials.sign_J[0])
    shown = {name: f"{sign * value:.4g}" for name, value in cost.items()}
    error = _standard_error(trials.values(training["usual"])[:goals], trials.values(training["other"])[:goals])
    kept = "the score's usual end" if better == "usual" else "the other end of the score"
    unsure = "" if abs(cost["usual"] - cost["other"]) > 2 * error else ", which is within its noise"
    return (
        f"--policy auto kept {kept}: pilots of this size reached {judge.unit} {shown['usual']} on the usual end and "
        f"{shown['other']} on the other, over {rows:,} rows (standard error of the difference over rows "
        f"{error:.2g}{unsure}; one training each, so this is a choice and no proof)"
    )
