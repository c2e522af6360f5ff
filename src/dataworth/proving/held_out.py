"""Pool rows that nothing is trained on, because they judge what is: for choices where no goal has tune rows."""

from __future__ import annotations

import numpy as np

from dataworth.errors import RequestError
from dataworth.formats import take_rows
from dataworth.records import Pool, hash_unit
from dataworth.session import Session


def held_out_rows(
    session: Session, share: float, most: int, least: int, purpose: str, who: str
) -> tuple[Pool, frozenset[str]]:
    """Different rows of the pool by hash, and the ids of all that are copies of these.

    Args:
        session: Whose pool and learner; rows without loss judge nothing.
        share: Of the different rows.
        most: Rows.
        least: Rows.
        purpose: Makes draws for different ends independent.
        who: Holds them out, for the error.

    Raises:
        RequestError: A share of the rows is less than `least`.
    """
    pool, unscored = session.pool, session.trainee.unscored
    firsts = [n for n, i in enumerate(pool.ids) if "#" not in i and i not in unscored]
    many = min(most, round(share * len(firsts)))
    if many < least:
        raise RequestError(
            f"{who} without a goal holds out {share:.0%} of the {len(firsts):,} rows to judge pilots: expected at "
            f"least {round(least / share)} rows, or --goal"
        )
    drawn = hash_unit([pool.ids[n] for n in firsts], session.request.seed, purpose).argsort(kind="stable")[:many]
    held = take_rows(pool, np.sort(np.array(firsts)[drawn]))
    ids = set(held.ids)
    return held, frozenset(i for i in pool.ids if i.partition("#")[0] in ids)
