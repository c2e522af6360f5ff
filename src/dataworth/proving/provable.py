"""What a verb that trains on subsets needs before it begins: a whole request, rows to judge by, skills to protect."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from dataworth import config, plugins
from dataworth.errors import RequestError, nearest
from dataworth.session import Session

METHOD = re.compile(r"([a-z][\w-]*)@(.+)")
"""`less@5%`: not a subset but a method, which selects anew in every trial."""

CONTROLS = ("random", "random-tokens", "random-source", "full", "goal-only", "longest")
"""Arms of `--against` beside the names of scores, whose best rows at the subject's size they stand for."""


def controls_of(against: str) -> list[str]:
    """The arms that `--against` names, each once."""
    return list(dict.fromkeys(name.strip() for name in against.split(",") if name.strip()))


def method_of(subject: str) -> str:
    """The score of `NAME@SIZE`, where that is what a subject is and no file; else empty."""
    match = METHOD.fullmatch(subject)
    return match[1] if match and not Path(subject).exists() else ""


def refuse_unprovable(verb: str, request: config.TrialRequest) -> None:
    """Refuse a proof that can't be one, before anything is read.

    Raises:
        RequestError: Names what is missing.
    """
    for name, what in (("subset", "a run folder or a file of rows"), ("model", "--model M"), ("goal", "--goal FILE")):
        if not getattr(request, name) and not (name == "goal" and request.metric):
            goal = " --goal G" if not request.metric else ""
            raise RequestError(f"{verb} needs {what}: expected dataworth {verb} SUBSET --pool POOL --model M{goal}")
    _refuse_unknown_arms(request)
    if request.protocol not in ("epochs", "tokens"):
        raise RequestError(f"protocol={request.protocol!r}: expected epochs or tokens; correct --protocol")
    if request.budget is not None:
        config.seconds(request.budget)
    if request.margin is not None and not request.margin > 0:
        raise RequestError(f"margin={request.margin:g}: expected a difference above 0; correct --margin")


def _refuse_unknown_arms(request: config.TrialRequest) -> None:
    scores = sorted(plugins.catalogue("scores"))
    for subject in request.subset:
        method = method_of(subject)
        if method and method not in scores:
            meant = nearest(method, scores, "expected NAME@SIZE with one of")
            raise RequestError(f"{subject} is neither a file nor a method: {meant}")
        if not method and not Path(subject).expanduser().exists():
            raise RequestError(f"{subject} is not here: expected a run folder or a file of rows; correct the path")
    known = dict.fromkeys([*CONTROLS, *scores])
    for name in controls_of(getattr(request, "against", None) or ""):
        if name not in known:
            raise RequestError(f"--against {name!r} is unknown: {nearest(name, known, 'expected some of')}")


def with_judge_rows(request: config.R, folder: Path) -> config.R:
    """The request with a goal that has rows to judge by: a single file is split, once, into the run's folder.

    Raises:
        RequestError: It has too few rows for that or is a part of a `goal.yaml` beside it; `--judge` names an unknown
            judge or meets a `goal.yaml`.
    """
    from dataworth.formats.goal import whole_of
    from dataworth.formats.goal_split import split_goal

    goal, judge = Path(request.goal or "").expanduser(), getattr(request, "judge", None)
    if request.goal is None or getattr(request, "metric", None) is not None or goal.suffix.lower() in (".yaml", ".yml"):
        if judge is not None:
            raise RequestError(
                f"--judge {judge}: expected with a goal that is one file; a goal.yaml says judge_kind itself, and "
                "--metric judges by your trainer"
            )
        return request
    whole = whole_of(goal)
    if whole is not None:
        raise RequestError(f"{goal} is one part of the goal {whole}: expected all of it; give --goal {whole}")
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
