"""Is a learning curve a clean power law? The largest size held out, rival shapes, residuals and their signs.

One learning curve in seven is not monotone or not convex (LCDB 1.1, arXiv 2505.15657), and a law fitted to such a curve
says nothing beyond it. Axes: `C` chains, `K` sizes, `R` runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import numpy as np
from scipy import stats

from dataworth.laws.objective import Floats
from dataworth.laws.power import PowerLaw, fit_power
from dataworth.laws.shapes import fit_shape
from dataworth.laws.spread import over_chains
from dataworth.numerics.ranks import mean_interval

# A miss of the held-out size counts beyond this interval; beyond the second where a rival misses by less than half.
_MISS, _MISS_WITH_RIVAL = 0.98, 0.80
# A run of residuals of one sign: at least this many sizes, and the chains agree at this level.
_RUN_SIZES, _RUN_LEVEL = 3, 0.98
# Level of the test of residuals at all sizes together, and the law's parameters.
_FIT_LEVEL, _PARAMETERS = 0.99, 3
# Log errors up to this are nil, whatever the noise.
_NIL = 1e-4


@dataclass(frozen=True)
class Inspection:
    """What was found.

    `misses` are log errors (predicted over measured) at the largest size of power, pow4 and mmf4 fitted without it, and
    `noise` the half-width that the chains' spread explains of the power law's; `reasons` are empty if clean.
    `falls`: the chains show that the loss falls.
    """

    misses: Mapping[str, float] = field(default_factory=dict)
    noise: float = 0.0
    reasons: tuple[str, ...] = ()
    falls: bool = True


def runs_of(sizes_K: Floats, loss_CK: Floats) -> tuple[Floats, Floats]:
    """(sizes_R, losses_R) of the points that are there."""
    there = np.isfinite(loss_CK)
    return np.broadcast_to(sizes_K, loss_CK.shape)[there], loss_CK[there]


def whole_chains(loss_CK: Floats) -> Floats:
    """The chains with at least 4 points: those that can be fitted alone."""
    return loss_CK[np.isfinite(loss_CK).sum(axis=1) >= 4]


def inspect(sizes_K: Floats, loss_CK: Floats, law: PowerLaw) -> Inspection:
    """Hold sorted sizes and their losses (NaN where missing) against `law`, fitted to all of them."""
    misses, noise, reasons = _held_out(sizes_K, loss_CK)
    residual_CK = np.log(loss_CK) - np.log(law.at(sizes_K))
    lack = _lack_of_fit(sizes_K, residual_CK)
    run = _run_of_signs(sizes_K, residual_CK)
    return Inspection(misses, noise, (*reasons, *lack, *run), not _no_fall(sizes_K, loss_CK))


def first_rise(sizes_K: Floats, loss_CK: Floats, level: float = 0.9) -> tuple[float, float] | None:
    """Two neighbouring sizes between which the loss rises beyond what chains scatter, if there are any.

    All pairs are looked at, so each is held to its part of what `level` leaves (Bonferroni).
    """
    level = 1.0 - (1.0 - level) / max(1, len(sizes_K) - 1)
    for low, high in pairwise(np.argsort(sizes_K)):
        step_C = np.log(loss_CK[:, high] / loss_CK[:, low])
        step_C = step_C[np.isfinite(step_C)]
        if len(step_C) > 1 and mean_interval(step_C, level=level).low > 0:
            return float(sizes_K[low]), float(sizes_K[high])
    return None


def _held_out(sizes_K: Floats, loss_CK: Floats) -> tuple[dict[str, float], float, tuple[str, ...]]:
    largest, seen_K, seen_CK = float(sizes_K[-1]), sizes_K[:-1], loss_CK[:, :-1]
    D_R, loss_R = runs_of(seen_K, seen_CK)
    law = fit_power(D_R, loss_R)
    measured_C = np.log(loss_CK[:, -1])
    measured = float(np.nanmean(measured_C))
    misses = {"power": float(np.log(law.at(largest))) - measured}
    for name in ("pow4", "mmf4"):
        misses[name] = float(np.log(fit_shape(name, D_R, loss_R, law).at(largest))) - measured
    own = [
        float(np.log(fit_power(*runs_of(seen_K, row[None, :-1]), start=law).at(largest)) - np.log(row[-1]))
        for row in loss_CK
        if np.isfinite(row[-1]) and np.isfinite(row[:-1]).sum() >= 3
    ]
    if len(own) < 2:
        return misses, np.nan, ()
    miss, rival = abs(misses["power"]), min(abs(misses["pow4"]), abs(misses["mmf4"]))
    noise = over_chains(misses["power"], own, _MISS if miss <= 2 * rival else _MISS_WITH_RIVAL)
    half = max((noise.high - noise.low) / 2, _NIL)
    if miss <= half:
        return misses, half, ()
    text = (
        f"fitted without the largest size ({largest:g} rows) it misses the loss there by {100 * np.expm1(miss):.1f} %, "
        f"where noise explains {100 * np.expm1(half):.1f} %"
    )
    better = f"; a curve that bends misses by {100 * np.expm1(rival):.1f} %" if miss > 2 * rival else ""
    return misses, half, (text + better,)


def _no_fall(sizes_K: Floats, loss_CK: Floats, level: float = 0.9) -> bool:
    """Whether the chains' slopes of log loss on log size fail to show that the loss falls at all."""
    points = [runs_of(np.log(sizes_K), row[None]) for row in loss_CK if np.isfinite(row).sum() >= 2]
    slope_C = np.array([np.polyfit(x_R, np.log(loss_R), 1)[0] for x_R, loss_R in points])
    half = stats.t.ppf((1 + level) / 2, len(slope_C) - 1) * slope_C.std(ddof=1) / np.sqrt(len(slope_C))
    return bool(slope_C.mean() + half > -_NIL)


