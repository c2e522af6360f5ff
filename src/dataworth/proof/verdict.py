"""From the trials of two arms to one of five fixed words, with the claim, the interval and what could be detected.

The words are `better`, `as good as`, `worse`, `no difference shown` and `cannot tell`, and nothing is rounded up: what
isn't shown isn't a win, and numbers that can't mean anything (too noisy, nothing learned, too few seeds) say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from dataworth.errors import RequestError
from dataworth.numerics.ranks import Estimate
from dataworth.proof.contrast import NOT_SHOWN, WORDS, WORSE, Claim, contrast, decide, detectable
from dataworth.proof.looks import Looks

LEVEL = 0.05
"""False verdicts per proof, nominally."""
MOST_MARGIN = 0.5
"""A margin of this share of what training gains accepts what learnt little."""
CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Arm:
    """Costs of one arm's trials, axis `R`; `redrawn` if every trial trains on rows drawn or selected anew."""

    name: str
    cost_R: NDArray[np.float64]
    redrawn: bool


@dataclass(frozen=True)
class Rules:
    """What was registered before the first judge row was read.

    `comparisons` is how many verdicts the proof will speak: each gets its share of the level (Bonferroni).
    """

    looks: Looks
    comparisons: int = 1
    margin: float | None = None

    @property
    def alpha(self) -> float:
        """Two-sided level of one comparison at one look."""
        return LEVEL * self.looks.share / self.comparisons

    @property
    def alpha_margin(self) -> float:
        """Level of each one-sided test of `as good as`."""
        return LEVEL * self.looks.share_margin / self.comparisons


