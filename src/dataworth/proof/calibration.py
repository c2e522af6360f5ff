"""How often a proof is wrong: simulated proofs whose spreads come from real trials, through the functions that decide.

A trial's cost is curve(n) + draw + seed: `draw` belongs to the rows (shared by nested subsets of a chain, falling with
the size), `seed` to one training. A fixed subset has one draw, kept; random arms draw anew in every trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dataworth.laws.worth import RandomCurve, worth
from dataworth.proof.arms import RANDOM_DRAWS
from dataworth.proof.contrast import contrast
from dataworth.proof.looks import Looks
from dataworth.proof.verdict import CANNOT_TELL, Arm, Rules, word_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Spreads of single trials at one size, and the curve they lie on, in units of cost.

    Args:
        seed_sd: Between trainings of the same rows.
        full_sd: The same of the full pool, which may scatter otherwise; `seed_sd` if None.
        draw_sd: Between random draws of the size, training noise taken out.
        sizes_K: Sizes of the random chains.
        curve_K: Mean cost of random rows at those sizes.
        untouched: Cost of the untouched model.
    """

    seed_sd: float
    draw_sd: float
    sizes_K: Floats
    curve_K: Floats
    untouched: float
    full_sd: float | None = None


@dataclass(frozen=True)
class Rate:
    """How often something happened, with the one-sided upper 95 % bound (Clopper and Pearson 1934)."""

    count: int
    of: int

    @property
    def share(self) -> float:
        """The observed rate."""
        return self.count / self.of

    @property
    def upper(self) -> float:
        """The bound."""
        return float(stats.beta.ppf(0.95, self.count + 1, self.of - self.count)) if self.count < self.of else 1.0

    def to_dict(self) -> dict[str, float]:
        """Plain JSON values."""
        return {"count": self.count, "of": self.of, "share": self.share, "upper95": self.upper}


