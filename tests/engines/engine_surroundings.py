"""A runner that stores what it sees of its process."""

from __future__ import annotations

import json
import os

import numpy as np


def look(config, device):
    def work(ids, payload):
        same = os.path.samestat(os.fstat(1), os.fstat(2))
        seen = {"device": device, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"), "stdout_is_stderr": same}
        text = np.frombuffer(json.dumps(seen).encode().ljust(200, b"\0"), dtype=np.uint8)
        return {"seen": np.stack([text] * len(ids))}, {}

    return work
