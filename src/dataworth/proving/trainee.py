"""What the trials of a proof train, a language model or a classifier: which rows it takes, and how long each is.

A classifier's unit of length is the row: training on one costs one, whatever it shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.learners.labelled import Labelled
from dataworth.recipe import ClassifierRecipe, Recipe
from dataworth.records import Example, Pool
from dataworth.rendered import token_artefact, token_table
from dataworth.store.atomic import checksum
from dataworth.store.fingerprint import fingerprint

if TYPE_CHECKING:
    from dataworth.outcome import Judge
    from dataworth.session import Session


class Trainee(Protocol):
    """The learner of a request as a proof sees it. Axis `N`: the pool's rows."""

    unit: str
    """What `size_N` counts: token or row."""
    length_name: str
    """What a table calls the length of a training."""

    @property
    def recipe(self) -> Recipe | ClassifierRecipe:
        """How it is trained; arms differ in seed and learning rate."""
        ...

    @property
    def fingerprint(self) -> str:
        """What a registration calls it."""
        ...

    @property
    def key(self) -> dict[str, Any]:
        """What trainings are keyed by beside rows and recipe."""
        ...

    @property
    def model(self) -> str:
        """What a trainer of the user's own is told."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """What a worker is told."""
        ...

    @property
    def states(self) -> Path | None:
        """What trials share on disk while a proof runs."""
        ...

    @property
    def unscored(self) -> Mapping[str, str]:
        """Rows of the pool that carry no loss, with the reason."""
        ...

    @property
    def size_N(self) -> NDArray[np.int64]:
        """Length of each row, 0 where it carries no loss."""
        ...

    def rows(self, ids: Sequence[str]) -> tuple[Any, ...]:
        """Rows of the pool as a worker takes them."""
        ...

    def steer(self) -> list[Any]:
        """The goal's steer rows that carry loss, encoded; a row that two subtasks share comes once."""
        ...

    def judge(self, kind: str) -> Judge:
        """The judge of that kind.

        Raises:
            RequestError: None for this learner.
        """
        ...

    def judged(self, pool: Pool) -> tuple[Example, ...]:
        """Rows as its judges take them."""
        ...

    def length(self, row: Example) -> int:
        """What judging the row costs, in `unit`s."""
        ...

    def tell_cut(self, judged: str, rows: Sequence[Example]) -> None:
        """Note how many of a judged set's rows the loss sees the beginning of only."""
        ...


class LanguageTrainee:
    """A language model; `states` keeps hidden states of its frozen layers from one trial to the next."""

    unit, length_name = "token", "tokens"

    def __init__(self, session: Session) -> None:
        self.session, self.card, self.recipe = session, session.learner, session.recipe
        self.fingerprint, self.key = self.card.fingerprint, self.card.frozen_spec
        self.model = str(self.card.source.folder.resolve())

    @cached_property
    def states(self) -> Path | None:
        """None where every layer is trained, or the user's own trainer trains."""
        if not self.recipe.lora_layers or self.session.trainer is not None:
            return None
        return self.session.cache.folder("states", self.key)

    @property
    def config(self) -> dict[str, Any]:
        """The folder of the model, and where states are kept."""
        return {"language": {"model": str(self.card.source.folder), "states": self.states}}

    @property
    def unscored(self) -> Mapping[str, str]:
        """Rows without a supervised token."""
        return token_table(self.session, self.session.pool).unscored

    @cached_property
    def size_N(self) -> NDArray[np.int64]:
        """Tokens."""
        found = token_table(self.session, self.session.pool).column("tokens", fill=0)
        return np.asarray(found, dtype=np.int64)

    def rows(self, ids: Sequence[str]) -> tuple[Any, ...]:
        """Encoded."""
        from dataworth.probes.tokens import encoded_rows

        return tuple(encoded_rows(token_artefact(self.session, self.session.pool).table(ids), ids))

    def steer(self) -> list[Any]:
        """Rendered by the learner's template."""
        rows = [self.card.renderer.encode(e) for e in _steer_examples(self.session)]
        return [row for row in rows if not row.reason]

    def judge(self, kind: str) -> Judge:
        """Any but those of classifiers; a user's own, too.

        Raises:
            RequestError: It is for rows with a class.
        """
        from dataworth.judges import JUDGES, judge_named

        if kind == "accuracy":
            raise RequestError(
                f"judge accuracy is for rows with a class: expected {', '.join(JUDGES)} for a language model; correct "
                "the goal's judge_kind"
            )
        return judge_named(kind)

    def judged(self, pool: Pool) -> tuple[Example, ...]:
        """As they are read."""
        return tuple(pool.examples())

    def length(self, row: Example) -> int:
        """Its tokens."""
        return len(self.card.renderer.encode(row))

    def tell_cut(self, judged: str, rows: Sequence[Example]) -> None:
        """Those that are longer than the recipe's `max_length`."""
        # One that has no token of its answer left isn't judged at all, which the judge says.
        cut = sum(bool(e.truncated and not e.reason) for e in map(self.card.renderer.encode, rows))
        note = (
            f"{cut:,} of {len(rows):,} {judged} are longer than {self.recipe.max_length:,} tokens: each is "
            "judged on its beginning; a recipe with a larger max_length reads on"
        )
        self.session.notes += [note] if cut and note not in self.session.notes else []


