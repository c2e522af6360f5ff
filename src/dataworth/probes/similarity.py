"""Torch twin of `numerics.similarity`: stored feature rows times a goal, streamed over memory maps on CPU or CUDA.

Int8 rows are multiplied as they are stored, by an exact int8 x int8 -> int32 product; the goal is stored in two
int8 planes, q1 + q2 / 254 in steps of max|g| / 127, so its rounding (2^-15 of its largest entry) vanishes beside
the rows'. Integer sums are exact, so a row's number doesn't depend on its block or device, and copies tie. Other
formats, widths that no integer kernel takes and machines without one go through float32.

Memory is one block of rows plus the result [C, N, G].
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataworth.errors import NonsenseRefused, RequestError
from dataworth.numerics.projection import require_same
from dataworth.numerics.quantize import directions
from dataworth.numerics.similarity import goal_directions
from dataworth.results import Similarity

BLOCK_ROWS = 2048
_MAX_WIDTH = 2**31 // 127**2
_CUDA_MIN_ROWS = 32


class FeatureTable(Protocol):
    """What is asked of a store table with the columns `rows`, `scale` and `norm`."""

    @property
    def unscored(self) -> Mapping[str, str]:
        """Rows without features: id -> reason."""
        ...

    def column(self, name: str, fill: Any = None) -> NDArray[Any]:
        """A column [N]."""
        ...

    def blocks(self, name: str, rows: int = BLOCK_ROWS) -> Iterable[tuple[NDArray[Any], NDArray[Any]]]:
        """A column as `(positions, block)` pairs."""
        ...


@dataclass(frozen=True)
class FeatureRows:
    """Features of N rows at one checkpoint, as they lie in the store.

    `blocks(rows)` yields `(positions, codes)`; `scale_N` and `norm_N` hold NaN at unscored rows; `projection` is the
    fingerprint of the projection that made them (`Projection.fingerprint`).
    """

    blocks: Callable[[int], Iterable[tuple[NDArray[Any], NDArray[Any]]]]
    scale_N: NDArray[np.float32]
    norm_N: NDArray[np.float32]
    width: int
    projection: str
    unscored: Mapping[str, str]

    @classmethod
    def of(cls, table: FeatureTable, *, width: int, projection: str) -> FeatureRows:
        """Features from a store table with the columns that the gradient probe leaves."""
        return cls(
            blocks=lambda rows: table.blocks("rows", rows),
            scale_N=table.column("scale", fill=np.nan),
            norm_N=table.column("norm", fill=np.nan),
            width=width,
            projection=projection,
            unscored=table.unscored,
        )


def joined(parts: Sequence[tuple[FeatureRows, NDArray[np.integer[Any]]]]) -> FeatureRows:
    """Features of several tables as one: each part comes with the places of its rows in the whole.

    Raises:
        FingerprintMismatch: Parts were projected differently.
    """
    first = parts[0][0]
    total = sum(len(places) for _, places in parts)
    scale_N, norm_N = np.full(total, np.nan, dtype=np.float32), np.full(total, np.nan, dtype=np.float32)
    unscored: dict[str, str] = {}
    for part, places in parts:
        require_same(first.projection, part.projection)
        scale_N[places], norm_N[places] = part.scale_N, part.norm_N
        unscored |= part.unscored

    def blocks(rows: int) -> Iterable[tuple[NDArray[Any], NDArray[Any]]]:
        return ((places[at], codes) for part, places in parts for at, codes in part.blocks(rows))

    return FeatureRows(blocks, scale_N, norm_N, first.width, first.projection, unscored)


class GoalProduct:
    """Dot products of stored rows with goal vectors `[G, P]`.

    Args:
        goals_GP: Goal vectors.
        device: Where to multiply.
        planes: Int8 planes of a goal vector: 2, or 1 for half the work and a rounding like the rows' own.
    """

    def __init__(self, goals_GP: NDArray[Any], device: torch.device | str = "cpu", planes: int = 2) -> None:
        self.device = torch.device(device)
        self.goals_GP = torch.as_tensor(np.asarray(goals_GP), dtype=torch.float32).to(self.device)
        goals = np.asarray(goals_GP, dtype=np.float64)
        step_G = np.abs(goals).max(axis=1, keepdims=True) / 127
        step_G[step_G == 0] = 1.0
        q1 = np.rint(goals / step_G)
        q2 = np.rint((goals / step_G - q1) * 254)
        self.step_G = torch.as_tensor(step_G[:, 0], dtype=torch.float32).to(self.device)
        stacked = np.concatenate([q1, q2][:planes]).astype(np.int8)
        padded = np.zeros((-(-len(stacked) // 8) * 8, stacked.shape[1]), dtype=np.int8)
        padded[: len(stacked)] = stacked
        self.planes = planes
        self.codes_PG = torch.as_tensor(padded).to(self.device).t()
        # Without oneDNN (on ARM, say) torch multiplies int8 on the CPU in a scalar loop.
        kernel = self.device.type == "cuda" or torch.backends.mkldnn.is_available()
        self.integer = kernel and goals.shape[1] % 8 == 0 and goals.shape[1] <= _MAX_WIDTH

    def __call__(self, codes: NDArray[Any], scale_B: NDArray[np.float32]) -> NDArray[np.float32]:
        """Products `[B, G]` of one block."""
        if codes.dtype == np.int8 and self.integer:
            product = self._integer(_tensor(codes).to(self.device))
        else:
            ones = np.ones(len(codes), dtype=np.float32)
            rows = _tensor(directions(codes, ones, self.goals_GP.shape[1])).to(self.device)
            product = rows @ self.goals_GP.t()
        return product.mul_(_tensor(scale_B).to(self.device)[:, None]).cpu().numpy()

    def _integer(self, codes_BP: Tensor) -> Tensor:
        rows, count = len(codes_BP), len(self.step_G)
        if self.device.type == "cuda" and rows < _CUDA_MIN_ROWS:
            codes_BP = torch.nn.functional.pad(codes_BP, (0, 0, 0, _CUDA_MIN_ROWS - rows))
        sums = torch._int_mm(codes_BP, self.codes_PG)[:rows]
        total = sums[:, :count].float()
        if self.planes == 2:
            total += sums[:, count : 2 * count].float() / 254
        return total.mul_(self.step_G)


def similarity(
    pool: Sequence[FeatureRows],
    goal: Sequence[FeatureRows],
    subtask_Q: NDArray[np.integer[Any]],
    subtasks: Sequence[str],
    weight_C: NDArray[np.float64],
    *,
    device: torch.device | str = "cpu",
    block_rows: int = BLOCK_ROWS,
    progress: Callable[[int], None] = lambda rows: None,
) -> Similarity:
    """Cosines of every pool row with every subtask at every checkpoint.

    Args:
        pool: Features of the pool, one per checkpoint.
        goal: Features of the goal rows (plain gradients in LESS), one per checkpoint.
        subtask_Q: Index into `subtasks` of each goal row.
        subtasks: Names.
        weight_C: Learning-rate weights of the checkpoints.
        device: Where to multiply.
        block_rows: Rows in memory at a time.
        progress: Called with the rows done, block by block.

    Raises:
        FingerprintMismatch: Pool and goal were projected differently.
        NonsenseRefused: A subtask's goal features are missing, zero or not finite.
        RequestError: Numbers of checkpoints or rows that don't agree.
    """
    if not len(pool) == len(goal) == len(weight_C) or not len(pool):
        raise RequestError(
            f"{len(pool)} pool, {len(goal)} goal checkpoints, {len(weight_C)} weights: expected as many of each"
        )
    unscored: dict[str, str] = {}
    tables = []
    for at_pool, at_goal in zip(pool, goal, strict=True):
        require_same(at_pool.projection, at_goal.projection)
        if at_pool.width != at_goal.width or len(at_pool.scale_N) != len(pool[0].scale_N):
            raise RequestError(
                f"features are {at_pool.width} and {at_goal.width} wide over {len(at_pool.scale_N)} and "
                f"{len(pool[0].scale_N)} rows: expected equal widths and rows at every checkpoint; recompute them"
            )
        tables.append(_one_checkpoint(at_pool, at_goal, subtask_Q, subtasks, device, block_rows, progress))
        unscored |= at_pool.unscored
    both_C_N_2G = np.stack(tables)
    # A row without features at one checkpoint has no sum over checkpoints.
    both_C_N_2G[:, np.isnan(both_C_N_2G).any(axis=(0, 2))] = np.nan
    count = len(subtasks)
    return Similarity(
        mean_CNG=both_C_N_2G[:, :, :count],
        centroid_CNG=both_C_N_2G[:, :, count:],
        weight_C=np.asarray(weight_C, dtype=np.float64),
        subtasks=tuple(subtasks),
        unscored=unscored,
    )


def goal_rows(features: FeatureRows) -> NDArray[np.float32]:
    """Goal rows as unit vectors [Q, P]; rows without features are NaN."""
    out_QP = np.full((len(features.scale_N), features.width), np.nan, dtype=np.float32)
    for positions, codes in features.blocks(BLOCK_ROWS):
        out_QP[positions] = directions(codes, features.scale_N[positions], features.width)
    return out_QP


def _one_checkpoint(
    pool: FeatureRows,
    goal: FeatureRows,
    subtask_Q: NDArray[np.integer[Any]],
    subtasks: Sequence[str],
    device: torch.device | str,
    block_rows: int,
    progress: Callable[[int], None],
) -> NDArray[np.float32]:
    unit_QP = goal_rows(goal)
    usable_Q = ~np.isnan(goal.scale_N)
    if not np.isfinite(unit_QP[usable_Q]).all():
        raise NonsenseRefused(
            "goal features hold numbers that are not finite: expected directions; recompute the goal's features"
        )
    mean_GP, centroid_GP = goal_directions(
        unit_QP[usable_Q], goal.norm_N[usable_Q], np.asarray(subtask_Q)[usable_Q], subtasks
    )
    product = GoalProduct(np.concatenate([mean_GP, centroid_GP]), device)
    out_NG = np.full((len(pool.scale_N), 2 * len(subtasks)), np.nan, dtype=np.float32)
    for positions, codes in pool.blocks(block_rows):
        out_NG[positions] = product(codes, pool.scale_N[positions])
        progress(len(positions))
    return out_NG


def _tensor(array: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        # Parts of the store are mapped read-only; nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))
