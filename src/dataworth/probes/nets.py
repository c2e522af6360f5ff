"""Classifiers trained on a pool, one per seed, and what each of them showed and says of every row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.learners.classifier import Classifier, describe_classifier
from dataworth.learners.classifier_trainer import train_classifier
from dataworth.learners.labelled import Labelled, LabelledEncoder
from dataworth.recipe import ClassifierRecipe
from dataworth.store.atomic import write_atomic
from dataworth.store.cache import is_done, mark_done
from dataworth.store.lock import EntryLock
from dataworth.store.part import Column

Work = Callable[[Sequence[str], Sequence[tuple[int, Sequence[int]]]], tuple[dict[str, Column], dict[str, str]]]
INPUTS = ("x.npy", "label.npy", "ids.npy")
"""Files of the folder that holds a pool as a classifier sees it: `[N, ...]`, `[N]`, `[N]`."""
UNREAD = "unread.json"
THRESHOLD = "threshold class"


def write_inputs(folder: Path, rows: Sequence[Labelled], unread: Mapping[str, str]) -> None:
    """Keep usable rows where every worker can map them, and why the others aren't usable."""
    arrays = (
        np.stack([row.x for row in rows]),
        np.array([row.label for row in rows], dtype=np.int64),
        np.array([row.id for row in rows]),
    )
    for name, array in zip(INPUTS, arrays, strict=True):
        with (folder / name).open("wb") as file:
            np.save(file, array, allow_pickle=False)
    write_atomic(folder / UNREAD, json.dumps(dict(unread)).encode())
    mark_done(folder)


def read_inputs(folder: Path) -> list[Labelled]:
    """The rows that `write_inputs` kept; their pixels or vectors stay on disk until they are read."""
    x_N = np.load(folder / INPUTS[0], mmap_mode="r", allow_pickle=False)
    label_N, id_N = (np.load(folder / name, allow_pickle=False) for name in INPUTS[1:])
    return [Labelled(str(i), x, int(y)) for i, x, y in zip(id_N, x_N, label_N, strict=True)]


def trained_ids(folder: Path) -> list[str]:
    """Ids of the rows that `write_inputs` kept, in its order."""
    found: list[str] = np.load(folder / INPUTS[2], allow_pickle=False).tolist()
    return found


def open_nets(config: dict[str, Any], device: str) -> Work:
    """Engine runner: nets in; ragged `dynamics` (5 x E x N), `logits` (N x K), `features` (N x F), `norms` (N) out.

    A net is its seed and the places of rows that are relabelled to a class of their own, one more than there are.

    Args:
        config: `model`, `recipe`, `classes`, `shape`; `inputs`, the folder of `write_inputs`; `record`, how the
            training is recorded; `norms`, whether gradient norms are wanted; `trainings`, id of the net -> the folder
            in which it is trained and kept.
        device: Where nets are trained.
    """
    rows = read_inputs(Path(config["inputs"]))
    recipe = ClassifierRecipe.from_dict(config["recipe"])

    def work(
        ids: Sequence[str], payload: Sequence[tuple[int, Sequence[int]]]
    ) -> tuple[dict[str, Column], dict[str, str]]:
        found: dict[str, list[NDArray[np.float32]]] = {"dynamics": [], "logits": [], "features": [], "norms": []}
        for net_id, (seed, places) in zip(ids, payload, strict=True):
            classes = [*config["classes"], THRESHOLD] if places else config["classes"]
            renderer = LabelledEncoder(classes, config["shape"])
            card = describe_classifier(config["model"], replace(recipe, seed=seed), renderer, device)
            net, folder = Classifier(card, device), Path(config["trainings"][net_id])
            with EntryLock(folder):
                done = train_classifier(
                    net, _relabelled(rows, places, len(classes) - 1), out=folder, record=config["record"]
                )
                if not is_done(folder):
                    mark_done(folder)
            values = done.values_5EN if done.values_5EN is not None else np.zeros(0, np.float32)
            found["dynamics"].append(values.ravel())
            found["logits"].append(net.logits(rows).ravel())
            found["features"].append(net.features(rows).ravel())
            found["norms"].append(net.gradient_norms(rows) if config["norms"] else np.zeros(0, np.float32))
        return dict(found), {}

    return work


def _relabelled(rows: Sequence[Labelled], places: Sequence[int], label: int) -> list[Labelled]:
    out = list(rows)
    for n in places:
        out[n] = replace(out[n], label=label)
    return out
