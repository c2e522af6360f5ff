"""Which rows judge pilots: the goal's steer and tune rows, or pool rows that nothing is trained on; and probed rows.

The goal's judge rows stay sealed for a proof. Rows that judge come in two parts by hash: one chooses how long each size
is trained, the other measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dataworth.diagnosing.measured import SHARE
from dataworth.errors import RequestError
from dataworth.formats import take_rows
from dataworth.proof.arms import chain
from dataworth.proving.held_out import held_out_rows
from dataworth.proving.trial_work import Judged
from dataworth.proving.trials import common_unit, open_judged
from dataworth.records import hash_unit
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

    `rows` can be drawn to train on. `unit` is the goal number's; `near` counts rows nearly equal to judging ones, None
    where nobody could look.
    """

    stop: tuple[Judged, ...]
    test: tuple[Judged, ...]
    probed: Judged
    rows: tuple[str, ...]
    unit: str
    on: str
    near: int | None

    @property
    def sets(self) -> list[Judged]:
        """All of them."""
        return [*self.stop, *self.test, self.probed]


def judges(session: Session, chains: int) -> Judges:
    """What judges the pilots of a session, whose gate has been run.

    Args:
        session: Pool, goal, learner.
        chains: Of random rows, of which some are probed.

    Raises:
        RequestError: A goal with a judge that no law is for, or too few rows.
    """
    trainee, goal = session.trainee, session.goal
    if goal is None:
        whole, near = _held_out(session)
        on = "pool rows held out"
    else:
        # Nothing is chosen by steer rows here, so they judge as well as tune rows do.
        parts = [(sub, rows) for sub in goal.subtasks for rows in (sub.steer, sub.tune) if rows is not None]
        whole, near = _joined(open_judged(trainee, parts)), _near_goal(session)
        on = "the goal's steer and tune rows"
    unit = _unit(whole)
    most = max(_LEAST, _MOST[trainee.unit] // len(whole))
    # A net's loss tells two trainings apart on rows on which its accuracy doesn't.
    chooses = trainee.judge("loss") if session.classifies else None
    halves = [_halves(judged, most, session.request.seed, chooses) for judged in whole]
    lost = {*session.excluded, *trainee.unscored}
    rows = tuple(i for i in session.pool.ids if i not in lost)
    probed = _probed(session, rows, chains, _PROBED[trainee.unit])
    found = Judges(tuple(s for s, _ in halves), tuple(t for _, t in halves), probed, rows, unit, on, near)
    session.notes += _counts(session, found)
    return found


def _counts(session: Session, found: Judges) -> list[str]:
    """What became of every row of the pool, and how many rows judge."""
    pool, unscored = session.pool, session.trainee.unscored
    dull = sum(i not in session.excluded for i in unscored)
    lost = f"{len(session.excluded):,} excluded, {dull:,} without loss or unreadable"
    chosen, measuring = (sum(len(j.rows) for j in part) for part in (found.stop, found.test))
    return [
        f"{len(found.rows):,} of {len(pool):,} pool rows can be drawn ({lost}); {chosen:,} judging rows choose epochs, "
        f"{measuring:,} measure, and {len(found.probed.rows):,} pool rows are probed"
    ]


def _unit(whole: Sequence[Judged]) -> str:
    """The unit of a number that falls towards a floor.

    Raises:
        RequestError: A judge of another kind.
    """
    unit, higher = common_unit(whole)
    if higher == "better" and unit in _SHARES:
        return f"{SHARE} (1 - {unit})"
    if higher == "better" or unit not in _FALLING:
        raise RequestError(
            f"the goal is judged by {whole[0].judge.name} in {unit}: expected loss, perplexity, a choice or accuracy, "
            "as learning-curve laws are for losses and errors; correct the goal's judge_kind"
        )
    return unit


def _joined(parts: Sequence[Judged]) -> list[Judged]:
    """Parts of one name as one set, a row that both have once."""
    out: dict[str, Judged] = {}
    for part in parts:
        rows = {row.id: row for row in (*(out[part.name].rows if part.name in out else ()), *part.rows)}
        out[part.name] = Judged(part.name, part.judge, tuple(rows.values()))
    return list(out.values())


def _halves(judged: Judged, most: int, seed: int, chooses: Judge | None) -> tuple[Judged, Judged]:
    """At most so many of a set's rows by hash, as those that choose (by that judge, or its own) and that measure."""
    hash_q = hash_unit([row.id.partition("#")[0] for row in judged.rows], seed, "diagnose")
    drawn = hash_q.argsort(kind="stable")[:most]
    if len(drawn) < _LEAST:
        raise RequestError(
            f"{judged.name}: {len(drawn)} rows to judge pilots by: expected at least {_LEAST}; give a larger goal"
        )
    cut = round(_STOP * len(drawn))
    while cut < len(drawn) - 1 and hash_q[drawn[cut]] == hash_q[drawn[cut - 1]]:
        cut += 1  # copies stay on one side
    stop, test = (tuple(judged.rows[n] for n in sorted(part)) for part in (drawn[:cut], drawn[cut:]))
    return Judged(f"{judged.name} (stop)", chooses or judged.judge, stop), Judged(
        f"{judged.name} (test)", judged.judge, test
    )


def _held_out(session: Session) -> tuple[list[Judged], int | None]:
    """Pool rows that nothing is trained on; they, their copies and what nearly equals them are excluded."""
    trainee = session.trainee
    held = held_out_rows(session, _SHARE, _MOST[trainee.unit], _LEAST, "diagnose", "diagnose")
    session.excluded |= dict.fromkeys(held.copies, ("held-out", "judges the pilots"))
    if not session.request.keep_near_goal:
        session.excluded |= {i: ("near-held-out", why) for i, why in held.near.items()}
    kept = ", kept as asked" if session.request.keep_near_goal else " left out, too"
    near = f", and {len(held.near):,} that nearly equal one{kept}" if held.near else ""
    session.notes.append(f"{len(held.copies):,} pool rows are held out to judge (copies counted){near}")
    return [Judged("held-out rows", trainee.judge("loss"), trainee.judged(held.rows))], len(held.near)


def _near_goal(session: Session) -> int | None:
    """Rows that the gate found near the goal, whether they were kept or not; None where it had nothing to compare."""
    found = [guard["rows"] for guard in session.guards if guard["guard"] == "contamination-gate" and "rows" in guard]
    return int(found[-1]) if found else None


def _probed(session: Session, rows: Sequence[str], chains: int, each: int) -> Judged:
    """The first rows of every chain: trained on by its own pilots, and by others' only by chance; copies once."""
    pool, trainee = session.pool, session.trainee
    drawn = {rows[n].partition("#")[0] for c in range(chains) for n in chain(rows, c, session.request.seed)[:each]}
    firsts = np.array([n for n, i in enumerate(pool.ids) if i in drawn], dtype=np.int64)
    return Judged("pool rows", trainee.judge("loss"), trainee.judged(take_rows(pool, firsts)))
