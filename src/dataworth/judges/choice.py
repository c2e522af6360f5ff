"""Multiple choice by log-probability: is the right choice the likeliest continuation of the query?

Two scores, by the names of EleutherAI's lm-evaluation-harness (its task.py): `acc` takes the choice with the highest
summed log-probability, `acc_norm` the one with the highest sum per character of the choice's text. Only the choice's
own tokens count, not the end of the turn. A learner with a chat template is asked as a user would ask it: the query is
the user's turn, the choice the assistant's. One without gets bare text: the query, a space (unless it ends in white
space) and the choice; put `Answer:` at the end of the query where that is wanted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.judges.trained import Trained
from dataworth.learners.render import Encoded
from dataworth.outcome import Outcome
from dataworth.records import Example, Message


@dataclass(frozen=True)
class Choice:
    """Share of rows whose right choice wins: `acc` under the name choice, `acc_norm` under choice_norm.

    A tie goes to the earlier choice and is counted. A row is unjudged where it isn't multiple choice, its gold is no
    choice, or one of its choices can't be scored.
    """

    name: Literal["choice", "choice_norm"]
    higher: ClassVar[Literal["better", "worse"]] = "better"

    @property
    def unit(self) -> str:
        """The score's name in lm-evaluation-harness; a share of rows."""
        return "acc_norm" if self.name == "choice_norm" else "acc"

    def __call__(self, trained: Trained, rows: Sequence[Example]) -> Outcome:
        """Judge the rows, each row's choices side by side in a batch: they begin alike, and that is computed once."""
        ids, right, ties = [], [], 0
        unjudged: dict[str, str] = {}
        for row in rows:
            found = log_probabilities(trained, row)
            if isinstance(found, str):
                unjudged[row.id] = found
                continue
            score_K = found / [len(c) for c in row.choices] if self.name == "choice_norm" else found
            ties += int((score_K == score_K.max()).sum() > 1)
            ids.append(row.id)
            right.append(float(score_K.argmax() == row.gold))
        value_Q = np.array(right, dtype=np.float64)
        counts = {"ties": ties}
        return Outcome(self.name, self.unit, self.higher, tuple(ids), value_Q, np.ones_like(value_Q), unjudged, counts)


def log_probabilities(trained: Trained, row: Example) -> NDArray[np.float64] | str:
    """Summed log-probability in nats of each choice of a row given its query, or why there is none."""
    if not row.choices:
        return f"a {row.schema} row has no choices"
    if row.gold is None or not 0 <= row.gold < len(row.choices):
        return "its gold is not one of its choices"
    encoded = [_encode(trained, row, k) for k in range(len(row.choices))]
    for k, choice in enumerate(encoded):
        reason = _reason(choice, trained.context)
        if reason:
            return f"choice {k}: {reason}"
    nats, unjudged = trained.nats(encoded)
    if unjudged:
        return f"a choice: {next(iter(unjudged.values()))}"
    return np.array([-nats[choice.id][0] for choice in encoded])


def _reason(choice: Encoded, context: int) -> str:
    if choice.reason:
        return choice.reason
    if not choice.supervised.any():
        return "it has no token of its own"
    return "query and choice are longer than the model's context" if len(choice) > context else ""


def _encode(trained: Trained, row: Example, k: int) -> Encoded:
    """Query and choice `k` with the choice's tokens as targets."""
    choice = row.choices[k]
    if not choice.strip():
        empty = np.zeros(0, dtype=np.bool_)
        return Encoded(f"{row.id}/{k}", np.zeros(0, dtype=np.int32), empty, reason="it is empty")
    if trained.plain.template_kind == "model":
        turns = (*row.messages[:-1], Message("assistant", choice))
        asked = dataclasses.replace(row, id=f"{row.id}/{k}", messages=turns)
        return trained.without_end(trained.plain.encode(asked))
    return _bare(trained, f"{row.id}/{k}", row.prompt, choice)


def _bare(trained: Trained, row_id: str, query: str, choice: str) -> Encoded:
    """Plain text, with the targets from the first token in which query alone and the whole differ."""
    gap = "" if not query or query[-1].isspace() else " "
    alone, whole = (
        trained.without_end(trained.plain.encode(Example(row_id, "text", "text", (), text)))
        for text in (query, query + gap + choice)
    )
    if whole.reason:
        return whole
    before = alone.input_ids[alone.supervised.nonzero()[0]] if not alone.reason else alone.input_ids[:0]
    start = int(np.flatnonzero(whole.supervised)[0])
    own = whole.input_ids[whole.supervised]
    n = min(len(before), len(own))
    same = int(np.argmin(np.append(before[:n] == own[:n], False)))
    return dataclasses.replace(whole, supervised=whole.supervised & (np.arange(len(whole)) >= start + same))
