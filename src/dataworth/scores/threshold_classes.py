"""Threshold classes: which AUM a mislabelled row has, learned from rows that are mislabelled on purpose.

Source: Pleiss et al. 2020, arXiv 2001.10528. Two trainings are made, each with one of two sets of rows relabelled to
one class more than there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.dynamics import ThresholdDynamics, mean_of
from dataworth.errors import RequestError
from dataworth.records import hash_unit, id_order
from dataworth.results import Scored
from dataworth.scores.assemble import assemble


class AUMThreshold:
    """AUM minus the cut-off of its training's threshold rows, the larger of two trainings; 0 or below is mislabelled.

    A training says nothing of its own threshold rows, so those have the other's difference alone. High is surely
    labelled right, and kept: this is for leaving out wrong labels, with `--pick threshold --option above=0`.
    """

    name = "aum_threshold"
    kinds = frozenset({"classify"})
    needs = frozenset({"threshold_dynamics"})
    higher: Literal["keep", "drop"] = "keep"

    def __call__(self, inputs: Mapping[str, Any], *, percentile: float = 99.0) -> Scored:
        """Score every row; the cut-off is a `percentile` of the threshold rows' AUMs.

        Raises:
            RequestError: A percentile outside 0 to 100, or a training whose threshold rows have no AUM.
        """
        if not 0 <= percentile <= 100:
            raise RequestError(f"percentile={percentile}: expected 0 to 100; correct --option percentile")
        found: ThresholdDynamics = inputs["threshold_dynamics"]
        aum_2N = np.stack([mean_of(margin_EN) for margin_EN in found.margin_2EN])
        value_N = beyond_cut_off(aum_2N, found.own_2N, percentile)
        scored = assemble(value_N, inputs, "no net saw it with its own label")
        flagged = int((value_N <= 0).sum())
        told = f"{flagged:,} of {len(value_N):,} rows are at or below the cut-off, so likely mislabelled"
        if flagged > _TOO_MANY * len(value_N):
            told += "; so many are hardly wrong: train longer, or take the lowest rows by aum instead of a cut-off"
        return replace(scored, notes=(f"{self.name}: {told}",))


_TOO_MANY = 1 / 3
"""A larger share of flagged rows says that the nets haven't learned their labels yet."""


def threshold_sets(ids: Sequence[str], classes: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two disjoint sets of `N // (classes + 1)` positions each, by hash of id and seed.

    Raises:
        RequestError: Fewer than two classes, or too few rows for two sets of at least one.
    """
    size = len(ids) // (classes + 1)
    if classes < 2 or size < 1:
        raise RequestError(f"{len(ids)} rows of {classes} classes: expected 2 classes and a row more than classes")
    rank_N = np.empty(len(ids), dtype=np.int64)
    rank_N[id_order(ids)] = np.arange(len(ids))
    order_N = np.lexsort((rank_N, hash_unit(ids, seed, "threshold classes")))
    return order_N[:size], order_N[size : 2 * size]


def cut_off(aum_N: NDArray[np.floating], own_N: NDArray[np.bool_], percentile: float = 99.0) -> float:
    """The AUM at or below which a row behaves like one that is mislabelled: a percentile of the threshold rows'.

    Raises:
        RequestError: None of the threshold rows, which are those without their own label, has an AUM.
    """
    known = aum_N[~own_N & ~np.isnan(aum_N)]
    if not len(known):
        raise RequestError("no threshold row has an AUM: expected the training to see them; train on all rows")
    return float(np.percentile(known, percentile))


def beyond_cut_off(
    aum_2N: NDArray[np.floating], own_2N: NDArray[np.bool_], percentile: float = 99.0
) -> NDArray[np.float64]:
    """AUM minus the cut-off in every training with the row's own label, the larger one; NaN where one has no AUM."""
    beyond_2N = np.stack([a - cut_off(a, own_N, percentile) for a, own_N in zip(aum_2N, own_2N, strict=True)])
    return np.where(own_2N.any(axis=0), np.where(own_2N, beyond_2N, -np.inf).max(axis=0), np.nan)
