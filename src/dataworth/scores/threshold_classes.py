"""Threshold classes: which AUM a mislabelled row has, learned from rows that are mislabelled on purpose.

Source: Pleiss et al. 2020, arXiv 2001.10528. Train twice, each time with `relabelled` labels and one class more, and
hand both AUMs to `mislabelled`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.records import hash_unit, id_order


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


def relabelled(labels_N: NDArray[np.int64], rows: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """The labels with class `classes`, one more than there are, at `rows`."""
    out_N = np.array(labels_N, dtype=np.int64)
    out_N[rows] = classes
    return out_N


def cut_off(aum_N: NDArray[np.floating], rows: NDArray[np.int64], percentile: float = 99.0) -> float:
    """The AUM below which a row behaves like one that is mislabelled: a percentile of the threshold rows'.

    Raises:
        RequestError: None of the threshold rows has an AUM.
    """
    known = aum_N[rows][~np.isnan(aum_N[rows])]
    if not len(known):
        raise RequestError("no threshold row has an AUM: expected the training to see them; train on all rows")
    return float(np.percentile(known, percentile))


def mislabelled(
    aum_2N: NDArray[np.floating], sets: tuple[NDArray[np.int64], NDArray[np.int64]], percentile: float = 99.0
) -> NDArray[np.bool_]:
    """Rows whose AUM is at or below the cut-off in every run that trained on their own label.

    A run says nothing of its threshold rows, so those are judged by the other one. Rows without an AUM aren't flagged.
    """
    flagged_N = np.ones(aum_2N.shape[1], dtype=bool)
    for aum_N, rows in zip(aum_2N, sets, strict=True):
        own_N = np.ones(len(flagged_N), dtype=bool)
        own_N[rows] = False
        flagged_N &= ~own_N | (aum_N <= cut_off(aum_N, rows, percentile))
    return flagged_N
