"""What a verb that trains on subsets needs before it begins: a whole request, rows to judge by, skills to protect."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from dataworth import config
from dataworth.errors import RequestError
from dataworth.session import Session

METHOD = re.compile(r"([a-z][\w-]*)@(.+)")
"""`less@5%`: not a subset but a method, which selects anew in every trial."""


def refuse_unprovable(verb: str, request: config.TrialRequest) -> None:
    """Refuse a proof that can't be one, before anything is read.

    Raises:
        RequestError: Names what is missing.
    """
    for name, what in (("subset", "a run folder or a file of rows"), ("model", "--model M"), ("goal", "--goal FILE")):
        if not getattr(request, name) and not (name == "goal" and request.metric):
            goal = " --goal G" if not request.metric else ""
            raise RequestError(f"{verb} needs {what}: expected dataworth {verb} SUBSET --pool POOL --model M{goal}")
    for path in request.subset:
        if not METHOD.fullmatch(path) and not Path(path).expanduser().exists():
            raise RequestError(f"{path} is not here: expected a run folder or a file of rows; correct the path")
    if request.protocol not in ("epochs", "tokens"):
        raise RequestError(f"protocol={request.protocol!r}: expected epochs or tokens; correct --protocol")
    if request.budget is not None:
        config.seconds(request.budget)
    if request.margin is not None and not request.margin > 0:
        raise RequestError(f"margin={request.margin:g}: expected a difference above 0; correct --margin")


def with_judge_rows(request: config.R, folder: Path) -> config.R:
    """The request with a goal that has rows to judge by: a single file is split, once, into the run's folder.

    Raises:
        RequestError: It has too few rows for that, or `--judge` names an unknown judge or meets a `goal.yaml`.
    """
    from dataworth.formats.goal_split import split_goal

    goal, judge = Path(request.goal or "").expanduser(), getattr(request, "judge", None)
    if request.goal is None or getattr(request, "metric", None) is not None or goal.suffix.lower() in (".yaml", ".yml"):
        if judge is not None:
            raise RequestError(
                f"--judge {judge}: expected with a goal that is one file; a goal.yaml says judge_kind itself, and "
                "--metric judges by your trainer"
            )
        return request
    mapping = config.pairs(request.goal_map, "--goal-map") or None
    # As in open_session: whatever else the pool is, a goal's answers are answers.
    task = "classify" if request.task == "classify" else None
    split = split_goal(goal, folder / "goal", mapping=mapping, judge=judge, task=task)
    return replace(request, goal=str(split.path), goal_map=())


def split_note(request: config.Request, asked: config.Request, session: Session) -> list[str]:
    """What became of a goal that is a single file, in a sentence."""
    if request.goal == asked.goal or session.goal is None:
        return []
    (only,) = session.goal.subtasks
    steer, tune = len(only.steer), len(only.tune) if only.tune is not None else 0
    return [
        f"{asked.goal} was split: {steer:,} rows to steer by, {tune:,} to tune by, the others judge "
        f"({Path(str(request.goal)).parent}); a goal.yaml may name the parts otherwise"
    ]


def add_protected(session: Session, request: config.TrialRequest) -> None:
    """Add the skills of `--protect` to those of the goal file."""
    from dataworth.formats import protect

    if session.goal is not None and request.protect:
        usual = "accuracy" if session.classifies else "loss"
        task = "classify" if request.task == "classify" else None
        named = [protect(flag, usual, task=task) for flag in request.protect]
        session.goal = replace(session.goal, protected=(*session.goal.protected, *named))
