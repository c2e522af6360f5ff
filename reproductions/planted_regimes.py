"""Does the diagnosis name the regime that was planted? `python -m reproductions.planted_regimes`.

50 teacher-student cases, each a grid of nested sizes in chains, a student, and one with twice
its features at the two largest sizes. Students are solved exactly (ridge 1e-10), so nothing is under-trained.

Families: `relu`, random ReLU features of points on a sphere, teacher of the same kind with 3,000 features; `spectrum`,
linear features whose variances fall as i^-(1+a), of which the student sees the first ones.

Defined before any result was seen, with `P` the student's features and `D` the sizes:
- variance-limited in data: the smallest D is at least 4 P; easy from 8 P on, without label noise;
- resolution-limited in data: the largest D is at most P / 4; easy up to P / 16, without label noise;
- border: everything between, D = P inside the measured sizes or within a factor of 4 of them.
A word is right where it is the planted one. On a border every word that names one corner is wrong; `both` names none,
so it counts as abstaining there and as wrong elsewhere.

Goals: right in >= 90 % of what it says off the border, speaks in >= 60 % of those cases and in >= 90 % of easy ones,
abstains on borders. Thresholds of `laws.regime` were chosen on cases 1000 to 1119. The first registered run, cases 0
to 49, is kept beside this one's result: it was right in 36 of 36, spoke in 36 of 40, and named 2 of 10 borders. Two
thresholds were then tightened on 76 more borders (cases 1124 to 1499); the stated cases are now 2000 to 2049.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataworth.laws.regime import Pilots, regime

CASES, FIRST = 50, 2000
SIZES, CHAINS, TEST_ROWS, TEACHER = 6, 5, 2000, 3000
LARGER, RIDGE = 2, 1e-10
OUT = Path(__file__).parent / "results" / "planted_regimes.json"
_CORNERS = ("variance-limited in data", "resolution-limited in data")
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A planted case: `smallest` is the first of six sizes that double; `noise` is label noise over signal, in sd."""

    number: int
    family: Literal["relu", "spectrum"]
    planted: str
    dimension: int
    decay: float
    features: int
    smallest: int
    noise: float

    @property
    def sizes(self) -> list[int]:
        """Rows of the six sizes."""
        return [self.smallest * 2**k for k in range(SIZES)]

    @property
    def easy(self) -> bool:
        """As defined above."""
        far = self.smallest >= 8 * self.features or self.sizes[-1] * 16 <= self.features
        return self.planted != "border" and far and self.noise == 0


def case(number: int) -> Case:
    """Case `number`: of every five, two are planted in each corner and one on the border."""
    rng = np.random.default_rng([number, 5])
    planted = (*_CORNERS, *_CORNERS, "border")[number % 5]
    family: Literal["relu", "spectrum"] = ("relu", "spectrum")[int(rng.integers(2))]
    noise = float(rng.choice([0.0, 0.0, 0.1, 0.3]))
    if planted == _CORNERS[0]:
        features = int(rng.integers(8, 33))
        smallest = int(features * 4 * 2 ** rng.uniform(0, 2))
    elif planted == _CORNERS[1]:
        smallest = int(rng.integers(6, 13))
        features = int(smallest * 2 ** (SIZES - 1) * 4 * 2 ** rng.uniform(0, 2.5))
    else:
        smallest = int(rng.integers(8, 33))
        features = int(smallest * 2 ** rng.uniform(-1.9, SIZES - 1 + 1.9))
    dimension, decay = int(rng.integers(2, 9)), float(rng.uniform(0.3, 0.9))
    # In two dimensions 3,000 features are wider than the teacher is rough: a case of its own kind, left out.
    return Case(number, family, planted, max(3, dimension), decay, features, smallest, noise)


def features_of(case: Case, rng: np.random.Generator, most: int) -> Any:
    """Draws rows: a function of their number that gives features `[rows, most]` and noiseless labels."""
    if case.family == "relu":
        d = case.dimension
        student_Pd, teacher_Td = rng.normal(size=(most, d)), rng.normal(size=(TEACHER, d))
        weights_T = rng.normal(size=TEACHER) / np.sqrt(TEACHER)

        def relu(rows: int) -> tuple[Matrix, Matrix]:
            x_Nd = rng.normal(size=(rows, d))
            x_Nd /= np.linalg.norm(x_Nd, axis=1, keepdims=True)
            return np.maximum(x_Nd @ student_Pd.T, 0) / np.sqrt(most), np.maximum(x_Nd @ teacher_Td.T, 0) @ weights_T

        return relu
    scale_M = np.arange(1, 2 * most + 1) ** (-0.5 * (1 + case.decay))
    weights_M = rng.normal(size=2 * most)

    def spectrum(rows: int) -> tuple[Matrix, Matrix]:
        x_NM = rng.normal(size=(rows, 2 * most)) * scale_M
        return x_NM[:, :most], x_NM @ weights_M

    return spectrum


