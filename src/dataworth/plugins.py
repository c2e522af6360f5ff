"""The catalogues of scores, picks and checks, joined with installed entry points.

A catalogue maps a name to `module:attribute`; the module is imported when the name is asked for. A package of your own
joins by an entry point in the group `dataworth.scores`, `dataworth.picks` or `dataworth.checks`; its object needs
the attributes of the protocol in `results` and inherits nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from dataworth.errors import RequestError, nearest

SCORES = {
    "random": "dataworth.scores.random:Random",
    "length": "dataworth.scores.length:Length",
    "response_length": "dataworth.scores.response_length:ResponseLength",
    "bm25": "dataworth.scores.bm25:BM25",
    "loss": "dataworth.scores.loss:Loss",
    "rds": "dataworth.scores.rds:RDS",
    "less": "dataworth.scores.less:Less",
    "dsir": "dataworth.scores.dsir:DSIR",
    "ncd": "dataworth.scores.ncd:NCD",
    "compression": "dataworth.scores.compression:Compression",
    "ifd": "dataworth.scores.ifd:IFD",
    "memorised": "dataworth.scores.memorised:Memorised",
    "perplexity": "dataworth.scores.perplexity:Perplexity",
    "entropy": "dataworth.scores.entropy:Entropy",
    "prototypes": "dataworth.scores.prototypes:Prototypes",
    "density": "dataworth.scores.density:Density",
    "moderate": "dataworth.scores.moderate:Moderate",
    "pvi": "dataworth.scores.pvi:PVI",
    "knn_shapley": "dataworth.scores.knn_shapley:KnnShapley",
    "el2n": "dataworth.scores.el2n:EL2N",
    "grand": "dataworth.scores.grand:GraNd",
    "forgetting": "dataworth.scores.forgetting:Forgetting",
    "aum": "dataworth.scores.aum:AUM",
    "aum_threshold": "dataworth.scores.threshold_classes:AUMThreshold",
    "cartography": "dataworth.scores.cartography:Cartography",
    "dual": "dataworth.scores.dual:DUAL",
    "least_confidence": "dataworth.scores.least_confidence:LeastConfidence",
    "margin": "dataworth.scores.margin:Margin",
}
PICKS = {
    "top_k": "dataworth.picks.top_k:TopK",
    "random": "dataworth.picks.random:RandomPick",
    "quota": "dataworth.picks.quota:Quota",
    "bottom_k": "dataworth.picks.bottom_k:BottomK",
    "window": "dataworth.picks.window:Window",
    "band": "dataworth.picks.band:Band",
    "threshold": "dataworth.picks.threshold:Threshold",
    "stratified": "dataworth.picks.stratified:Stratified",
    "balanced": "dataworth.picks.balanced:Balanced",
    "gumbel": "dataworth.picks.gumbel:Gumbel",
    "zip": "dataworth.picks.zip:Zip",
    "deduplicate": "dataworth.picks.deduplicate:Deduplicate",
    "diverse": "dataworth.picks.diverse:Diverse",
    "semdedup": "dataworth.picks.semdedup:SemDeDup",
    "cluster_quota": "dataworth.picks.cluster_quota:ClusterQuota",
    "k_center": "dataworth.picks.k_center:KCenter",
    "facility_location": "dataworth.picks.facility_location:FacilityLocation",
    "herding": "dataworth.picks.herding:Herding",
    "d2": "dataworth.picks.d2:D2",
    "craig": "dataworth.picks.craig:Craig",
    "lightweight": "dataworth.picks.lightweight:Lightweight",
    "dual_beta": "dataworth.picks.dual_beta:DualBeta",
    "sensitivity": "dataworth.picks.sensitivity:Sensitivity",
}
CHECKS = {
    "DW001": "dataworth.checks.contamination:Contamination",
    "DW101": "dataworth.checks.still_steep:StillSteep",
    "DW102": "dataworth.checks.interpolation_peak:InterpolationPeak",
    "DW103": "dataworth.checks.under_trained:UnderTrained",
    "DW104": "dataworth.checks.chains_disagree:ChainsDisagree",
    "DW105": "dataworth.checks.capacity_exceeded:CapacityExceeded",
    "DW106": "dataworth.checks.judge_overlap:JudgeOverlap",
}

FAMILIES = {"column": "dataworth.scores.column:Column"}
"""Scores of which there are as many as names behind a colon: `column:quality`."""

Group = Literal["scores", "picks", "checks"]
_OWN: dict[Group, dict[str, str]] = {"scores": SCORES, "picks": PICKS, "checks": CHECKS}
_ATTRIBUTES = {
    "scores": ("name", "kinds", "needs", "higher"),
    "picks": ("name", "needs"),
    "checks": ("code", "title", "severity", "cost", "needs"),
}


@cache
def catalogue(group: Group) -> Mapping[str, str]:
    """Name -> `module:attribute` of a group, our own first, then installed entry points.

    Raises:
        RequestError: Two packages claim one name.
    """
    found = dict(_OWN[group])
    for point in entry_points(group=f"dataworth.{group}"):
        if found.setdefault(point.name, point.value) != point.value:
            raise RequestError(
                f"two {group} are called {point.name!r} ({found[point.name]}, {point.value}): uninstall or rename one"
            )
    return found


def load(group: Group, name: str) -> Any:
    """The score, pick or check of that name.

    Raises:
        RequestError: No such name (with the nearest), or an object that doesn't fit the protocol.
    """
    names = catalogue(group)
    family, _, member = name.partition(":")
    if group == "scores" and family in FAMILIES:
        module, _, attribute = FAMILIES[family].partition(":")
        return getattr(import_module(module), attribute)(member)
    if name not in names:
        raise RequestError(f"{name!r} is none of the {group}; {nearest(name, sorted(names))}")
    module, _, attribute = names[name].partition(":")
    made = getattr(import_module(module), attribute)
    made = made() if inspect.isclass(made) else made
    missing = [a for a in _ATTRIBUTES[group] if not hasattr(made, a)]
    if missing or not callable(made):
        raise RequestError(
            f"{names[name]} lacks {', '.join(missing) or '__call__'}: expected what `results` asks of {group}"
        )
    return made


def options(method: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options for a score, pick or check, text turned into the type of the parameter's default.

    Raises:
        RequestError: An option the method doesn't have (with the nearest), or a value of the wrong type.
    """
    known = {p.name: p.default for p in inspect.signature(method).parameters.values() if p.kind is p.KEYWORD_ONLY}
    out = {}
    for key, value in given.items():
        if key not in known:
            hint = nearest(key, sorted(known), "it takes")
            raise RequestError(f"option {key!r} is unknown to {getattr(method, 'name', 'this method')!r}; {hint}")
        out[key] = _typed(key, value, known[key])
    return out


def _typed(key: str, value: Any, default: Any) -> Any:
    kind = type(default)
    if not isinstance(value, str) or kind not in (bool, int, float):
        return value
    try:
        return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        raise RequestError(
            f"option {key}={value!r}: expected {kind.__name__}, like {default!r}; correct --option"
        ) from None
