"""Options of a method, given as NAME=VALUE: which exist, and what they mean to the score and to its probes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from dataworth import plugins
from dataworth.errors import RequestError, nearest
from dataworth.probes.spec import FeatureSpec
from dataworth.recipe import Recipe
from dataworth.results import Pick, Score

_OF_GEOMETRY = {"neighbours": "neighbours", "clusters": "clusters", "near_duplicates": "similar"}
"""Artefact -> the option that says how it is made."""
_OF_NETS = {"nets", "record"}
_OF_FEATURES = ("kind", "width", "format", "optimizer", "eps_mode", "bias_correction", "loss", "k")


@dataclass(frozen=True, slots=True)
class GradientOptions:
    """How gradient features are made: the half of LESS that isn't the score.

    `warmup` is the share of the pool (or the number of rows, from 1 up) that the warm-up trains on; `feature` describes
    the pool's features. The goal's are always plain gradients.
    """

    warmup: float = 0.05
    feature: FeatureSpec = field(default_factory=lambda: FeatureSpec(optimizer="adam", bias_correction=True))

    def __post_init__(self) -> None:
        if not isinstance(self.warmup, (int, float)) or not 0 <= self.warmup < float("inf"):
            raise RequestError(f"option warmup={self.warmup!r}: expected a share (0.05) or a number of rows (200)")
        if self.warmup == 0 and self.feature.kind == "lora":
            raise RequestError(
                "option warmup=0 with kind=lora: half of a fresh adapter has no gradient; use kind=onesided"
            )

    def with_recipe(self, recipe: Recipe) -> GradientOptions:
        """The same with the decay rates and epsilon of the recipe's AdamW."""
        feature = replace(self.feature, beta1=recipe.beta1, beta2=recipe.beta2, eps=recipe.eps)
        return replace(self, feature=feature)


