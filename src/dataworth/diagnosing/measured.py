"""What pilots measured, as plain values: all that a diagnosis is read from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dataworth.laws.objective import Floats
from dataworth.laws.regime import Pilots
from dataworth.proving.trial_work import AGAIN

SHARE = "error rate"
_LEARNT = 0.98
"""A net's loss of at least this share of the untouched one's is one that learnt nothing yet."""
_BEGUN = 0.1
"""A language model that gained less than this share of what it gains at the largest size has hardly begun to learn."""


@dataclass(frozen=True)
class Point:
    """One pilot: what it was trained on, and what it came to; None is unknown.

    `stop` and `test` are the goal's number (or that of held-out rows) on the rows that choose the epochs and on those
    that measure; `fresh` and `train` the mean loss of pool rows that it wasn't and that it was trained on,
    times what all probed rows lose untouched over what these do (a ratio estimate: which rows a chain drew is no part
    of what training did).
    """

    larger: bool
    chain: int
    rows: int
    epochs: int
    stop: float | None
    test: float | None
    fresh: float | None
    train: float | None
    failed: str = ""


@dataclass(frozen=True)
class Measured:
    """Pilots of a learner and of a larger one, and what is known beside them.

    `unit` is that of the goal's number, lower better; `loss_unit` that of `fresh` and `train`. `pool_rows` can be
    drawn, `test_rows` measure. `tried` and `chosen` are epochs by size, `chosen_larger` those of the larger learner
    (empty: the same). `untouched` is the goal's number of the model
    before training, `untouched_loss` that of probed pool rows. `near` are rows nearly equal to judging ones (None:
    nobody could look), `kept_near` says that they were trained on. `price` has what a pilot's parts take
    (`design.Prices`), the `workers` and the recipe's `epochs`. `capacity` are counted bits, `delayed` what a training's
    log shows, `dimension` that of the pool's vectors.
    """

    unit: str
    loss_unit: str
    on: str
    pool_rows: int
    sizes: tuple[int, ...]
    chains: int
    tried: Mapping[int, tuple[int, ...]]
    chosen: Mapping[int, int]
    points: tuple[Point, ...]
    untouched: float | None
    untouched_loss: float | None = None
    larger: str = ""
    parameters: int = 0
    near: int | None = 0
    test_rows: int = 0
    kept_near: bool = False
    price: Mapping[str, float] = field(default_factory=dict)
    capacity: Mapping[str, Any] | None = None
    delayed: Mapping[str, Any] | None = None
    dimension: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    chosen_larger: Mapping[int, int] = field(default_factory=dict)

    def grid(self, name: str, *, larger: bool = False) -> Floats:
        """A number of the points trained for the chosen epochs, `[C, K]` with NaN where it is unknown."""
        out = np.full((self.chains, len(self.sizes)), np.nan)
        chosen = (larger and self.chosen_larger) or self.chosen
        for p in self.points:
            value = getattr(p, name)
            if p.larger == larger and p.epochs == chosen.get(p.rows) and value is not None:
                out[p.chain, self.sizes.index(p.rows)] = value
        return out

    def learnt(self) -> np.ndarray:
        """Sizes whose pilots learnt anything, `[K]`: a classifier's aren't at chance any more.

        A language model knows most before it is tuned, so that its loss moves by little: of its sizes the first ones
        are left out that gained next to nothing beside the largest.
        """
        if self.loss_unit != "nats/row":
            return self._begun()
        if self.untouched_loss is None:
            return np.ones(len(self.sizes), dtype=bool)
        loss_CK = np.fmin(self.grid("fresh"), self.grid("train"))
        known_CK = np.isfinite(loss_CK)
        mean_K = np.where(known_CK, loss_CK, 0.0).sum(0) / np.maximum(known_CK.sum(0), 1)
        return ~known_CK.any(0) | (mean_K < _LEARNT * self.untouched_loss)

    def _begun(self) -> np.ndarray:
        gained_K = np.array([self._gained(k) for k in range(len(self.sizes))])
        most = gained_K[-1]
        if not np.isfinite(most) or most <= 0:
            return np.ones(len(self.sizes), dtype=bool)
        return np.asarray(np.maximum.accumulate(np.nan_to_num(gained_K, nan=-np.inf)) >= _BEGUN * most)

    def losses(self) -> Floats:
        """The goal's number of the points, `[C, K]`; a share without any error counts as less than half of one."""
        test_CK = self.grid("test")
        return np.where(test_CK <= 0, 0.5 / max(1, self.test_rows), test_CK) if self.unit.startswith(SHARE) else test_CK

    def _gained(self, k: int) -> float:
        """What training on the size number `k` gained over the untouched learner; NaN where that isn't known."""
        test_C = self.losses()[:, k]
        known_C = test_C[np.isfinite(test_C)]
        return np.nan if self.untouched is None or not len(known_C) else self.untouched - float(known_C.mean())

    def scale(self) -> float | None:
        """What counts as much: the loss at the largest size, or what training gained there if that is less.

        A tuned language model's loss is mostly a floor that no training moves, and 1 % of it may be a tenth of all that
        was learnt. None where nothing was gained or known.
        """
        test_C = self.losses()[:, -1]
        gained = self._gained(len(self.sizes) - 1)
        if np.isnan(gained):
            return float(np.nanmean(test_C)) if np.isfinite(test_C).any() else None
        return min(self.untouched - gained, gained) if self.untouched is not None and gained > 0 else None

    def stop_scale(self) -> float | None:
        """The same for the losses that choose epochs; None where those are a classifier's, of another unit."""
        return None if self.loss_unit == "nats/row" else self.scale()

    def pilots(self) -> Pilots | None:
        """Losses of pool rows, at the sizes that leave some untrained; None without four such sizes."""
        fresh_CK, sizes_K = self.grid("fresh"), np.array(self.sizes, dtype=np.float64)
        there = (np.isfinite(fresh_CK).sum(0) > 1) & self.learnt()
        if there.sum() < 4:
            return None
        larger_CK = self.grid("fresh", larger=True)[:, there] if self.larger else None
        train_CK = self.grid("train")[:, there]
        return Pilots(sizes_K[there], fresh_CK[:, there], train_CK, larger_CK, self.untouched_loss)

    def stop_losses(self) -> dict[int, dict[int, float]]:
        """What chose the epochs of each size: the first chain's numbers by epochs, infinite where it broke down."""
        out: dict[int, dict[int, float]] = {}
        for p in self.points:
            if not p.larger and p.chain == 0 and (p.stop is not None or not p.failed.startswith(AGAIN)):
                out.setdefault(p.rows, {})[p.epochs] = math.inf if p.stop is None else p.stop
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **asdict(self),
            "tried": [[n, list(e)] for n, e in self.tried.items()],
            "chosen": [list(pair) for pair in self.chosen.items()],
            "chosen_larger": [list(pair) for pair in self.chosen_larger.items()],
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Measured:
        """The inverse of `to_dict`."""
        return cls(
            **{
                **told,
                "sizes": tuple(told["sizes"]),
                "tried": {n: tuple(e) for n, e in told["tried"]},
                "chosen": dict(told["chosen"]),
                "chosen_larger": dict(told.get("chosen_larger", ())),
                "points": tuple(Point(**p) for p in told["points"]),
                "notes": tuple(told["notes"]),
            }
        )
