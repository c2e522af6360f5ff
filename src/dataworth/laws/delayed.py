"""Delayed generalisation (grokking) read from a training log: was validation flat long after the fit, and then rose?

The pattern is that of Power et al. 2022 (arXiv 2201.02177): training accuracy is at its ceiling, validation stays where
it was for many times the steps that the fit took, then rises. It is looked for in what the log holds and never
predicted: a log that is flat to its end doesn't tell whether validation would have risen, at which step, or why.
Axes: `L` logged points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError

Verdict = Literal["shown", "not shown", "cannot tell"]
Floats = NDArray[np.float64]

FITTED = 0.99
"""Training accuracy that counts as fitted."""
LONGER = 2.0
"""Validation must stay flat for this many times the steps to the fit: until three times them, half a decade of steps.
In ordinary training it goes on rising within the first multiple."""
TOLERANCE = 0.05
"""How far validation may move and still be flat, in accuracy."""
RISE = 0.2
"""How much it must rise then, in accuracy: four tolerances, so that drift isn't a rise."""
_POINTS = 5
"""Fewest validation points in the stretch that has to be flat."""
_WIDTH = 5
"""Points of the running median: a lucky evaluation or two are neither a rise nor the end of a flat stretch."""
_LEFT = 0.9417
"""What the running median leaves of independent normal noise: sqrt(1 + 0.2868 - 2 / 5)."""
_NOISE = 0.5
"""Share of the tolerance above which the noise of a single validation hides what is asked."""


@dataclass(frozen=True)
class Delayed:
    """What a log shows of the pattern; numbers that it doesn't reach are None.

    `fit_step` is the first of two successive points of fitted training accuracy, `level` the median validation accuracy
    over the stretch that has to be flat, `noise` the standard deviation of one validation there, `left_step`
    the first step at which validation leaves the level upwards and `risen_step` the one at which it has risen by what
    was asked, `highest` its running median's maximum after the fit, `last_step` the end of the validation log.
    """

    verdict: Verdict
    reason: str
    last_step: float
    fit_step: float | None = None
    level: float | None = None
    noise: float | None = None
    left_step: float | None = None
    risen_step: float | None = None
    highest: float | None = None

    def __str__(self) -> str:
        return f"delayed generalisation: {self.verdict}: {self.reason}"

    def explain(self) -> str:
        """The verdict and what it doesn't say, in plain English."""
        meant = {
            "shown": "what brought it about, and whether another run would show it, a log doesn't tell",
            "not shown": f"up to step {self.last_step:,.0f}; whether it would come later a log doesn't tell",
            "cannot tell": "the log doesn't hold what is needed",
        }
        return f"{self}\n{meant[self.verdict]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))


def delayed_generalisation(
    steps_L: Sequence[float] | Floats,
    train_L: Sequence[float] | Floats,
    validation_L: Sequence[float] | Floats,
    *,
    fitted: float = FITTED,
    longer: float = LONGER,
    tolerance: float = TOLERANCE,
    rise: float = RISE,
) -> Delayed:
    """Whether training accuracy was fitted while validation stayed flat for `longer` times as long, and then rose.

    Args:
        steps_L: Optimizer steps (or epochs) of the logged points, in any order, none twice.
        train_L: Training accuracy, 0 to 1; NaN where it wasn't logged.
        validation_L: Validation accuracy likewise, on rows that don't change.
        fitted: Training accuracy that counts as fitted.
        longer: For how many times the steps to the fit validation must stay flat after it.
        tolerance: How far validation may move and be flat.
        rise: How much it must rise above that level.

    Raises:
        RequestError: Unequal lengths, a repeated or negative step, an accuracy outside 0 to 1, or limits that make no
            sense (a rise within the tolerance).
    """
    steps_L, train_L, validation_L = _checked(steps_L, train_L, validation_L)
    if not (0 < fitted <= 1 and longer > 0 and 0 < tolerance < rise <= 1):
        raise RequestError(
            f"fitted {fitted}, longer {longer}, tolerance {tolerance}, rise {rise}: expected fitted up to 1, longer "
            "above 0 and 0 < tolerance < rise <= 1; correct them"
        )
    logged_L = np.isfinite(validation_L)
    last = float(steps_L[logged_L].max(initial=0.0))
    at, why = _fit_step(steps_L, train_L, fitted)
    if at is None:
        return Delayed("cannot tell", why, last)
    until = (1.0 + longer) * at
    seen_L = logged_L & (steps_L >= at)
    points = int((steps_L[seen_L] <= until).sum())
    if last < until:
        short = f"training is fitted at step {at:,.0f} and validation is logged up to {last:,.0f} only"
        return Delayed("cannot tell", f"{short}: log it to {until:,.0f} at least", last, at)
    if points < _POINTS:
        few = f"{points} validations between steps {at:,.0f} and {until:,.0f}"
        return Delayed("cannot tell", f"{few}: expected at least {_POINTS}", last, at)
    held = float(np.nanmedian(train_L[(steps_L >= at) & (steps_L <= until)]))
    if held < fitted:
        return Delayed("not shown", f"training accuracy fell to {held:.3f} after it was fitted", last, at)
    return _after_the_fit(at, steps_L[seen_L], validation_L[seen_L], points, tolerance, rise)


