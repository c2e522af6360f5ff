"""What a user should see before anything long starts: how the files were understood, and what will carry loss."""

from __future__ import annotations

from dataworth.records import Example
from dataworth.session import Session

_ROWS = 3
_CUT = 300


def preview_text(session: Session) -> str:
    """The detected schema of each file and three rendered rows; what the loss covers stands between «»."""
    from dataworth.formats import detect, preview

    lines = [str(d) for d in detect(session.pool)]
    lines += [f"  {n}. {_rendered(session, example)}" for n, example in enumerate(preview(session.pool, _ROWS), 1)]
    if session.pool.copies:
        lines.append(
            f"{session.pool.copies:,} rows are further copies of identical rows; they are kept apart, not merged"
        )
    if session.pool.rejected:
        lines.append(f"{session.pool.rejected:,} rows were rejected: see {session.pool.rejects_path}")
    lines += goal_rejects(session)
    return "\n".join(lines)


def goal_rejects(session: Session) -> list[str]:
    """One line for each part of the goal that lost rows in reading."""
    parts = [(s.name, p) for s in (session.goal.subtasks if session.goal else ()) for p in (s.steer, s.tune) if p]
    return [
        f"{pool.rejected:,} rows of goal {name!r} were rejected: see {pool.rejects_path}"
        for name, pool in parts
        if pool.rejected
    ]


def _rendered(session: Session, example: Example) -> str:
    if example.kind == "classify":
        pieces = [(f"{example.shown} ", False), (str(example.label), True)]
    elif session.request.model is None:
        pieces = [(f"{example.prompt} ", False), (example.response, True)]
    else:
        pieces = session.learner.renderer.describe(example)
    text = "".join(f"«{t}»" if loss else t for t, loss in pieces).replace("\n", "⏎")
    return text if len(text) <= _CUT else text[: _CUT // 2] + " … " + text[-_CUT // 2 :]
