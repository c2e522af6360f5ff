"""The demo's proof on a tiny model: both subsets are judged, and a small run says that it is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lm, pytest.mark.slow]


def test_a_small_proof_of_known_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    from reproductions import demo_proof

    model = tiny_folder(tmp_path / "model", layers=1, max_position_embeddings=512)
    monkeypatch.chdir(tmp_path)
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out.json"), "--model", str(model)]
    demo_proof.main([*places, "--rows", "60", "--seeds", "3", "--device", "cpu", "--workers", "0"])
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["verdict"].startswith("not reproduced")
    pairs = [(v["subject"], v["comparator"]) for v in told["verdicts"]]
    assert pairs == [(s, c) for s in ("good", "others") for c in ("random", "full")]
    assert all(v["verdict"] for v in told["verdicts"])
