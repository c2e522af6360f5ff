"""Pilots run: the first chain tries epochs in waves, the others train for the best of each size, then a larger learner.

Pilots are trials of `proving`: a proof on the same pool with the same recipe finds their trainings in the cache, and
they its.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dataworth.diagnosing.design import Design
from dataworth.diagnosing.held_out import Judges
from dataworth.diagnosing.measured import Point
from dataworth.errors import NonsenseRefused
from dataworth.proof.arms import curve_arms
from dataworth.proving.trial_work import AGAIN
from dataworth.proving.trials import Training, TrialSet
from dataworth.session import Session

_WEIGHTS = ("adapter_model.safetensors", "classifier.safetensors")
_STRIKES = 2
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


class Runner:
    """Trains and judges the pilots of a design for one learner."""

    def __init__(self, session: Session, judges: Judges, design: Design) -> None:
        self.session, self.judges, self.design = session, judges, design
        self.trials = TrialSet(session, judges.sets)
        self.recipe = session.trainee.recipe
        arms = curve_arms(judges.rows, design.sizes, design.chains, seed=session.request.seed)
        self.draws = {n: arm.draws for n, arm in zip(design.sizes, arms, strict=True)}
        self.untouched = Training((), (), self.recipe)
        self.done: list[tuple[int, int, int]] = []

    def training(self, rows: int, chain: int, epochs: int) -> Training:
        """A pilot's training, as a proof's trial number `chain` of random rows would be."""
        recipe = replace(self.recipe, seed=self.recipe.seed + chain, epochs=epochs)
        return Training(self.draws[rows][chain].ids, (), recipe)

    def choose(self, sizes: Sequence[int], stage: str) -> dict[int, int]:
        """The epochs of each of these sizes that do best on the rows that choose, by the first chain.

        A size is tried no longer once more epochs did no better twice in a row: small sizes begin at chance.

        Raises:
            NonsenseRefused: A size that can't be trained at all.
        """
        cost = dict[tuple[int, int], float]()
        wanted = {n: epochs for n, epochs in zip(self.design.sizes, self.design.epochs, strict=True) if n in sizes}
        strikes = dict.fromkeys(wanted, 0)
        for wave in range(max(map(len, wanted.values()))):
            tried = {n: e[wave] for n, e in wanted.items() if strikes[n] < _STRIKES and wave < len(e)}
            self._run([self.untouched, *(self.training(n, 0, e) for n, e in tried.items())], stage)
            self.done += [(n, 0, e) for n, e in tried.items()]
            for n, e in tried.items():
                found = self._stop(self.training(n, 0, e))
                before = min((c for (m, _), c in cost.items() if m == n), default=np.inf)
                if found is not None:
                    cost[n, e] = found
                strikes[n] = 0 if found is not None and found < before else strikes[n] + 1
        for n in wanted:
            if not any(m == n for m, _ in cost):
                why = next(iter(self.trials.failed.values()), "")
                raise NonsenseRefused(f"no pilot of {n:,} rows could be trained ({why}); lower lr in --recipe")
        return {n: min((c, e) for (m, e), c in cost.items() if m == n)[1] for n in wanted}

    def run(self, chosen: Mapping[int, int], sizes: Iterable[int], stage: str) -> None:
        """All chains at these sizes, for the chosen epochs."""
        wanted = [(n, c, chosen[n]) for n in sizes for c in range(self.design.chains)]
        self.done += [one for one in wanted if one not in self.done]
        self._run([self.training(*one) for one in wanted], stage)

    def points(self, *, larger: bool = False) -> list[Point]:
        """What the pilots of this run came to, whatever else the cache holds."""
        out = []
        for n, c, e in sorted(self.done):
            training = self.training(n, c, e)
            if self.trials.costs([training]):
                out.append(self._point(training, larger, c, n, e))
            else:
                why = self.trials.failed.get(training, "not trained")
                out.append(Point(larger, c, n, e, None, None, None, None, why))
        return out

    def tried(self) -> dict[int, tuple[int, ...]]:
        """Epochs that the first chain tried at each size."""
        return {n: tuple(sorted(e for m, c, e in self.done if m == n and c == 0)) for n in self.design.sizes}

    def bare_loss(self) -> float | None:
        """Mean loss of the probed pool rows under the untouched learner."""
        if not self.trials.costs([self.untouched]):
            return None
        _, value_q, weight_q = self.trials.values(self.untouched)[-1]
        return float(value_q @ weight_q / weight_q.sum())

    def _bare_of(self, rows_q: np.ndarray) -> np.ndarray:
        """Losses of these probed rows under the untouched learner, NaN where they are unknown."""
        out_q = np.full(len(rows_q), np.nan)
        if self.trials.costs([self.untouched]):
            known_u, value_u, _ = self.trials.values(self.untouched)[-1]
            _, mine, theirs = np.intersect1d(rows_q, known_u, return_indices=True)
            out_q[mine] = value_u[theirs]
        return out_q

    def bare(self) -> float | None:
        """The goal's number of the untouched learner."""
        found = self.trials.costs([self.untouched])
        return self._mean(found[self.untouched][0], test=True) if found else None

    def parameters(self) -> int:
        """Numbers that were trained, counted in what a training left; 0 where none of them left anything."""
        from safetensors import safe_open

        folders = (self.trials.folder(self.training(*one)) for one in self.done)
        file = next((file for folder in folders for file in _weights(folder)), None)
        if file is None:
            return 0
        with safe_open(file, framework="numpy") as opened:
            trained = [name for name in opened.keys() if not name.endswith(_BUFFERS)]
            return sum(int(np.prod(opened.get_slice(name).get_shape())) for name in trained)

    def unjudged(self) -> list[str]:
        """Sentences for sets of which some pilot couldn't judge every row."""
        return self.trials.unjudged([self.training(*one) for one in self.done])

    @property
    def mends(self) -> bool:
        """Whether a pilot failed by what is no property of it, so that the same command tries it again."""
        return any(why.startswith(AGAIN) for why in self.trials.failed.values())

    def close(self) -> None:
        """Give back what trials shared on disk."""
        self.trials.close()

    def _run(self, trainings: list[Training], stage: str) -> None:
        self.trials.run(trainings, stage, order=lambda t: -len(t.ids) * t.recipe.epochs)

    def _stop(self, training: Training) -> float | None:
        found = self.trials.costs([training])
        return self._mean(found[training][0], test=False) if found else None

    def _mean(self, cost_J: np.ndarray, *, test: bool) -> float:
        """Of the subtasks; scores of which higher is better are shares, and count as the share of errors."""
        first = len(self.judges.stop) if test else 0
        cost = float(cost_J[first : first + len(self.judges.stop)].mean())
        return 1.0 + cost if self.trials.sign_J[first] < 0 else cost

    def _point(self, training: Training, larger: bool, chain: int, rows: int, epochs: int) -> Point:
        cost_J, _ = self.trials.costs([training])[training]
        row_q, value_q, weight_q = self.trials.values(training)[-1]
        held = {i.partition("#")[0] for i in training.ids}
        trained_q = np.array([self.judges.probed.rows[n].id.partition("#")[0] in held for n in row_q], dtype=bool)
        bare_q, bare = self._bare_of(row_q), self.bare_loss()

        def mean(mask_q: np.ndarray) -> float | None:
            """The mean loss that these rows stand for: as they are easier or harder than all, untouched, they count."""
            if not mask_q.any():
                return None
            share_q = weight_q[mask_q] / weight_q[mask_q].sum()
            mean, untouched = float(value_q[mask_q] @ share_q), float(bare_q[mask_q] @ share_q)
            return mean if bare is None or not untouched > 0 else mean * bare / untouched

        stop, test = (self._mean(cost_J, test=one) for one in (False, True))
        return Point(larger, chain, rows, epochs, stop, test, mean(~trained_q), mean(trained_q))


def _weights(folder: Path) -> list[Path]:
    """The file of trained numbers, of a net or of an adapter's last checkpoint."""
    last = max(folder.glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2]), default=folder)
    return [last / name for name in _WEIGHTS if (last / name).is_file()]