def _after_the_fit(at: float, step_L: Floats, value_L: Floats, points: int, tolerance: float, rise: float) -> Delayed:
    """The verdict of validations from the step of the fit on, of which the first `points` have to be flat."""
    level, smooth_L = float(np.median(value_L[:points])), _smooth(value_L)
    noise = math.sqrt(((value_L - smooth_L)[:points] ** 2).mean()) / _LEFT
    found = Delayed("not shown", "", float(step_L[-1]), at, level, noise, highest=float(smooth_L.max()))
    moved = float(np.abs(smooth_L[:points] - level).max())
    risen_L = smooth_L >= level + rise
    if noise > _NOISE * tolerance:
        why = f"validations scatter by {noise:.3f}, too much to tell a move of {tolerance:g}: judge on more rows"
        return replace(found, verdict="cannot tell", reason=why)
    if level + rise > 1.0:
        return replace(found, reason=f"validation is at {level:.3f} after the fit: no room to rise by {rise:g}")
    if moved > tolerance:
        why = f"validation moves by {moved:.3f} between steps {at:,.0f} and {step_L[points - 1]:,.0f}: it isn't flat"
        return replace(found, reason=why)
    if not risen_L.any():
        return replace(found, reason=f"validation stays near {level:.3f}, at most {found.highest:.3f}")
    left, risen = (float(step_L[np.argmax(a)]) for a in (smooth_L > level + tolerance, risen_L))
    told = (
        f"training is fitted at step {at:,.0f}, validation stays at {level:.3f} until step {left:,.0f} "
        f"({left / at:.3g} times as long) and reaches {found.highest:.3f}"
    )
    return replace(found, verdict="shown", reason=told, left_step=left, risen_step=risen)


def _smooth(value_L: Floats) -> Floats:
    """Running median of five points, mirrored at the ends, where one point alone therefore decides nothing."""
    padded = np.pad(value_L, _WIDTH // 2, mode="reflect")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, _WIDTH), axis=1))


def _fit_step(steps_L: Floats, train_L: Floats, fitted: float) -> tuple[float | None, str]:
    """First of two successive points of fitted accuracy, or None and why there is none to go by."""
    there_L = np.isfinite(train_L)
    step_L, train_L = steps_L[there_L], train_L[there_L]
    if len(step_L) < 2:
        return None, f"{len(step_L)} logged training accuracies: expected at least 2"
    both_L = (train_L[:-1] >= fitted) & (train_L[1:] >= fitted)
    if not both_L.any():
        return None, f"training accuracy isn't fitted ({fitted:g}) in this log: its highest is {train_L.max():.3f}"
    first = int(np.argmax(both_L))
    if first == 0:
        return None, f"training is fitted at the first logged step ({step_L[0]:,.0f}): the log begins too late"
    return float(step_L[first]), ""


def _checked(steps: Any, train: Any, validation: Any) -> tuple[Floats, Floats, Floats]:
    """The three as arrays in the order of steps."""
    steps_L, train_L, validation_L = (np.asarray(a, dtype=np.float64) for a in (steps, train, validation))
    if steps_L.ndim != 1 or not (steps_L.shape == train_L.shape == validation_L.shape):
        shapes = f"{steps_L.shape}, {train_L.shape} and {validation_L.shape}"
        raise RequestError(f"a log of shapes {shapes}: expected steps, training and validation accuracy of one length")
    if not (np.isfinite(steps_L) & (steps_L >= 0)).all() or len(np.unique(steps_L)) != len(steps_L):
        raise RequestError("the log's steps repeat, are negative or aren't finite: expected each step once; correct it")
    for name, a_L in (("training", train_L), ("validation", validation_L)):
        wrong_L = a_L[~(np.isnan(a_L) | ((a_L >= 0) & (a_L <= 1)))]
        if len(wrong_L):
            raise RequestError(
                f"{name} accuracy of {wrong_L[0]:g}: expected 0 to 1, NaN where it wasn't logged; percents are divided "
                "by 100"
            )
    order = np.argsort(steps_L)
    return steps_L[order], train_L[order], validation_L[order]
