"""Students of random features, which show in closed form how a loss falls with rows: what laws of data are tested on.

(a) Random ReLUs on the sphere S^d learn a teacher of the same kind. Their loss over all inputs follows from the arc
cosine kernel (Cho and Saul 2009), so no test rows blur it and the floor of a finite student is known exactly. With more
rows than features the loss falls to that floor like 1 / rows; with more features than rows it falls with an exponent of
about 3 / d, which the kernel's spectrum sets (Bahri et al. 2021, arXiv 2102.06701: variance- and resolution-limited).

(b) Least squares of smallest norm on some of many Gaussian features: the loss peaks where features are as many as rows
(Belkin, Hsu and Xu 2020, arXiv 1903.07571), in rows as in features.

Axes: `N` rows, `D` = d + 1 input coordinates, `P` student's features, `T` teacher's, `K` fitted students.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from dataworth.errors import RequestError

Floats = NDArray[np.float64]

RIDGE = 1e-8
"""Against rounding; in the unit of a kernel whose diagonal is about 1."""
_BLOCK = 500


def on_sphere(rows: int, dimensions: int, rng: np.random.Generator) -> Floats:
    """Points evenly on the unit sphere of so many dimensions, `[N, D]` with D one more than its dimensions."""
    x_ND = rng.normal(size=(rows, dimensions + 1))
    return x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)


def relu_features(x_ND: Floats, directions_PD: Floats) -> Floats:
    """max(0, <w, x>) for unit vectors w, `[N, P]`, scaled so that a row's mean squared norm over the sphere is 1."""
    P, D = directions_PD.shape
    return np.sqrt(2.0 * D / P) * np.maximum(x_ND @ directions_PD.T, 0.0)


def relu_kernel(u_PD: Floats, v_TD: Floats) -> Floats:
    """Mean over the sphere of 2 D max(0, <u, x>) max(0, <v, x>), `[P, T]`: the arc cosine kernel of degree 1."""
    cosine_PT = np.clip(u_PD @ v_TD.T, -1.0, 1.0)
    angle_PT = np.arccos(cosine_PT)
    return np.asarray((np.sqrt(1.0 - cosine_PT**2) + (np.pi - angle_PT) * cosine_PT) / np.pi)


@dataclass(frozen=True)
class TeacherStudent:
    """A teacher of random ReLUs on a sphere, and the random ReLUs whose readout a student learns.

    `teacher_TD` and `student_PD` are unit vectors, `readout_T` the teacher's own readout.
    """

    teacher_TD: Floats
    readout_T: Floats
    student_PD: Floats

    @classmethod
    def draw(cls, dimensions: int, teacher: int, student: int, rng: np.random.Generator) -> TeacherStudent:
        """One with so many ReLUs on either side, and a standard normal readout."""
        return cls(on_sphere(teacher, dimensions, rng), rng.normal(size=teacher), on_sphere(student, dimensions, rng))

    def rows(self, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Training rows: the student's features `[N, P]` of random inputs, and the teacher's answers `[N]`."""
        x_ND = on_sphere(count, self.teacher_TD.shape[1] - 1, rng)
        blocks = [x_ND[n : n + _BLOCK] for n in range(0, count, _BLOCK)]
        y_N = np.concatenate([relu_features(x_BD, self.teacher_TD) @ self.readout_T for x_BD in blocks])
        return relu_features(x_ND, self.student_PD), y_N

    def loss(self, a_PK: Floats) -> Floats:
        """Mean squared error over the whole sphere of students with these readouts, `[K]`: exact, to rounding."""
        return np.asarray((a_PK * (self._kernel_PP @ a_PK - 2 * self._cross_P[:, None])).sum(axis=0) + self._power)

    @cached_property
    def floor(self) -> float:
        """The least loss of any readout: what this student's loss falls to with rows without end."""
        best_P = linalg.lstsq(self._kernel_PP, self._cross_P)[0]
        return float(self.loss(best_P[:, None])[0])

    @cached_property
    def _kernel_PP(self) -> Floats:
        P = len(self.student_PD)
        blocks = [relu_kernel(self.student_PD[n : n + _BLOCK], self.student_PD) / P for n in range(0, P, _BLOCK)]
        return np.concatenate(blocks)

    @cached_property
    def _cross_P(self) -> Floats:
        """Mean over the sphere of each feature of the student times the teacher's answer."""
        return self._with_teacher(self.student_PD) / np.sqrt(len(self.student_PD))

    @cached_property
    def _power(self) -> float:
        """Mean square of the teacher's answer."""
        return float(self.readout_T @ self._with_teacher(self.teacher_TD)) / np.sqrt(len(self.teacher_TD))

    def _with_teacher(self, directions_PD: Floats) -> Floats:
        P, T = len(directions_PD), len(self.teacher_TD)
        blocks = [directions_PD[n : n + _BLOCK] for n in range(0, P, _BLOCK)]
        products = [relu_kernel(block_BD, self.teacher_TD) @ self.readout_T for block_BD in blocks]
        return np.asarray(np.concatenate(products) / np.sqrt(T))


def ridge(z_NP: Floats, y_N: Floats, strength: float = RIDGE) -> Floats:
    """The readout `[P]` that minimises |z a - y|^2 + strength |a|^2, over the smaller of both sides.

    Raises:
        RequestError: A strength that isn't positive.
    """
    if not strength > 0:
        raise RequestError(f"ridge of strength {strength}: expected above 0; ask min_norm for none")
    N, P = z_NP.shape
    if N < P:
        inner_NN = z_NP @ z_NP.T + strength * np.eye(N)
        return np.asarray(z_NP.T @ linalg.solve(inner_NN, y_N, assume_a="pos"))
    return np.asarray(linalg.solve(z_NP.T @ z_NP + strength * np.eye(P), z_NP.T @ y_N, assume_a="pos"))


def min_norm(z_NP: Floats, y_N: Floats) -> Floats:
    """The readout `[P]` of least squares, and of those the one of smallest norm."""
    return np.asarray(linalg.lstsq(z_NP, y_N)[0])


def min_norm_loss(rows: int, features: int, latent: int, noise: float, rng: np.random.Generator) -> float:
    """Test loss of one draw of least squares of smallest norm on the first of many standard normal features.

    The answers are <b, x> + noise with |b| = 1 in a random direction; the loss is the mean squared distance to <b, x>
    over all inputs, without noise.

    Args:
        rows: Training rows.
        features: How many features are seen, at most `latent`.
        latent: How many there are.
        noise: Standard deviation of the noise of training rows.
        rng: Where all draws come from.
    """
    b_L = rng.normal(size=latent)
    b_L /= np.linalg.norm(b_L)
    x_NL = rng.normal(size=(rows, latent))
    y_N = x_NL @ b_L + noise * rng.normal(size=rows)
    missed_L = b_L.copy()
    missed_L[:features] -= min_norm(x_NL[:, :features], y_N)
    return float(missed_L @ missed_L)


def expected_min_norm_loss(rows: int, features: int, latent: int, noise: float) -> float:
    """What `min_norm_loss` is on average; infinite where features and rows differ by less than two.

    Source: Belkin, Hsu and Xu 2020, theorem 1, less the noise that their test rows have, for |b| = 1.
    """
    seen = features / latent
    aside = 1.0 - seen + noise**2
    if features <= rows - 2:
        return aside * (1.0 + features / (rows - features - 1)) - noise**2
    if features >= rows + 2:
        return seen * (1.0 - rows / features) + aside * (1.0 + rows / (features - rows - 1)) - noise**2
    return float("inf")