@dataclass(frozen=True)
class Verdict:
    """What may be said of a subject against a comparator on one measure.

    `word` is None between the planned looks, where everything is interim. `gain` is the comparator's cost minus the
    subject's with the interval that the word rests on; `detectable` the gain that this many trials with this spread
    find in 8 of 10 proofs. Both are None where an arm has fewer than two trials.
    """

    subject: str
    comparator: str
    word: str | None
    claim: Claim
    gain: Estimate | None
    detectable: float | None
    margin: float | None
    reason: str = ""

    @property
    def words(self) -> str:
        """The verdict without its numbers: `better than random`, `as good as full (worse by less than 0.01)`.

        `as good as` goes before `worse`: the margin said that so much doesn't matter. Its words still say it.
        """
        if self.word == "as good as":
            by = "worse by less than" if self.gain and self.gain.high < 0 else "within"
            return f"as good as {self.comparator} ({by} {self.margin:g})"
        link = "than" if self.word in ("better", "worse") else "against"
        return f"{self.word or 'interim'} {link} {self.comparator}"

    @property
    def text(self) -> str:
        """The verdict as a clause: `better than random (gain 0.031 [0.018 .. 0.044])`."""
        why = f": {self.reason}" if self.reason else ""
        gain = f" (gain {self.gain})" if self.gain else ""
        return f"{self.words}{gain}{why}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "subject": self.subject,
            "comparator": self.comparator,
            "verdict": self.word,
            "interim": self.word is None,
            "claim": self.claim,
            "gain": self.gain and self.gain.to_dict(),
            "detectable": self.detectable,
            "margin": self.margin,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_dict`."""
        same = {k: told[k] for k in ("subject", "comparator", "claim", "detectable", "margin", "reason")}
        return cls(word=told["verdict"], gain=told["gain"] and Estimate(**told["gain"]), **same)


def claim_of(subject: Arm, comparator: Arm) -> Claim:
    """One fixed subset against random draws is a prediction; anything else compares two expected costs."""
    return "prediction" if comparator.redrawn and not subject.redrawn else "means"


def judge(subject: Arm, comparator: Arm, rules: Rules, *, untouched: float | None = None, look: bool = True) -> Verdict:
    """Compare two arms under the registered rules.

    Args:
        subject: The arm the verdict is about.
        comparator: What it is compared with.
        rules: Looks, number of comparisons and margin.
        untouched: Cost of the untouched model: without a gain over it, training showed nothing.
        look: Whether all trials of a look are there; without, everything is interim.
    """
    claim = claim_of(subject, comparator)
    if min(len(subject.cost_R), len(comparator.cost_R)) < 2:
        return Verdict(subject.name, comparator.name, None, claim, None, None, rules.margin)
    found = contrast(subject.cost_R, comparator.cost_R, claim)
    half, gain = float(found.half_width(rules.alpha)), float(found.gain)
    seeds = seeds_of(subject, comparator)
    word, reason, level = None, "", 1 - rules.alpha
    if look and rules.looks.planned(seeds):
        word, reason = word_of(subject, comparator, rules, untouched)
    if word == "as good as":  # its two tests stand for this interval, and it lies within the margin
        half, level = float(found.half_width(2 * rules.alpha_margin)), 1 - 2 * rules.alpha_margin
    interval = Estimate(gain, gain - half, gain + half, seeds, level)
    trials = len(subject.cost_R), len(comparator.cost_R)
    smallest = detectable(_spread(subject), _spread(comparator), *trials, claim, alpha=rules.alpha)
    return Verdict(subject.name, comparator.name, word, claim, interval, smallest, rules.margin, reason)


def seeds_of(subject: Arm, comparator: Arm) -> int:
    """Seeds that both arms have: what a look counts."""
    return min(len(subject.cost_R), len(comparator.cost_R))


def word_of(subject: Arm, comparator: Arm, rules: Rules, untouched: float | None = None) -> tuple[str, str]:
    """The word at a planned look, and the reason where it needs one; `judge` adds what surrounds it."""
    found = contrast(subject.cost_R, comparator.cost_R, claim_of(subject, comparator))
    code = int(decide(found, rules.alpha, rules.margin, rules.alpha_margin))
    if _seedless(subject, comparator):
        return CANNOT_TELL, "all trainings gave one number: their seeds change nothing, so nothing says what luck does"
    if untouched is None:
        return WORDS[code], ""
    if not (_improves(subject, untouched) or _improves(comparator, untouched)):
        return CANNOT_TELL, "neither arm is shown to improve on the untouched model: train longer or on more rows"
    learned = untouched - min(float(subject.cost_R.mean()), float(comparator.cost_R.mean()))
    half = float(found.half_width(rules.alpha))
    margin_is_all = rules.margin is not None and rules.margin >= MOST_MARGIN * learned
    if WORDS[code] == "as good as" and margin_is_all:
        if int(decide(found, rules.alpha)) == WORSE:  # shown, whatever the margin is
            return WORDS[WORSE], ""
        return CANNOT_TELL, (
            f"the margin {rules.margin:g} is half or more of all that training gained ({learned:.3g}), so it would "
            "accept what learnt little: give a smaller one"
        )
    if code == NOT_SHOWN and half > learned:
        return CANNOT_TELL, (
            f"too noisy: the interval reaches {half:.3g} to each side, more than all that training gained "
            f"({learned:.3g}); run more seeds or judge more rows"
        )
    return WORDS[code], ""


def _improves(arm: Arm, untouched: float) -> bool:
    """Whether the arm's mean cost is shown to lie below the untouched model's, which is one number without noise."""
    gain, trials = untouched - float(arm.cost_R.mean()), len(arm.cost_R)
    if not np.ptp(arm.cost_R):
        return gain > 0
    return gain > float(special.stdtrit(trials - 1, 1 - LEVEL) * arm.cost_R.std(ddof=1) / trials**0.5)


def _seedless(one: Arm, other: Arm) -> bool:
    """Whether each arm's trainings came to one number; the variance of equal floats needn't be 0."""
    return not (np.ptp(one.cost_R) or np.ptp(other.cost_R))


def _spread(arm: Arm) -> float:
    return float(np.std(arm.cost_R, ddof=1)) if len(arm.cost_R) > 1 else 0.0


def retained(subset: Arm, full: Arm, untouched: float, *, level: float = 0.9) -> Estimate:
    """Share of the full pool's improvement over the untouched model that a subset keeps, with Fieller's interval.

    Raises:
        RequestError: The full pool isn't shown to improve, so that its share means nothing.
    """
    gained, of_full = untouched - float(subset.cost_R.mean()), untouched - float(full.cost_R.mean())
    var, var_full = (a.cost_R.var(ddof=1) / len(a.cost_R) for a in (subset, full))
    if _seedless(subset, full):
        raise RequestError("all trainings gave one number: their seeds change nothing, so nothing says what luck does")
    share = gained / of_full if of_full else 0.0
    below = var**2 / (len(subset.cost_R) - 1) + (share**2 * var_full) ** 2 / (len(full.cost_R) - 1)
    df = (var + share**2 * var_full) ** 2 / below if below else float(len(subset.cost_R) + len(full.cost_R) - 2)
    cut = float(special.stdtrit(df, (1 + level) / 2)) ** 2
    # |gained - rho of_full|^2 <= cut (var + rho^2 var_full) is a quadratic in rho.
    a, b, c = of_full**2 - cut * var_full, gained * of_full, gained**2 - cut * var
    if of_full <= 0 or a <= 0:
        raise RequestError(
            f"the full pool improves on the untouched model by {of_full:.3g}, within its noise: expected a clear gain "
            "to take a share of; run more seeds or train longer"
        )
    root = float(np.sqrt(max(b * b - a * c, 0.0)))
    ends = float((b - root) / a), float((b + root) / a)
    return Estimate(share, *ends, len(subset.cost_R), level)
