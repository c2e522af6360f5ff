"""The contamination gate of a run: rows that nearly equal goal rows leave before anything goal-aware sees the pool."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from dataworth import plugins
from dataworth.errors import NotApplicable
from dataworth.records import Example, Goal, Pool
from dataworth.session import Session

GATE = "DW001"


class PoolStems:
    """(id, source, question) of every pool row, read as they are iterated."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return len(self.pool)

    def __iter__(self) -> Iterator[tuple[str, str, str]]:
        for i, example in enumerate(self.pool.examples()):
            yield example.id, self.pool.source_of(i), question(example)


def question(example: Example) -> str:
    """What the gate compares: the prompt, or the text itself where there is no prompt.

    For an image or a vector it is a word for its very numbers (of an encoded image: bytes): a copy is found, what
    merely looks alike isn't.
    """
    if example.content is None:
        return example.prompt or example.full_text
    if isinstance(example.content, bytes):
        return f"image {hashlib.sha256(example.content).hexdigest()}"
    from dataworth.learners.labelled import array_of

    try:
        found = array_of(example)
    except ValueError:  # no learner reads it either
        return ""
    told = f"{found.dtype.str} {found.shape} ".encode() + found.tobytes()
    return f"{'image' if example.schema == 'labelled_image' else 'vector'} {hashlib.sha256(told).hexdigest()}"


def goal_questions(goal: Goal) -> list[tuple[str, str]]:
    """(name, question) of every goal row. The gate is the one reader besides proof that opens judge rows."""
    found = []
    for sub in goal.subtasks:
        parts = [sub.steer, *([sub.tune] if sub.tune else []), *([sub.judge.open_for("gate")] if sub.judge else [])]
        found += [(f"{sub.name}:{e.id}", question(e)) for rows in parts for e in rows.examples()]
    for skill in goal.protected:
        found += [(f"{skill.name}:{e.id}", question(e)) for e in skill.judge.open_for("gate").examples()]
    return found


def gate(session: Session) -> None:
    """Exclude near-goal rows, or record that they were kept as asked. Nothing happens without a goal."""
    if session.goal is None:
        return
    kept = session.request.keep_near_goal
    with session.costing("gate", len(session.pool)):
        inputs = {"prompts:pool": PoolStems(session.pool), "prompts:goal": goal_questions(session.goal)}
        try:
            finding = plugins.load("checks", GATE)(inputs)
        except NotApplicable as reason:
            session.guards.append(
                {"guard": "contamination-gate", "passed": True, "evidence": f"not applicable: {reason}"}
            )
            return
    rows = dict(finding.rows) if finding else {}
    if not kept:
        session.excluded.update({i: ("near-goal", why) for i, why in rows.items()})
    text = finding.text if finding else f"none of {len(session.pool):,} pool rows is near the goal"
    session.guards.append(
        {"guard": "contamination-gate", "passed": True, "evidence": text, "rows": len(rows), "keep_near_goal": kept}
    )
    if finding:
        most = " That is most of the pool: is the goal your pool?" if 2 * len(rows) > len(session.pool) else ""
        session.notes.append(f"{text} {'Kept, as asked.' if kept else finding.advice}{most}")
