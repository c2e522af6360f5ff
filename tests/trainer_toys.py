"""Trainers of a user's own that train nothing worth the name: they write what they were given, or copy an adapter."""

from __future__ import annotations

import json
import os
from pathlib import Path


def train(data: Path, seed: int, out: Path, lr: float = 0.0) -> None:
    told = {"lr": lr, "seed": seed, "bytes": len(data.read_bytes()), "pid": os.getpid()}
    (out / "metrics.json").write_text(json.dumps(told))
