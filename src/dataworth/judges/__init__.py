"""What is measured on a trained learner: `judge_named("choice")(trained, rows) -> Outcome`."""

from __future__ import annotations

from dataworth.judges.choice import Choice
from dataworth.judges.classes import Accuracy, ClassLoss
from dataworth.judges.command import Command
from dataworth.judges.loss import Loss
from dataworth.judges.perplexity import Perplexity
from dataworth.judges.trained import Trained
from dataworth.judges.trained_net import TrainedNet
from dataworth.outcome import Judge

__all__ = ["JUDGES", "JUDGES_OF_CLASSES", "Judge", "Trained", "TrainedNet", "judge_named"]

JUDGES: dict[str, Judge] = {
    judge.name: judge for judge in (Loss(), Choice("choice"), Choice("choice_norm"), Perplexity())
}

"""Of language models."""
JUDGES_OF_CLASSES: dict[str, Judge] = {judge.name: judge for judge in (Accuracy(), ClassLoss())}
"""Of classifiers."""


def judge_named(kind: str) -> Judge:
    """The judge of that kind, or the user's own: `module:function` or a command with `{model} {rows} {out}`.

    Raises:
        RequestError: `kind` is none of these.
    """
    return JUDGES[kind] if kind in JUDGES else Command(kind)
