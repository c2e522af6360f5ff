"""Runners that store what they see of their process."""

from __future__ import annotations

import gc
import json
import os

import numpy as np


class Model:
    """Stands for weights, held in a cycle as modules hold each other; `living` finds those not yet freed."""

    def __init__(self, config):
        self.config, self.itself = config, self


def living():
    return [o.config["name"] for o in gc.get_objects() if isinstance(o, Model)]


def look(config, device):
    before = living()
    model = Model(config)

    def work(ids, payload):
        same = os.path.samestat(os.fstat(1), os.fstat(2))
        seen = {
            "device": device,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
            "stdout_is_stderr": same,
            "pid": os.getpid(),
            "name": model.config.get("name"),
            "models_before": before,
        }
        text = np.frombuffer(json.dumps(seen).encode().ljust(300, b"\0"), dtype=np.uint8)
        return {"seen": np.stack([text] * len(ids))}, {}

    return work
