"""Which rows judge pilots: the goal's tune rows, or pool rows that nothing is trained on; and probed pool rows.

The goal's judge rows stay sealed for a proof. Rows that judge come in two parts by hash: one chooses how long each size
is trained, the other measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dataworth import plugins
from dataworth.errors import RequestError
from dataworth.formats import take_rows
from dataworth.gating import GATE, PoolStems, question
from dataworth.proof.arms import chain
from dataworth.proving.held_out import held_out_rows
from dataworth.proving.trial_work import Judged
from dataworth.proving.trials import common_unit, open_judged
from dataworth.records import Pool, hash_unit
from dataworth.session import Session

if TYPE_CHECKING:
    from dataworth.outcome import Judge

_STOP = 1 / 3
"""Share of the judging rows that choose epochs."""
_MOST = {"token": 240, "row": 6000}
_PROBED = {"token": 32, "row": 500}
"""Judging rows in all, and probed rows a chain, by what the learner's lengths count: a net judges images quickly."""
_SHARE, _LEAST = 0.2, 30
"""Held out where there is no goal, and the fewest rows that judge."""
_SHARES = ("acc", "acc_norm", "accuracy")
"""Units of judges that give a share of right answers: what falls is the share of wrong ones."""
_FALLING = ("nats/token", "nats/row")


@dataclass(frozen=True)
class Judges:
    """Sets that every pilot is judged on, in this order: stop, test (one each a subtask), then the probed pool rows.

    `rows` can be drawn to train on. `unit` is the goal number's; `near` counts rows nearly equal to judging ones.
    """

    stop: tuple[Judged, ...]
    test: tuple[Judged, ...]
    probed: Judged
    rows: tuple[str, ...]
    unit: str
    on: str
    near: int

    @property
    def sets(self) -> list[Judged]:
        """All of them."""
        return [*self.stop, *self.test, self.probed]


def judges(session: Session, chains: int, smallest: int) -> Judges:
    """What judges the pilots of a session, whose gate has been run.

    Args:
        session: Pool, goal, learner.
        chains: Of random rows.
        smallest: Rows of their smallest size, of which some are probed.

    Raises:
        RequestError: A goal without tune rows or with a judge that no law is for, or too few rows.
    """
    trainee, goal = session.trainee, session.goal
    if goal is None:
        whole, near = _held_out(session)
        on = "pool rows held out"
    else:
        tuned = [(sub, sub.tune) for sub in goal.subtasks if sub.tune is not None]
        if len(tuned) < len(goal.subtasks):
            raise RequestError(
                "the goal has no tune rows: expected `tune:` for every subtask, as judge rows are sealed for proofs; "
                "`dataworth goal FILE` makes such a goal.yaml"
            )
        whole, near = open_judged(trainee, tuned), _near_goal(session)
        on = "the goal's tune rows"
    unit = _unit(whole)
    most = max(_LEAST, _MOST[trainee.unit] // len(whole))
    halves = [_halves(judged, most, session.request.seed) for judged in whole]
    lost = {*session.excluded, *trainee.unscored}
    rows = tuple(i for i in session.pool.ids if i not in lost)
    probed = _probed(session, rows, chains, min(smallest, _PROBED[trainee.unit]))
    return Judges(tuple(s for s, _ in halves), tuple(t for _, t in halves), probed, rows, unit, on, near)


def _unit(whole: Sequence[Judged]) -> str:
    """The unit of a number that falls towards a floor.

    Raises:
        RequestError: A judge of another kind.
    """
    unit, higher = common_unit(whole)
    if higher == "better" and unit in _SHARES:
        return f"1 - {unit}"
    if higher == "better" or unit not in _FALLING:
        raise RequestError(
            f"the goal is judged by {whole[0].judge.name} in {unit}: expected loss, perplexity, a choice or accuracy, "
            "as learning-curve laws are for losses and errors; correct the goal's judge_kind"
        )
    return unit


def _halves(judged: Judged, most: int, seed: int) -> tuple[Judged, Judged]:
    """At most so many of a set's rows by hash, as those that choose and those that measure."""
    drawn = hash_unit([row.id for row in judged.rows], seed, "diagnose").argsort(kind="stable")[:most]
    if len(drawn) < _LEAST:
        raise RequestError(
            f"{judged.name}: {len(drawn)} rows to judge pilots by: expected at least {_LEAST}; give a larger goal"
        )
    cut = round(_STOP * len(drawn))
    stop, test = (tuple(judged.rows[n] for n in sorted(part)) for part in (drawn[:cut], drawn[cut:]))
    return Judged(f"{judged.name} (stop)", judged.judge, stop), Judged(f"{judged.name} (test)", judged.judge, test)


def _held_out(session: Session) -> tuple[list[Judged], int]:
    """Pool rows that nothing is trained on; they, their copies and what nearly equals them are excluded."""
    trainee = session.trainee
    held, copies = held_out_rows(session, _SHARE, _MOST[trainee.unit], _LEAST, "diagnose", "diagnose")
    session.excluded |= dict.fromkeys(copies, ("held-out", "judges the pilots"))
    judge = trainee.judge("loss")
    return [Judged("held-out rows", judge, trainee.judged(held))], _exclude_near(session, held, judge)


def _exclude_near(session: Session, held: Pool, judge: Judge) -> int:
    """Exclude pool rows that nearly equal held-out ones, unless they are kept as asked; how many there are."""
    goal_side = [(f"held-out:{e.id}", question(e)) for e in held.examples()]
    pool_side = [told for told in PoolStems(session.pool) if told[0] not in session.excluded]
    finding = plugins.load("checks", GATE)({"prompts:pool": pool_side, "prompts:goal": goal_side})
    rows = dict(finding.rows) if finding else {}
    if not session.request.keep_near_goal:
        session.excluded |= {i: ("near-held-out", why) for i, why in rows.items()}
    return len(rows)


def _near_goal(session: Session) -> int:
    """Rows that the gate found near the goal, whether they were kept or not."""
    return sum(int(guard.get("rows", 0)) for guard in session.guards if guard["guard"] == "contamination-gate")


def _probed(session: Session, rows: Sequence[str], chains: int, each: int) -> Judged:
    """The first rows of every chain: trained on by its own pilots at every size, and by others' only by chance."""
    pool, trainee = session.pool, session.trainee
    drawn = {rows[n] for c in range(chains) for n in chain(rows, c, session.request.seed)[:each]}
    firsts = np.array([n for n, i in enumerate(pool.ids) if i in drawn and "#" not in i], dtype=np.int64)
    return Judged("pool rows", trainee.judge("loss"), trainee.judged(take_rows(pool, firsts)))
