"""PVI: how many bits a row's vector tells about its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import MissingExtra, RequestError
from dataworth.records import hash_unit, id_order
from dataworth.results import Scored
from dataworth.scores.assemble import assemble

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

_CLIP = 1e-6


class PVI:
    """log2 g(y | x) - log2 prior(y), both fitted on the other folds; low is hard, negative often mislabelled.

    Source: Ethayarajh et al. 2022, arXiv 2110.08420. g is a multinomial logistic regression on the standardised
    vectors, the prior has add-one smoothing. Scored in-sample, even random labels would seem to be told by their rows.
    """

    name = "pvi"
    kinds = frozenset({"classify"})
    needs = frozenset({"vectors", "labels"})
    higher: Literal["keep", "drop"] = "drop"
    ends = ("hardest", "easiest")
    doubt = "a label that is less likely given the row than without it"
    """What a value below 0 says."""

    def __call__(
        self, inputs: Mapping[str, Any], *, folds: int = 5, c: float = 1.0, seed: int = 0, max_iter: int = 1000
    ) -> Scored:
        """Score every row from `vectors` [N, D] and `labels` [N]; a negative label is none.

        Folds are dealt by hash of id and seed within each class; copies of a row share one. g(y | x) is clipped at
        1e-6; a note of the result says for how many rows. In a pool of one class every row tells 0 bits. `c` is the
        inverse strength of the regression's penalty.

        Raises:
            RequestError: Fewer than two folds, or a penalty that isn't positive.
            MissingExtra: scikit-learn isn't installed.
        """
        if folds < 2 or not c > 0:
            raise RequestError(f"folds={folds}, c={c}: expected 2 or more folds and a positive c; correct --option")
        table = _Table.of(inputs, folds, seed)
        values_N = np.full(len(inputs["ids"]), np.nan)
        if table.classes < 2:
            values_N[table.rows] = 0.0
            return assemble(values_N, inputs, "it has no usable vector or no label")
        bits_n, clipped = table.bits(c, max_iter)
        values_N[table.rows] = bits_n
        alone = {inputs["ids"][i]: "no other row has its class" for i in table.rows[np.isnan(bits_n)].tolist()}
        known = {**inputs, "unscored": {**alone, **inputs.get("unscored", {})}}
        scored = assemble(values_N, known, "it has no usable vector or no label")
        note = f"pvi: the probability of the label was below {_CLIP:g}, and clipped there, for {clipped:,} rows"
        return replace(scored, notes=(note,)) if clipped else scored


@dataclass(frozen=True)
class _Table:
    """The usable rows in the order of their ids: positions, vectors, classes from 0, folds."""

    rows: NDArray[np.int64]
    x_nD: NDArray[np.float64]
    y_n: NDArray[np.int64]
    fold_n: NDArray[np.int64]
    classes: int

    @classmethod
    def of(cls, inputs: Mapping[str, Any], folds: int, seed: int) -> _Table:
        ids, vectors_ND, labels_N = inputs["ids"], inputs["vectors"], np.asarray(inputs["labels"])
        order = id_order(ids)
        order = order[labels_N[order] >= 0]
        x_nD = np.asarray(vectors_ND[order], dtype=np.float64)
        whole = np.isfinite(x_nD).all(axis=1)
        rows, x_nD = order[whole], x_nD[whole]
        names, y_n = np.unique(labels_N[rows], return_inverse=True)
        return cls(rows, x_nD, y_n, _folds([ids[i] for i in rows.tolist()], y_n, folds, seed), len(names))

    def bits(self, c: float, max_iter: int) -> tuple[NDArray[np.float64], int]:
        """Out-of-fold PVI `[n]`, NaN where the other folds don't know the class, and how many rows were clipped."""
        out_n, clipped = np.full(len(self.rows), np.nan), 0
        for fold in np.unique(self.fold_n).tolist():
            test_n = self.fold_n == fold
            seen_C = np.bincount(self.y_n[~test_n], minlength=self.classes)
            prior_C = (seen_C + 1) / (seen_C.sum() + self.classes)
            p_tC = _predict(self.x_nD[~test_n], self.y_n[~test_n], self.x_nD[test_n], self.classes, c, max_iter)
            y_t = self.y_n[test_n]
            p_t = p_tC[np.arange(len(y_t)), y_t]
            known_t = seen_C[y_t] > 0
            clipped += int((known_t & (p_t < _CLIP)).sum())
            bits_t = np.log2(np.maximum(p_t, _CLIP)) - np.log2(prior_C[y_t])
            out_n[test_n] = np.where(known_t, np.round(bits_t, 9), np.nan)  # copies tie whatever a product's last bits
        return out_n, clipped


def _folds(ids: Sequence[str], y_n: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """A fold per row: rows by class and hash are dealt in turn, copies of a row lie where the first one does."""
    firsts, of_n = np.unique([i[:32] for i in ids], return_inverse=True)
    class_F = np.full(len(firsts), -1, dtype=np.int64)
    class_F[of_n[::-1]] = y_n[::-1]
    dealt = np.lexsort((np.arange(len(firsts)), hash_unit(firsts.tolist(), seed, "pvi folds"), class_F))
    fold_F = np.empty(len(firsts), dtype=np.int64)
    fold_F[dealt] = np.arange(len(firsts)) % folds
    return fold_F[of_n]


def _predict(
    x_nD: NDArray[np.float64],
    y_n: NDArray[np.int64],
    at_tD: NDArray[np.float64],
    classes: int,
    c: float,
    max_iter: int,
) -> NDArray[np.float64]:
    """Class probabilities `[t, C]` at `at_tD` of a regression fitted on standardised `x_nD`."""
    out_tC = np.zeros((len(at_tD), classes))
    there = np.unique(y_n)
    if len(there) < 2:  # nothing to tell apart: all that was seen is one class
        out_tC[:, there] = 1.0
        return out_tC
    mean_D, spread_D = x_nD.mean(axis=0), x_nD.std(axis=0)
    scale_D = np.where(spread_D > 0, spread_D, 1.0)
    model = _regression(c, max_iter).fit((x_nD - mean_D) / scale_D, y_n)
    out_tC[:, model.classes_] = model.predict_proba((at_tD - mean_D) / scale_D)
    return out_tC


def _regression(c: float, max_iter: int) -> LogisticRegression:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise MissingExtra("pvi", "scikit-learn", "methods") from None
    return LogisticRegression(C=c, max_iter=max_iter)
