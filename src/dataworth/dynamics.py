"""What the training of classifiers showed of each row: the arrays that difficulty scores read."""

from __future__ import annotations

import zipfile
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError

NAMES = ("loss", "p", "margin", "error", "correct")
"""What is recorded of a row in an epoch, in the order of `quantities`."""


@dataclass(frozen=True)
class Dynamics:
    """Per net, epoch and row, NaN where a row wasn't seen in an epoch.

    Axes: `S` nets (seeds), `E` epochs, `N` rows. With softmax probabilities p, logits z and the row's label y:
    `loss_SEN` = -log p_y (nats), `p_SEN` = p_y, `margin_SEN` = z_y minus the largest other logit, `error_SEN` =
    ||p - onehot(y)||_2, `correct_SEN` = 1 where z_y is the largest logit, else 0.

    Raises:
        RequestError: Arrays of different or wrong shapes.
    """

    loss_SEN: NDArray[np.float32]
    p_SEN: NDArray[np.float32]
    margin_SEN: NDArray[np.float32]
    error_SEN: NDArray[np.float32]
    correct_SEN: NDArray[np.float32]

    def __post_init__(self) -> None:
        shapes = {a.shape for a in (self.loss_SEN, self.p_SEN, self.margin_SEN, self.error_SEN, self.correct_SEN)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 3:
            raise RequestError(f"dynamics of shapes {sorted(shapes)}: expected five [nets, epochs, rows] of one shape")

    @classmethod
    def load(cls, paths: Sequence[str | Path], ids: Sequence[str]) -> Dynamics:
        """What `Recorder.save` wrote, a file a net, for rows in the order of `ids`.

        Files name rows by these ids, or by their places among them ("0" is the first); a row that they don't name
        holds NaN.

        Raises:
            RequestError: A file that isn't one, names other rows, or has another number of epochs.
        """
        known = {row_id: n for n, row_id in enumerate(ids)}
        nets = [_recorded(Path(path), known) for path in paths]
        if len({net_5EN.shape for net_5EN in nets}) != 1:
            shown = ", ".join(f"{path}: {net_5EN.shape[1]}" for path, net_5EN in zip(paths, nets, strict=True))
            raise RequestError(f"recordings of different lengths (epochs of {shown}): expected one number of epochs")
        return cls(*np.stack(nets).transpose(1, 0, 2, 3))

    @property
    def epochs(self) -> int:
        """How many epochs were recorded."""
        return self.loss_SEN.shape[1]


@dataclass(frozen=True)
class ThresholdDynamics:
    """Two trainings, each with a threshold class: one class more, to which rows are relabelled on purpose.

    `margin_2EN` is what `Dynamics.margin_SEN` is, of the label trained on; `own_2N` says whether that was the row's
    own. A row keeps its own label in one of them at least.

    Raises:
        RequestError: Arrays of other shapes.
    """

    margin_2EN: NDArray[np.float32]
    own_2N: NDArray[np.bool_]

    def __post_init__(self) -> None:
        runs, _, rows = self.margin_2EN.shape
        if runs != 2 or self.own_2N.shape != (2, rows):
            raise RequestError(
                f"margins {self.margin_2EN.shape} and own labels {self.own_2N.shape}: expected [2, epochs, rows] and "
                "[2, rows]"
            )


def mean_of(rows: Iterable[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Mean `[N]` over arrays `[N]` of what isn't NaN, added in order; NaN where all are."""
    total_N: NDArray[np.float64] | None = None
    count_N: NDArray[np.float64] | None = None
    for each in rows:
        values_N = np.asarray(each, dtype=np.float64)
        seen_N = ~np.isnan(values_N)
        if total_N is None or count_N is None:
            total_N, count_N = np.zeros(len(values_N)), np.zeros(len(values_N))
        total_N += np.where(seen_N, values_N, 0.0)
        count_N += seen_N
    if total_N is None or count_N is None:
        raise RequestError("nothing was recorded: expected at least one net and one epoch; train longer")
    return np.divide(total_N, count_N, out=np.full(len(total_N), np.nan), where=count_N > 0)


def _recorded(path: Path, known: Mapping[str, int]) -> NDArray[np.float32]:
    """`[5, E, N]` of a file.

    Raises:
        RequestError: It isn't a recording of these rows.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            names, values_5En = found["ids"].tolist(), np.stack([found[name] for name in NAMES])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError(f"{path} is no recording ({error}): expected what dataworth's Recorder saved") from None
    places = {str(n): n for n in known.values()}
    place = known if set(names) <= set(known) else places
    other = next((name for name in names if name not in place), None)
    if other is not None or len(set(names)) < len(names) or values_5En.shape[2:] != (len(names),):
        raise RequestError(
            f"{path} names row {other!r}: expected ids of the pool's rows, or their places from 0 to {len(known) - 1}"
        )
    out_5EN = np.full((*values_5En.shape[:2], len(known)), np.nan, dtype=np.float32)
    out_5EN[:, :, [place[name] for name in names]] = values_5En
    return out_5EN


class Recorder:
    """Records a training of your own: `record` for every batch, `save` at the end.

        recorder = Recorder(ids, epochs)
        recorder.record(epoch, batch_ids, logits, labels)     # in the loop; epochs count from 0
        recorder.save("dynamics.npz")

    Args:
        ids: Of all rows, in any order and of any kind that can be a key.
        epochs: How many there will be.
    """

    def __init__(self, ids: Sequence[Hashable], epochs: int) -> None:
        self.position = {row_id: n for n, row_id in enumerate(ids)}
        if len(self.position) != len(ids) or epochs < 1:
            raise RequestError(f"{len(ids)} ids and {epochs} epochs: expected distinct ids and at least one epoch")
        self.values_5EN = np.full((5, epochs, len(ids)), np.nan, dtype=np.float32)

    def record(self, epoch: int, ids: Sequence[Hashable], logits_BK: Any, label_B: Any) -> None:
        """Record a batch's logits (before the optimizer's step); tensors and arrays alike.

        Raises:
            RequestError: An unknown row or epoch, or logits that aren't any.
        """
        ids = _plain(ids).tolist() if hasattr(ids, "detach") or isinstance(ids, np.ndarray) else ids
        unknown = [i for i in ids if i not in self.position]
        if unknown or not 0 <= epoch < self.values_5EN.shape[1]:
            what = f"row {unknown[0]!r}" if unknown else f"epoch {epoch}"
            raise RequestError(f"{what} isn't among the {self.values_5EN.shape[1]} epochs of known rows: correct it")
        found_5B = quantities(_plain(logits_BK), _plain(label_B))
        self.values_5EN[:, epoch, [self.position[i] for i in ids]] = found_5B

    def save(self, path: str | Path) -> None:
        """Write ids and arrays as an `.npz` of plain arrays."""
        arrays: dict[str, Any] = dict(zip(NAMES, self.values_5EN, strict=True))
        with Path(path).open("wb") as file:
            np.savez_compressed(file, ids=np.array([str(i) for i in self.position]), **arrays)


def _plain(values: Any) -> Any:
    """A tensor as an array, without torch."""
    if not hasattr(values, "detach"):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()


def quantities(logits_BK: NDArray[np.floating], label_B: NDArray[np.integer]) -> NDArray[np.float32]:
    """Loss, p, margin, error and correctness of rows, as `[5, B]` in `Dynamics`' order, computed in float64.

    Raises:
        RequestError: Fewer than two classes, labels outside them, or logits that aren't finite.
    """
    z_BK, y_B = np.asarray(logits_BK, np.float64), np.asarray(label_B)
    if z_BK.ndim != 2 or z_BK.shape[1] < 2 or y_B.shape != z_BK.shape[:1]:
        raise RequestError(f"logits {z_BK.shape} and labels {y_B.shape}: expected [rows, 2 or more classes] and [rows]")
    if len(y_B) and not (0 <= y_B.min() and y_B.max() < z_BK.shape[1]):
        raise RequestError(f"labels {y_B.min()} to {y_B.max()}: expected 0 to {z_BK.shape[1] - 1}; renumber them")
    if not np.isfinite(z_BK).all():
        raise RequestError("a logit isn't finite: the training has diverged; lower the learning rate")
    rows = np.arange(len(y_B))
    shifted_BK = z_BK - z_BK.max(axis=1, keepdims=True)
    log_p_BK = shifted_BK - np.log(np.exp(shifted_BK).sum(axis=1, keepdims=True))
    p_BK, loss_B = np.exp(log_p_BK), -log_p_BK[rows, y_B]
    others_BK = z_BK.copy()
    others_BK[rows, y_B] = -np.inf
    margin_B = z_BK[rows, y_B] - others_BK.max(axis=1)
    off_BK = p_BK.copy()
    off_BK[rows, y_B] -= 1.0
    error_B = np.linalg.norm(off_BK, axis=1)
    return np.stack([loss_B, p_BK[rows, y_B], margin_B, error_B, margin_B > 0]).astype(np.float32)