class NetTrainee:
    """A classifier over the pool as `classifying` reads it, with an `--encoder` over its vectors."""

    unit, length_name = "row", "rows seen"
    states = None

    def __init__(self, session: Session) -> None:
        self.session, self.card, self.recipe = session, session.classifier, session.classifier_recipe
        self.fingerprint, self.model = self.card.fingerprint, self.card.model

    @cached_property
    def key(self) -> dict[str, Any]:
        """The untrained net, the encoder, and the kind of the pool's numbers, which decides how they are scaled."""
        from dataworth import classifying

        kind = classifying.number_kind(self._inputs)
        return {**self.card.frozen_spec, "encoder": classifying.encoder_key(self.session), "numbers": kind}

    @cached_property
    def _inputs(self) -> Path:
        from dataworth import classifying

        return classifying.inputs(self.session)

    @property
    def config(self) -> dict[str, Any]:
        """What the net is, and the folder of the pool."""
        classes, shape = list(self.card.renderer.classes), list(self.card.renderer.shape)
        return {"net": {"model": self.model, "classes": classes, "shape": shape, "inputs": str(self._inputs)}}

    @cached_property
    def unscored(self) -> Mapping[str, str]:
        """Rows that can't be read."""
        from dataworth import classifying

        return classifying.unread(self._inputs)

    @cached_property
    def size_N(self) -> NDArray[np.int64]:
        """One each."""
        return np.array([i not in self.unscored for i in self.session.pool.ids], dtype=np.int64)

    def rows(self, ids: Sequence[str]) -> tuple[Any, ...]:
        """Ids: every worker has the pool mapped."""
        return tuple(ids)

    def steer(self) -> list[Any]:
        """Pixels or vectors with their classes."""
        goal = self.session.goal
        pools = [sub.steer for sub in goal.subtasks] if goal else []
        rows = {(e.id, e.label): self.card.renderer.encode(e) for pool in pools for e in self.judged(pool)}
        return [row for row in rows.values() if not row.reason]

    def judge(self, kind: str) -> Judge:
        """Accuracy or loss.

        Raises:
            RequestError: Another one.
        """
        from dataworth.judges import JUDGES_OF_CLASSES

        if kind not in JUDGES_OF_CLASSES:
            raise RequestError(
                f"judge {kind!r} for rows with a class: expected {' or '.join(JUDGES_OF_CLASSES)}; correct the goal's "
                "judge_kind, or measure by your own --train-command with --metric"
            )
        return JUDGES_OF_CLASSES[kind]

    def judged(self, pool: Pool) -> tuple[Example, ...]:
        """With the encoder's vectors, where one is named."""
        from dataworth import classifying

        rows = tuple(classifying.readable(self.session, pool))
        known = {str(label) for label in self.card.renderer.classes}
        strange = Counter(str(row.label) for row in rows if str(row.label) not in known)
        if strange:
            names = ", ".join(name for name, _ in strange.most_common(5))
            if strange.total() == len(rows):
                raise RequestError(
                    f"the goal's classes ({names}) are none of the pool's ({', '.join(sorted(known)[:5])}): expected "
                    "the same labels in both; rename one of them"
                )
            told = f"{strange.total():,} of {len(rows):,} goal rows are of classes that the pool lacks ({names})"
            self.session.notes += [f"{told}: they count in no number"] if told not in str(self.session.notes) else []
        return rows

    def length(self, row: Example) -> int:
        """One."""
        return 1

    def tell_cut(self, judged: str, rows: Sequence[Example]) -> None:
        """Nothing: they are seen whole."""


class UnreadTrainee(NetTrainee):
    """Rows with a class that are counted and not read: in a dry run, or where only the user's own trainer reads them.

    `--model` is then whatever that trainer makes of it.
    """

    def __init__(self, session: Session) -> None:
        if session.trainer is not None and session.metric is None:
            raise RequestError(
                "--train-command for rows with a class: expected --metric NAME, by which your trainer judges what it "
                "trains, as only it can open that; add it"
            )
        self.session, self.recipe, self.model = session, session.classifier_recipe, session.request.model or ""
        self.fingerprint = fingerprint(self.key)

    @cached_property
    def key(self) -> dict[str, Any]:
        """The content of a local model, else its name."""
        place = Path(self.model).expanduser()
        files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
        if not self.model or not files:
            return {"model": self.model}
        return {"model": {str(p.relative_to(place)) if p != place else "": checksum(p) for p in files}}

    def steer(self) -> list[Any]:
        """One row each."""
        return [Labelled(e.id, np.zeros(0, np.float32)) for e in _steer_examples(self.session)]

    @property
    def config(self) -> dict[str, Any]:
        """The name alone: no net of ours is made."""
        return {"net": {"model": self.model, "classes": [], "shape": [], "inputs": ""}}

    @cached_property
    def unscored(self) -> Mapping[str, str]:
        """None: nobody looks."""
        return {}


def trainee_of(session: Session) -> Trainee:
    """The learner of a request as its trials train it.

    Raises:
        RequestError: No model was named, or it doesn't fit the rows.
    """
    if "classify" in session.pool.kinds and not session.classifies:
        raise RequestError(
            "the pool mixes rows with a class and others: expected one kind, as no learner trains on both; split it"
        )
    if not session.classifies:
        return LanguageTrainee(session)
    return UnreadTrainee(session) if session.dry or session.trainer is not None else NetTrainee(session)


def _steer_examples(session: Session) -> list[Example]:
    goal = session.goal
    return list({e.id: e for sub in (goal.subtasks if goal else ()) for e in sub.steer.examples()}.values())
