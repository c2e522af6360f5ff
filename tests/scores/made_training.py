"""Trainings of classifiers, made up: what scores of difficulty read."""

import numpy as np

from dataworth.dynamics import Dynamics, quantities


def row_ids(n):
    return [f"{(i * 2654435761) % 2**64:032x}" for i in range(n)]


def dynamics(n, nets=3, epochs=12, classes=4, seed=0):
    """Logits that grow towards the label, row by row at another pace; labels `[n]` beside them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, size=n)
    pace = rng.uniform(-0.3, 0.8, size=n)
    tables = np.empty((5, nets, epochs, n), dtype=np.float32)
    for s in range(nets):
        for e in range(epochs):
            logits = rng.normal(size=(n, classes))
            logits[np.arange(n), labels] += pace * e
            tables[:, s, e] = quantities(logits, labels)
    return Dynamics(*tables), labels


def of(correct=None, p=None, margin=None, error=None):
    """Dynamics in which one quantity is told, as [E, N] of one net or as [S, E, N]."""
    given = {"correct_SEN": correct, "p_SEN": p, "margin_SEN": margin, "error_SEN": error}
    found = {k: np.asarray(v, dtype=np.float32) for k, v in given.items() if v is not None}
    found = {k: v[None] if v.ndim == 2 else v for k, v in found.items()}
    shape = next(iter(found.values())).shape
    names = ("loss_SEN", "p_SEN", "margin_SEN", "error_SEN", "correct_SEN")
    return Dynamics(**{k: found.get(k, np.full(shape, 0.5, dtype=np.float32)) for k in names})


def inputs(found):
    return {"ids": row_ids(found.loss_SEN.shape[2]), "dynamics": found}


def at(found, rows):
    """The same training of some rows, in their order."""
    parts = (found.loss_SEN, found.p_SEN, found.margin_SEN, found.error_SEN, found.correct_SEN)
    return Dynamics(*(part[:, :, rows] for part in parts))


def without(found, rows):
    """The same training, which never saw some rows."""
    parts = [a.copy() for a in (found.loss_SEN, found.p_SEN, found.margin_SEN, found.error_SEN, found.correct_SEN)]
    for part in parts:
        part[:, :, rows] = np.nan
    return Dynamics(*parts)