def false_verdicts(
    parts: Components, looks: Looks, *, proofs: int, shift: float = 0.0, margin: float | None = None, seed: int = 0
) -> dict[str, Any]:
    """Simulated proofs of one fixed subset against random draws and against the full pool, all equal but for `shift`.

    Args:
        parts: Spreads.
        looks: Seeds at which the proof may speak; it stops at the first where both words are claims.
        proofs: How many.
        shift: The subject's expected cost minus the others'.
        margin: Of `as good as`; with `shift` equal to it, `better` and `as good as` are false.
        seed: Of the simulation.

    Returns:
        Words of the two comparisons, proofs with a false one among them, proofs that couldn't tell, and the median half
        widths of the two intervals at the last look.
    """
    rng = np.random.default_rng(seed)
    rules = Rules(looks, comparisons=2, margin=margin)
    false = {"better", "worse"} if shift == 0 else {"better", "as good as"}
    words: dict[str, int] = {}
    wrong = unsure = 0
    last, full_sd = looks.seeds[-1], parts.seed_sd if parts.full_sd is None else parts.full_sd
    drawn: list[tuple[Floats, Floats, Floats]] = []
    for _ in range(proofs):
        base = parts.curve_K[len(parts.curve_K) // 2]
        subject = base + shift + parts.seed_sd * rng.standard_normal(last)
        draws = base + np.hypot(parts.seed_sd, parts.draw_sd) * rng.standard_normal(RANDOM_DRAWS * last)
        full = base + full_sd * rng.standard_normal(last)
        drawn.append((subject, draws, full))
        spoken = _spoken([(subject, draws, True), (subject, full, False)], rules, parts.untouched)
        for word in spoken:
            words[word] = words.get(word, 0) + 1
        wrong += any(w in false for w in spoken)
        unsure += CANNOT_TELL in spoken
    subject_PR, draws_PR, full_PR = (np.array(arm) for arm in zip(*drawn, strict=True))
    found = {"random": contrast(subject_PR, draws_PR, "prediction"), "full": contrast(subject_PR, full_PR, "means")}
    return {
        "false": Rate(wrong, proofs).to_dict(),
        "cannot_tell": Rate(unsure, proofs).to_dict(),
        "words": words,
        "median_half_width": {name: float(np.median(c.half_width(rules.alpha))) for name, c in found.items()},
    }


def _spoken(pairs: Sequence[tuple[Floats, Floats, bool]], rules: Rules, untouched: float) -> list[str]:
    """The words of comparisons (subject, other, redrawn) at the look where the proof stops: all claims, or the last."""
    words: list[str] = []
    for seeds in rules.looks.seeds:
        words = [
            word_of(Arm("subset", x[:seeds], False), Arm("other", y[:trials], redrawn), rules, untouched)[0]
            for x, y, redrawn in pairs
            for trials in (seeds * RANDOM_DRAWS if redrawn else seeds,)
        ]
        if all(word in ("better", "worse", "as good as") for word in words):
            break
    return words


def chance_verdicts(parts: Components, looks: Looks, *, proofs: int, seed: int = 0) -> dict[str, Any]:
    """Proofs in which the fixed subset is itself a random draw: what luck alone makes of one comparison with random."""
    rng = np.random.default_rng(seed)
    rules, last = Rules(looks), looks.seeds[-1]
    spoken: list[str] = []
    for _ in range(proofs):
        subject = parts.draw_sd * rng.standard_normal() + parts.seed_sd * rng.standard_normal(last)
        draws = np.hypot(parts.seed_sd, parts.draw_sd) * rng.standard_normal(RANDOM_DRAWS * last)
        base = parts.curve_K[len(parts.curve_K) // 2]
        spoken += _spoken([(base + subject, base + draws, True)], rules, parts.untouched)
    return {"false": Rate(sum(w in ("better", "worse") for w in spoken), proofs).to_dict()}


def worth_coverage(
    parts: Components, *, chains: int, seeds: int, proofs: int, level: float = 0.9, seed: int = 0
) -> dict[str, Any]:
    """How often the interval of worth holds the true number, over subsets worth any size inside the curve's range.

    Returns:
        Coverage, the median ratio of the ends of two-sided intervals, and the shares of one-sided and unknown ones.
    """
    sizes = np.asarray(parts.sizes_K, dtype=np.float64)
    covered = onesided = unknown = 0
    ratios = []
    for true, subject, curve in _simulated_worths(parts, sizes, chains, seeds, proofs, seed):
        found = worth(subject, curve, level=level)
        covered += found.covers(true)
        unknown += not found.spans or found.spans == ((None, None),)
        onesided += any((low is None) != (high is None) for low, high in found.spans)
        low, high = (found.spans[0][0], found.spans[-1][1]) if found.spans else (None, None)
        if low is not None and high is not None:
            ratios.append(high / low)
    return {
        "coverage": covered / proofs,
        "proofs": proofs,
        "median_high_over_low": float(np.median(ratios)) if ratios else None,
        "one_sided": onesided / proofs,
        "cannot_tell": unknown / proofs,
    }


def _simulated_worths(
    parts: Components, sizes: Floats, chains: int, seeds: int, proofs: int, seed: int
) -> Iterator[tuple[float, Floats, RandomCurve]]:
    from scipy.interpolate import PchipInterpolator

    rng = np.random.default_rng(seed)
    curve = PchipInterpolator(np.log(sizes), parts.curve_K)
    # Nested subsets share rows: the draw effects of n and m > n correlate like means of n rows among m.
    root = np.sqrt(np.minimum.outer(sizes, sizes) / np.maximum.outer(sizes, sizes))
    middle = sizes[len(sizes) // 2]
    sd = parts.draw_sd * np.sqrt(middle / sizes)
    mix = np.linalg.cholesky(root * np.outer(sd, sd) + 1e-18 * np.eye(len(sizes)))
    for _ in range(proofs):
        true = float(np.exp(rng.uniform(np.log(sizes[0]), np.log(sizes[-1]))))
        draws = rng.standard_normal((chains, len(sizes))) @ mix.T
        noise = parts.seed_sd * rng.standard_normal((chains, len(sizes)))
        subject = float(curve(np.log(true))) + parts.seed_sd * rng.standard_normal(seeds)
        yield true, subject, RandomCurve(sizes, parts.curve_K + draws + noise)
