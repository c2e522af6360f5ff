"""Small ReLU nets that learn a teacher net from fewer or more rows in fewer or more steps.

Inputs are even on the cube [-1, 1]^d, the teacher is a random net of two hidden layers with answers of variance 1, and
students are such nets too, trained by Adam with a cosine to 0 (Bahri et al. 2021, arXiv 2102.06701, appendix A, scaled
down). Axes: `K` sizes, each with a student of its own, all trained at once; `B` rows of a batch; `N` rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEARNING_RATE, BATCH, TEACHER = 3e-3, 64, 32
TUNE, TEST = 2_000, 2_000
_LOOKS = 40


@dataclass(frozen=True)
class Students:
    """One chain: a teacher, nested rows of it, and students that start from one net."""

    dimensions: int
    width: int
    sizes: Sequence[int]
    seed: int

    def train(self, steps: int) -> dict[str, list[float]]:
        """Every size's test loss at the step of the least tune loss, that step, and the train loss there, `[K]` each.

        Tune rows choose among 40 looks, other rows give the test loss; all losses are mean squared errors.
        """
        import torch

        torch.set_num_threads(1)
        rng = torch.Generator().manual_seed(self.seed)
        held = TUNE + TEST
        x_ND = 2 * torch.rand(held + max(self.sizes), self.dimensions, generator=rng) - 1
        y_N = _answers(_net(self.dimensions, TEACHER, 1, rng), x_ND[None])[0]
        y_N = (y_N - y_N.mean()) / y_N.std()
        pool_ND, pool_N = x_ND[held:], y_N[held:]
        size_K1 = torch.tensor(list(self.sizes))[:, None]
        weights = [w.requires_grad_() for w in _net(self.dimensions, self.width, len(self.sizes), rng)]
        adam = torch.optim.Adam(weights, lr=LEARNING_RATE)
        found: list[tuple[Any, Any, int]] = []
        for step in range(1, steps + 1):
            adam.param_groups[0]["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
            rows_KB = (torch.rand(len(self.sizes), BATCH, generator=rng) * size_K1).long()
            loss = ((_answers(weights, pool_ND[rows_KB]) - pool_N[rows_KB]) ** 2).mean(dim=1).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
            if step % max(1, steps // _LOOKS) == 0:
                with torch.no_grad():
                    error_KN = (_answers(weights, x_ND.expand(len(self.sizes), -1, -1)) - y_N) ** 2
                found.append((error_KN[:, :TUNE].mean(dim=1), self._losses(error_KN), step))
        best_K = torch.stack([tune_K for tune_K, _, _ in found]).argmin(dim=0).tolist()
        chosen = [(found[look][1][k], found[look][2]) for k, look in enumerate(best_K)]
        return {
            "test": [test for (test, _), _ in chosen],
            "train": [train for (_, train), _ in chosen],
            "step": [step for _, step in chosen],
        }

    def _losses(self, error_KN: Any) -> list[tuple[float, float]]:
        """Test and train loss of every size."""
        held = TUNE + TEST
        return [
            (float(error_KN[k, TUNE:held].mean()), float(error_KN[k, held : held + size].mean()))
            for k, size in enumerate(self.sizes)
        ]


def _net(dimensions: int, width: int, count: int, rng: Any) -> list[Any]:
    """Weights and biases of three layers, the same `count` times, by He's initialisation.

    Biases are small and random, so that kinks don't all meet at the origin.
    """
    import torch

    out = []
    for inputs, outputs in ((dimensions, width), (width, width), (width, 1)):
        out.append(torch.randn(1, inputs, outputs, generator=rng) * math.sqrt(2 / inputs))
        out.append(torch.randn(1, 1, outputs, generator=rng) * 0.1)
    return [w.repeat(count, 1, 1) for w in out]


def _answers(weights: Sequence[Any], x_KND: Any) -> Any:
    """What each of K nets says of its own rows, `[K, N]`."""
    import torch

    for layer in (0, 2):
        x_KND = torch.relu(torch.baddbmm(weights[layer + 1], x_KND, weights[layer]))
    return torch.baddbmm(weights[5], x_KND, weights[4])[..., 0]
