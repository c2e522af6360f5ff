"""The larger learner that a diagnosis compares with: a wider adapter or net of the same kind, or another model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from dataworth import config
from dataworth.errors import RequestError
from dataworth.recipe import ClassifierRecipe, Recipe
from dataworth.session import Session

NONE = "none"
_RANKS, _WIDTHS = 4, 2
_SIZES = ("lora_r", "width")
_WIDENED = ("resnet", "mlp")


def larger_session(session: Session, asked: str | None) -> tuple[Session, str] | None:
    """A session of the larger learner beside the own one's cache, engine and ledgers, and what it is; None for none.

    Args:
        session: Of the own learner.
        asked: `lora_r=32`, `width=64`, a model, or none. Unless told, an adapter of four times the rank, or a net of
            twice the width. With a rank alone alpha / r is kept, since it multiplies what the adapter adds.

    Raises:
        RequestError: What makes no larger learner, or a model whose tokens are others.
    """
    if asked == NONE:
        return None
    if asked is not None and _is_model(asked):
        beside = replace(session, request=replace(session.request, model=asked), made={})
        if not session.classifies and beside.learner.renderer.fingerprint != session.learner.renderer.fingerprint:
            raise RequestError(
                f"--larger {asked} has another tokenizer or chat template: its losses a token don't compare; expected "
                "a model of the same family, or lora_r=32"
            )
        return _sharing(session, beside), asked
    found = _grown(session, asked)
    if found is None:
        session.notes.append("no larger learner was tried: name one by --larger (a model of the same kind)")
        return None
    beside, said = found
    return _sharing(session, beside), said


def has_larger(session: Session, asked: str | None) -> bool:
    """Whether there is a larger learner, a model unopened.

    Raises:
        RequestError: What makes no larger learner.
    """
    return asked != NONE and ((asked is not None and _is_model(asked)) or _grown(session, asked) is not None)


def _is_model(asked: str) -> bool:
    return "=" not in asked


def _grown(session: Session, asked: str | None) -> tuple[Session, str] | None:
    """A session with a wider recipe, and what is wider; None where nothing is asked or usual.

    Raises:
        RequestError: What makes no larger learner.
    """
    fields = _fields(asked) if asked else _usual(session)
    if not fields:
        return None
    own = session.recipe_in_force.to_dict()
    grows = [name for name, value in fields.items() if name in _SIZES and value > own.get(name, math.inf)]
    strange = [name for name in fields if name not in grows and name != "lora_alpha"]
    if strange or not grows:
        name = next(iter(strange or fields))
        raise RequestError(
            f"--larger {name}={fields[name]} makes no larger learner: expected {' or '.join(_SIZES)} above the "
            f"recipe's (now {', '.join(f'{n} {own[n]}' for n in _SIZES if n in own)}); correct it, or name a model"
        )
    if "lora_r" in fields and "lora_alpha" not in fields:
        fields["lora_alpha"] = session.recipe.lora_alpha * fields["lora_r"] / session.recipe.lora_r
    said = ", ".join(f"{name} {value}" for name, value in fields.items())
    if session.classifies:
        recipe = ClassifierRecipe.from_dict({**session.classifier_recipe.to_dict(), **fields})
        return replace(session, classifier_recipe=recipe), said
    return replace(session, recipe=Recipe.from_dict({**session.recipe.to_dict(), **fields})), said


def _usual(session: Session) -> dict[str, Any]:
    if not session.classifies:
        return {"lora_r": _RANKS * session.recipe.lora_r}
    if session.request.model in _WIDENED:
        return {"width": _WIDTHS * session.classifier_recipe.width}
    return {}


def _fields(asked: str) -> dict[str, Any]:
    """`lora_r=32,lora_alpha=64` as numbers.

    Raises:
        RequestError: Something else.
    """
    out: dict[str, Any] = {}
    for name, value in config.pairs(tuple(asked.split(",")), "--larger").items():
        try:
            out[name] = float(value) if "." in value or "e" in value else int(value)
        except ValueError as error:
            raise RequestError(f"--larger {name}={value}: expected a number such as lora_r=32; correct it") from error
    return out


def _sharing(session: Session, beside: Session) -> Session:
    """The workers are shared, too: two sets of them would share the cores."""
    beside.__dict__["engine"] = session.engine
    return beside
