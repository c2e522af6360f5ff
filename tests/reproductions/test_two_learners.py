"""Two learners on a tiny model: a second one is trained, and each is trained on both picks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lm, pytest.mark.data, pytest.mark.slow]


def test_a_small_run_compares_own_picks_with_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    from reproductions import flan, two_learners

    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}  # the attention to 512 bytes is what takes time
    model = tiny_folder(tmp_path / "model", layers=2, max_position_embeddings=512, **heads)
    monkeypatch.setattr(flan, "PARTS", {"steer": 4, "tune": 5, "judge": 20})
    monkeypatch.setattr("dataworth.proving.rates.FACTORS", (1.0,))
    monkeypatch.chdir(tmp_path)
    sizes = "--per-source 8 --keep 10 --seeds 3 --epochs 1 --arc-rows 8 --wiki-rows 8 --other-rows 16".split()
    places = ["--model", str(model), "--work", "work", "--state", "state", "--out", "out.json", "--lora-layers", "1"]
    two_learners.main([*places, "--device", "cpu", "--workers", "0", *sizes, "--json"])
    found = json.loads(Path("out.json").read_text())
    assert found["verdict"].startswith("not reproduced: below the stated sizes")
    assert 0 <= found["shared"] <= 1
    for learner, other in (("first", "second"), ("second", "first")):
        direct = found["own against other's"][learner]
        assert direct["subject"] == f"gsm8k-picks-of-{learner}"
        assert direct["comparator"] == f"gsm8k-picks-of-{other}"
        assert direct["claim"] == "means"
        assert direct["verdict"]
    assert found["first"]["untouched"] != found["second"]["untouched"], "they are two learners"
    assert (Path("work") / "second-learner" / "config.json").is_file()
