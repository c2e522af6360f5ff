"""Runners that work, raise, die, hang or run out of memory on the rows their config names."""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from pathlib import Path

import numpy as np

from dataworth.errors import NonsenseRefused
from dataworth.store import Artefact, Cache


def row_ids(n: int) -> list[str]:
    return [hashlib.md5(str(i).encode()).hexdigest() for i in range(n)]


def value(row_id: str) -> int:
    return int(row_id[:6], 16)


def artefact_at(root: Path) -> Artefact:
    return Cache(root).artefact("toy", {"probe": "toy"})


def make(config, device):
    """`config` maps an ill to the ids that cause it; "stick" hangs while holding the interpreter lock."""
    if config.get("die_at_start"):
        os._exit(3)

    def work(ids, payload):
        assert payload is None or payload == [i[::-1] for i in ids]
        ill = {
            name: [i for i in ids if i in config.get(name, ())] for name in ("raise", "die", "hang", "stick", "refuse")
        }
        if ill["refuse"]:
            raise NonsenseRefused("all features are zero: expected numbers; check the model")
        if ill["raise"]:
            raise ValueError(f"bad row\n{ill['raise'][0][:4]}")
        if ill["die"]:
            os.kill(os.getpid(), 9)
        if ill["hang"]:
            time.sleep(60)
        if ill["stick"]:
            ctypes.PyDLL(None).sleep(60)  # holds the interpreter lock: no heartbeat either
        if len(ids) > config.get("memory", 10**9):
            raise MemoryError
        time.sleep(config.get("sleep", 0))
        scored = [i for i in ids if not i.endswith("0")]
        columns = {
            "wide": np.array([[value(i), len(device)] for i in scored], dtype=np.int64).reshape(-1, 2),
            "ragged": [np.full(int(i[0], 16), value(i), dtype=np.int32) for i in scored],
        }
        return columns, {i: "empty mask" for i in ids if i.endswith("0")}

    return work


def whole(config, device):
    """A runner whose values depend on which rows are run together, as sums in a batch do in floating point."""
    inner = make(config, device)

    def work(ids, payload):
        inner(ids, payload)
        return {"mean": np.full(len(ids), np.mean([value(i) for i in ids]))}, {}

    return work


def one_fast(config, device):
    """`make`, which only the worker that makes the file `config["fast"]` loads at once."""
    try:
        Path(config["fast"]).touch(exist_ok=False)
    except FileExistsError:
        time.sleep(1)
    return make(config, device)