@dataclass(frozen=True, slots=True)
class GeometryOptions:
    """How a pool's geometry is made: neighbours a row, clusters (0: see `artefacts.clusters`), and what is alike.

    `similar` is the Jaccard similarity of two rows' words from which they are near-duplicates.
    """

    neighbours: int = 10
    clusters: int = 0
    similar: float = 0.8

    def __post_init__(self) -> None:
        for name, low in (("neighbours", 1), ("clusters", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise RequestError(f"option {name}={value!r}: expected a whole number from {low} on; correct --option")
        if not isinstance(self.similar, (int, float)) or not 0 < self.similar <= 1:
            raise RequestError(f"option similar={self.similar!r}: expected more than 0 and at most 1; correct --option")


@dataclass(frozen=True, slots=True)
class ClassifierOptions:
    """How many classifiers are trained on a pool with classes, and what is recorded of every row in every epoch.

    `record`: `train` as the training meets the row (augmented, before its step), `eval` without augmentation after the
    epoch, for a third more time.
    """

    nets: int = 1
    record: str = "train"

    def __post_init__(self) -> None:
        if type(self.nets) is not int or self.nets < 1:
            raise RequestError(f"option nets={self.nets!r}: expected a whole number from 1 on; correct --option")
        if self.record not in ("train", "eval"):
            raise RequestError(f"option record={self.record!r}: expected train or eval; correct --option")


@dataclass(frozen=True)
class MethodOptions:
    """The given options, each with whom it is for."""

    gradient: GradientOptions
    geometry: GeometryOptions
    classifier: ClassifierOptions
    score: dict[str, Any]
    pick: dict[str, Any]
    pick_needs: frozenset[str]
    """What the pick reads under these options."""


def split(given: Mapping[str, str], score: Score, pick: Pick | None = None) -> MethodOptions:
    """Give each option to the probes, the score or the pick, typed; `score.NAME` and `pick.NAME` say for whom one is.

    Raises:
        RequestError: A name none of them knows (with the nearest), one that two of them know, or an impossible value.
    """
    for_pick, for_score = _meant_for("pick", given), _meant_for("score", given)
    pick_needs = _needs_of(pick, for_pick) if pick else frozenset()
    of_probe = _of_probe(score.needs | pick_needs)
    of_pick, of_score = _keywords(pick) if pick else set[str](), _keywords(score) | of_probe
    shared = of_pick & of_score - getattr(pick, "shares", frozenset())
    known = of_score | of_pick
    for name in given:
        if name in shared:
            raise RequestError(
                f"option {name!r} is one of method {score.name} and one of pick {getattr(pick, 'name', '')}: expected "
                f"score.{name} or pick.{name}; say which"
            )
        side, _, bare = name.rpartition(".")
        if bare not in {"": known, "score": of_score, "pick": of_pick}.get(side, ()):
            hint = nearest(name, sorted(known), "it knows")
            raise RequestError(f"option {name!r} is unknown to method {score.name}; {hint}")
    probe = {k: _value(k, v) for k, v in for_score.items() if k in of_probe}
    return MethodOptions(
        _gradient({k: v for k, v in probe.items() if k not in {*_OF_GEOMETRY.values(), *_OF_NETS}}),
        GeometryOptions(**{k: v for k, v in probe.items() if k in _OF_GEOMETRY.values()}),
        ClassifierOptions(**{k: v for k, v in probe.items() if k in _OF_NETS}),
        plugins.options(score, {k: v for k, v in for_score.items() if k in _keywords(score)}),
        plugins.options(pick, {k: v for k, v in for_pick.items() if k in of_pick}) if pick else {},
        pick_needs,
    )


def split_each(given: Mapping[str, str], scores: Sequence[Score]) -> list[MethodOptions]:
    """The options of several methods at once: each takes those it knows; one that none knows is an error.

    Raises:
        RequestError: No method knows a name, or an impossible value.
    """
    out = []
    left = set(given)
    for score in scores:
        known = _known(score)
        out.append(split({k: v for k, v in given.items() if k in known}, score))
        left -= known
    if left:
        split({k: given[k] for k in sorted(left)}, scores[0])
    return out


def _meant_for(side: str, given: Mapping[str, str]) -> dict[str, str]:
    """Options that a side may read, by their bare names: those of nobody by name, then its own."""
    own = {name.removeprefix(f"{side}."): value for name, value in given.items() if name.startswith(f"{side}.")}
    return {**{name: value for name, value in given.items() if "." not in name}, **own}


def _value(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise RequestError(f"option {name}={text!r}: expected a number or a word; correct --option") from None


def _needs_of(pick: Pick, given: Mapping[str, str]) -> frozenset[str]:
    """What a pick always needs, and what its `needs_by` (option, value) adds for options that are given."""
    by: Mapping[tuple[str, str], frozenset[str]] = getattr(pick, "needs_by", {})
    return pick.needs.union(*(more for (name, value), more in by.items() if given.get(name) == value))


def _of_probe(needs: frozenset[str]) -> set[str]:
    of_features = {"warmup", *_OF_FEATURES} if "similarity" in needs else set()
    if needs & {"dynamics", "probabilities", "grad_norms"}:
        of_features |= _OF_NETS
    if "threshold_dynamics" in needs:
        of_features |= {"record"}
    return of_features | {_OF_GEOMETRY[need] for need in needs & set(_OF_GEOMETRY)}


def _known(score: Score) -> set[str]:
    return _of_probe(score.needs) | _keywords(score)


def _keywords(method: Any) -> set[str]:
    """Names of a method's own options; the seed is the request's."""
    return {p.name for p in inspect.signature(method).parameters.values() if p.kind is p.KEYWORD_ONLY} - {"seed"}


def _gradient(given: Mapping[str, Any]) -> GradientOptions:
    default = GradientOptions()
    values = {k: v for k, v in given.items() if k != "warmup"}
    if values.get("kind") == "onesided":
        values.setdefault("optimizer", "sgd")
    try:
        feature = replace(default.feature, **values)
    except TypeError as error:
        raise RequestError(f"options {values} have the wrong type ({error}); see docs/methods.md") from error
    return GradientOptions(given.get("warmup", default.warmup), feature)