def _lack_of_fit(sizes_K: Floats, residual_CK: Floats) -> tuple[str, ...]:
    """Sizes whose mean residuals scatter by more than the chains' own: an F test of the law against any curve.

    What a chain has in common at all sizes (its rows are nested) is no misfit and no noise, so it is taken out first.
    """
    whole_CK = residual_CK[np.isfinite(residual_CK).all(1)]
    chains, sizes = whole_CK.shape
    spare, noisy = sizes - _PARAMETERS, (sizes - 1) * (chains - 1)
    if spare < 1 or noisy < 1:
        return ()
    mean_K = whole_CK.mean(0) - whole_CK.mean()
    own_CK = whole_CK - whole_CK.mean(1, keepdims=True) - mean_K
    misfit, noise = chains * float(mean_K @ mean_K) / spare, max(float((own_CK**2).sum()) / noisy, _NIL**2)
    if misfit <= noise * float(stats.f.ppf(_FIT_LEVEL, spare, noisy)):
        return ()
    worst = int(np.argmax(np.abs(mean_K)))
    return (
        f"it misses its own points by up to {100 * np.expm1(abs(mean_K[worst])):.1f} % (at {sizes_K[worst]:g} rows), "
        f"where chains scatter by {100 * np.expm1(noise**0.5):.1f} %",
    )


def _run_of_signs(sizes_K: Floats, residual_CK: Floats) -> tuple[str, ...]:
    """Neighbouring sizes off the law to the same side by more than the chains' spread."""
    mean_K = np.nanmean(residual_CK, axis=0)
    for sign, group in groupby(range(len(sizes_K)), key=lambda k: bool(mean_K[k] > 0)):
        members = list(group)
        by_chain = np.array([np.nanmean(row[members]) for row in residual_CK if np.isfinite(row[members]).any()])
        if len(members) < _RUN_SIZES or len(by_chain) < 2:
            continue
        half = stats.t.ppf((1 + _RUN_LEVEL) / 2, len(by_chain) - 1) * by_chain.std(ddof=1) / np.sqrt(len(by_chain))
        if abs(by_chain.mean()) > max(half, _NIL):
            side, first, last = "above" if sign else "below", sizes_K[members[0]], sizes_K[members[-1]]
            return (f"the {len(members)} sizes from {first:g} to {last:g} all lie {side} it, beyond chance",)
    return ()
