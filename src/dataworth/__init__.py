"""Dataworth: which training examples are worth training on, for this model and this goal.

import dataworth as dw
dw.select("pool.jsonl", goal="goal.jsonl", model="path/to/model", keep="5%").write("picked.jsonl")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataworth.api import diagnose, goal, plan, prove, replay, score, select, view, worth

__all__ = ["diagnose", "goal", "plan", "prove", "replay", "score", "select", "view", "worth"]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module("dataworth.api"), name)
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
