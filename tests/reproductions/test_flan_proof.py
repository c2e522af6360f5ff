"""The real proof's command on a tiny model: all of it runs, and its committed trials are enough to go on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dataworth.store.cache import Cache

pytestmark = [pytest.mark.lm, pytest.mark.data, pytest.mark.slow]


def test_a_small_run_keeps_its_trials_and_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    from reproductions import flan, flan_proof

    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}  # the attention to 512 bytes is what takes time
    model = tiny_folder(tmp_path / "model", layers=2, max_position_embeddings=512, **heads)
    monkeypatch.setattr(flan, "PARTS", {"steer": 4, "tune": 5, "judge": 20})
    monkeypatch.setattr(flan_proof, "METHODS", {"bm25": "bm25", "longest": "length"})
    monkeypatch.setattr("dataworth.proving.rates.FACTORS", (1.0, 2.0))
    monkeypatch.chdir(tmp_path)
    sizes = "--per-source 10 --keep 8 --seeds 3 --epochs 1 --arc-rows 8 --wiki-rows 8 --finalists 1".split()
    places = ["--model", str(model), "--work", "work", "--state", "state", "--out", "out.json", "--lora-layers", "1"]
    command = [*places, "--device", "cpu", "--workers", "0", *sizes, "--json"]
    flan_proof.main(command)
    found = json.loads(Path("out.json").read_text())
    assert found["verdict"].startswith("not reproduced: below the stated sizes")
    assert {v["comparator"] for v in found["epochs"]["verdicts"]} == {"random", "full"}
    assert {k["skill"] for k in found["epochs"]["protected"]} == {"wikitext", "arc_easy"}
    assert len(list(Path("state").glob("*.parquet"))) == 2, "one file for each set of judges: tune and judge"
    assert len(found["epochs"]["worth"]) == 2 and len({v["subject"] for v in found["tokens"]["verdicts"]}) == 1
    shutil.rmtree(Cache().root)
    shutil.rmtree("work")  # what another machine hasn't
    monkeypatch.setattr("dataworth.select", lambda *_, **__: pytest.fail("a kept pick was made again"))
    monkeypatch.setattr(
        "dataworth.proving.trial_work.TrialWork._trial", lambda *_: pytest.fail("a kept trial was run again")
    )
    flan_proof.main(command)
    assert json.loads(Path("out.json").read_text()) == found
    with pytest.raises(pytest.fail.Exception, match="made again"):  # another request isn't answered by them
        flan_proof.main([*command, "--keep", "9"])
