"""`--policy auto`: which end of a score to keep, by a pilot training on each end at the target size.

Hard examples are worth keeping where data are abundant and easy ones where they are scarce (Sorscher et al. 2022, arXiv
2206.14486; exact for the perceptron in `laws.abundance`); where that turns depends on learner, data and score, so it
is asked of them. Two trainings are no proof: their difference is told with its standard error over the judging rows,
and `prove` is what shows whether the pick is worth anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dataworth.config import Request, SelectRequest
from dataworth.errors import NonsenseRefused, RequestError
from dataworth.records import hash_unit
from dataworth.results import Selection
from dataworth.session import Session

if TYPE_CHECKING:
    from dataworth.proving.trials import RowValues, Training, TrialSet

_HELD_SHARE, _HELD_MOST, _HELD_LEAST = 0.1, 2000, 20
_OTHER = {"keep": "drop", "drop": "keep"}

Run = Callable[[Mapping[str, Any]], Selection]
"""A pick with its budget and options; takes its inputs."""


def policy_of(request: Request) -> str | None:
    """The policy of a request; None where the pick's own end is kept."""
    return request.policy if isinstance(request, SelectRequest) else None


def refuse_policy(request: SelectRequest, needs: frozenset[str]) -> None:
    """Refuse a policy that can't be followed, before any work.

    Raises:
        RequestError: An unknown one, a pick that reads no score, or no learner to pilot.
    """
    if request.policy is None:
        return
    if request.policy != "auto":
        raise RequestError(f"policy={request.policy!r}: expected auto; correct --policy or leave it out")
    if "score" not in needs:
        raise RequestError("--policy auto with a pick that reads no score: expected one such as top_k; correct --pick")
    if request.model is None:
        raise RequestError("--policy auto trains pilots: expected --model, the learner; name it")


def piloted(session: Session, inputs: Mapping[str, Any], run: Run) -> Selection:
    """The pick from the end of the score on which a pilot does better, judged by tune rows.

    Without a goal, hash-chosen rows of the pool that neither pilot trains on are the judges. Which pilot did how is
    noted.

    Raises:
        RequestError: A goal without tune rows, or too few rows to hold some out.
        NonsenseRefused: A pilot can't be trained or judged.
    """
    from dataworth.proving.trials import Training, TrialSet

    flipped = {**inputs, "higher": _OTHER[inputs.get("higher", "keep")]}
    judged, held = _judges(session)
    ends = {"usual": inputs, "other": flipped}
    pilots = {name: run(_without(given, held)) for name, given in ends.items()}
    if set(pilots["usual"].ids) == set(pilots["other"].ids):
        session.notes.append("--policy auto: both ends are the same rows, so nothing was piloted")
        return run(inputs)
    trials, recipe = TrialSet(session, judged), session.trainee.recipe
    training = {
        name: Training(picked.ids, tuple(float(w) for w in picked.weights), recipe) for name, picked in pilots.items()
    }
    trials.run(list(training.values()), "pilots", order=lambda t: 0)
    found = trials.costs(training.values())
    trials.close()
    for name, trained in training.items():
        if trained not in found:
            raise NonsenseRefused(f"--policy auto: the pilot on the {name} end: {trials.failed[trained]}")
    goals = len(session.goal.subtasks) if session.goal else 1
    cost = {name: float(found[t][0][:goals].mean()) for name, t in training.items()}
    better = min(cost, key=lambda name: (cost[name], name == "other"))
    session.notes.append(_told(trials, training, cost, better, goals))
    return run(ends[better])


def _judges(session: Session) -> tuple[list[Any], frozenset[str]]:
    """What judges the pilots, and the pool's rows among that."""
    from dataworth.formats import take_rows
    from dataworth.proving.trial_work import Judged
    from dataworth.proving.trials import open_judged

    trainee, goal, pool = session.trainee, session.goal, session.pool
    if goal is not None:
        tuned = [(sub, sub.tune) for sub in goal.subtasks if sub.tune is not None]
        if len(tuned) < len(goal.subtasks):
            raise RequestError(
                "--policy auto with a goal without tune rows: expected `tune:` for every subtask; `dataworth goal "
                "FILE` makes such a goal.yaml"
            )
        return open_judged(trainee, tuned), frozenset()
    many = min(_HELD_MOST, round(_HELD_SHARE * len(pool)))
    if many < _HELD_LEAST:
        raise RequestError(
            f"--policy auto without a goal holds out a tenth of the {len(pool):,} rows to judge pilots: expected at "
            f"least {round(_HELD_LEAST / _HELD_SHARE)} rows, or --goal"
        )
    usable = [n for n, i in enumerate(pool.ids) if i not in trainee.unscored]
    drawn = hash_unit([pool.ids[n] for n in usable], session.request.seed, "pilots").argsort(kind="stable")[:many]
    held = take_rows(pool, np.sort(np.array(usable)[drawn]))
    kind = "accuracy" if session.classifies else "loss"
    return [Judged("held-out rows", trainee.judge(kind), trainee.judged(held))], frozenset(held.ids)


def _without(inputs: Mapping[str, Any], held: frozenset[str]) -> dict[str, Any]:
    """The inputs with the held-out rows no longer eligible."""
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
    judge, rows = trials.judged[0].judge, sum(len(j.rows) for j in trials.judged[:goals])
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