def solved(x_NP: Matrix, y_N: Matrix) -> Matrix:
    """Ridge weights, in the primal or the dual, whichever is smaller; the ridge is relative to the mean eigenvalue."""
    n, p = x_NP.shape
    gram = x_NP.T @ x_NP if p <= n else x_NP @ x_NP.T
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram)
    return np.linalg.solve(gram, x_NP.T @ y_N) if p <= n else x_NP.T @ np.linalg.solve(gram, y_N)


def measured(case: Case) -> Pilots:
    """The pilots of a case: mean squared errors over the labels' variance."""
    rng = np.random.default_rng([case.number, 7])
    wide = LARGER * case.features
    draw = features_of(case, rng, wide)
    test_x, clean_Q = draw(TEST_ROWS)
    unit = float(clean_Q.var())
    # Test rows have the noise of training rows, as real ones do.
    test_y = clean_Q + case.noise * np.sqrt(unit) * rng.normal(size=TEST_ROWS)
    test_CK, train_CK, larger_CK = (np.full((CHAINS, SIZES), np.nan) for _ in range(3))
    for c in range(CHAINS):
        x_NP, clean_N = draw(case.sizes[-1])
        y_N = clean_N + case.noise * np.sqrt(unit) * rng.normal(size=len(clean_N))
        for k, rows in enumerate(case.sizes):
            error = partial(_errors, x_NP[:rows], y_N[:rows], test_x, test_y, unit)
            test_CK[c, k], train_CK[c, k] = error(case.features)
            if k >= SIZES - 2:
                larger_CK[c, k], _ = error(wide)
    return Pilots(np.array(case.sizes, dtype=np.float64), test_CK, train_CK, larger_CK)


def _errors(x: Matrix, y: Matrix, test_x: Matrix, test_y: Matrix, unit: float, features: int) -> tuple[float, float]:
    weights = solved(x[:, :features], y)
    test = np.mean((test_x[:, :features] @ weights - test_y) ** 2) / unit
    train = np.mean((x[:, :features] @ weights - y) ** 2) / unit
    return float(test), float(max(train, 1e-12))


def outcome(case: Case) -> dict[str, Any]:
    """What the diagnosis says of a case."""
    found = regime(measured(case))
    return {
        **asdict(case),
        "easy": case.easy,
        "word": found.word,
        "reasons": list(found.reasons),
        "beta": [found.beta.value, found.beta.low, found.beta.high],
        "train_share": found.train_share and found.train_share.value,
    }


def summary(outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares and counts of the goals."""
    inner = [o for o in outcomes if o["planted"] != "border"]
    spoke = [o for o in inner if o["word"] != "undetermined"]
    easy = [o for o in inner if o["easy"]]
    border = [o for o in outcomes if o["planted"] == "border"]
    right = sum(o["word"] == o["planted"] for o in spoke)
    easy_spoke = sum(o["word"] != "undetermined" for o in easy)
    abstained = sum(o["word"] not in _CORNERS for o in border)
    return {
        "right": [right, len(spoke)],
        "spoke": [len(spoke), len(inner)],
        "spoke_easy": [easy_spoke, len(easy)],
        "abstained_on_borders": [abstained, len(border)],
        "goals_met": right >= 0.9 * len(spoke)
        and len(spoke) >= 0.6 * len(inner)
        and easy_spoke >= 0.9 * len(easy)
        and abstained == len(border),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print; written to the results where the cases are the stated ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--first", type=int, default=FIRST, help="number of the first case")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(argv)
    outcomes = [outcome(case(given.first + n)) for n in range(given.cases)]
    found = {**summary(outcomes), "cases": outcomes}
    stated = given.cases >= CASES and given.first == FIRST
    if stated:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.json:
        print(json.dumps(found))
        return
    if not stated:
        print(f"not reproduced: not the stated {CASES} cases from {FIRST} on")
    for o in outcomes:
        print(f"{o['number']:5d} {o['family']:8s} {o['planted']:27s}{' easy' if o['easy'] else '     '} -> {o['word']}")
    for name, value in summary(outcomes).items():
        print(f"{name}: {value if isinstance(value, bool) else f'{value[0]} of {value[1]}'}")


if __name__ == "__main__":
    main()
