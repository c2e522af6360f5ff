"""What each row costs a learner that was trained on it, and one that wasn't: two trainings, each on half of the pool.

Rows are halved by the hash of their content, so that copies stay together; each half is the other's reference. Near
copies in the other half make a row look less memorised than it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.records import hash_unit
from dataworth.session import Session

_LEAST = 8
_MADE = "losses of halves"


def losses_seen(session: Session) -> NDArray[np.float64]:
    """Nats of each whole row under the learner that was trained on its half, `[N]`; NaN where it carries no loss."""
    return _losses(session)[0]


def losses_unseen(session: Session) -> NDArray[np.float64]:
    """The same under the learner that was trained on the other half."""
    return _losses(session)[1]


def _losses(session: Session) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if _MADE not in session.made:
        session.made[_MADE] = _trained(session)
    found: tuple[NDArray[np.float64], NDArray[np.float64]] = session.made[_MADE]
    return found


def _trained(session: Session) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both columns.

    Raises:
        RequestError: Too few rows that carry loss to halve.
        NonsenseRefused: A half can't be trained on.
    """
    from dataworth.proving.trial_work import Judged
    from dataworth.proving.trials import Training, TrialSet

    pool, trainee = session.pool, session.trainee
    first_N = hash_unit([i.partition("#")[0] for i in pool.ids], session.request.seed, "halves") < 0.5
    usable_N = np.array([i not in trainee.unscored and i not in session.excluded for i in pool.ids], dtype=bool)
    halves = [tuple(pool.ids[n] for n in np.flatnonzero(usable_N & side_N)) for side_N in (first_N, ~first_N)]
    if min(map(len, halves)) < _LEAST:
        raise RequestError(
            f"halves of {len(halves[0])} and {len(halves[1])} rows that carry loss: expected at least {_LEAST} in each "
            "to train on; give a larger pool"
        )
    trials = TrialSet(session, [Judged("pool rows", trainee.judge("loss"), trainee.judged(pool))])
    trainings = [Training(ids, (), trainee.recipe) for ids in halves]
    trials.run(trainings, "halves of the pool", order=lambda t: 0)
    found = trials.costs(trainings)
    trials.close()
    for training in trainings:
        if training not in found:
            raise NonsenseRefused(f"half of the pool can't be trained on: {trials.failed.get(training, 'no trial')}")
    nats_2N = np.full((2, len(pool)), np.nan)
    rows = trials.judged[0].rows
    for side, training in enumerate(trainings):
        ((row_q, value_q, weight_q),) = trials.values(training)
        # Values are means over tokens, weights the tokens: a row's bits are a sum.
        nats_2N[side, [pool.position[rows[n].id] for n in row_q]] = value_q * weight_q
    session.unscored |= dict(trainee.unscored)
    session.unscored |= {i: f"neither half was trained on it: {why}" for i, (_, why) in session.excluded.items()}
    nats_2N[:, ~usable_N] = np.nan
    own = np.where(first_N, 0, 1)
    at = np.arange(len(pool))
    return nats_2N[own, at], nats_2N[1 - own, at]
