"""The demo on the real SmolLM2: the end-to-end test of the main job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dataworth.demo_pool import MEANING


@pytest.mark.lm
@pytest.mark.smollm2
@pytest.mark.slow
def test_the_demo_finds_the_good_rows_trains_a_pair_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dataworth.cli", "demo", "--folder", "demo", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    recall = found["recall"]
    assert set(recall) == {"random", "length", "bm25", "loss", "rds", "less"}
    assert recall["bm25"] <= 0.6
    assert recall["length"] <= 0.6
    assert recall["less"] >= 0.7
    assert recall["less"] > max(recall[m] for m in ("random", "length", "bm25", "loss"))
    losses = found["judge_loss"]
    assert losses["picked by less"] < losses["nothing (the untouched model)"]
    assert len(found["kept_sample"]) == len(found["dropped_sample"]) == 3
    assert all(any(m in r["why"] for m in MEANING.values()) for r in found["kept_sample"] + found["dropped_sample"])
    demo = tmp_path / "demo"
    picked = (demo / "picked.jsonl").read_bytes().splitlines()
    assert len(picked) == found["rows"]["good"]
    assert set(picked) <= set((demo / "pool.jsonl").read_bytes().splitlines())
    assert pq.read_table(demo / "picked.jsonl.dataworth" / "reasons.parquet").num_rows == sum(found["rows"].values())
    replayed = [sys.executable, "-m", "dataworth.cli", "replay", "demo/runs/select-less", "--json"]
    again = subprocess.run(replayed, capture_output=True, text=True, cwd=tmp_path)
    assert json.loads(again.stdout)["identical"] is True
