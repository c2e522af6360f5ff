"""Pool rows that nothing is trained on, because they judge what is: for choices where no goal has tune rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dataworth import plugins
from dataworth.errors import NotApplicable, RequestError
from dataworth.formats import take_rows
from dataworth.gating import GATE, question
from dataworth.records import Example, Pool, hash_unit
from dataworth.session import Session


@dataclass(frozen=True)
class HeldOut:
    """Rows that judge, the ids of all that are copies of them, and what nearly equals one (id -> evidence)."""

    rows: Pool
    copies: frozenset[str]
    near: dict[str, str]

    @property
    def untrained(self) -> frozenset[str]:
        """What may not be trained on."""
        return self.copies | self.near.keys()


def held_out_rows(session: Session, share: float, most: int, least: int, purpose: str, who: str) -> HeldOut:
    """Different rows of the pool by hash, with all that are copies of these or nearly equal one.

    Nearly equal is what the contamination gate calls so, of whole texts: many rows may share a prompt.

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
    copies = frozenset(i for i in pool.ids if i.partition("#")[0] in ids)
    return HeldOut(held, copies, _near(pool, held, copies))


def _near(pool: Pool, held: Pool, copies: frozenset[str]) -> dict[str, str]:
    def others() -> Iterator[tuple[str, str, str]]:
        for n, example in enumerate(pool.examples()):
            if example.id not in copies:
                yield example.id, pool.source_of(n), _whole(example)

    inputs = {"prompts:pool": others(), "prompts:goal": [(f"held-out:{e.id}", _whole(e)) for e in held.examples()]}
    try:
        finding = plugins.load("checks", GATE)(inputs)
    except NotApplicable:  # no words to compare
        return {}
    return dict(finding.rows) if finding else {}


def _whole(example: Example) -> str:
    return example.full_text if example.content is None else question(example)
