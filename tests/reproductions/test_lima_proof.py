"""LIMA's claim at a tiny size: arms, price, two protocols, and picks that never hold LIMA's rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.lm, pytest.mark.data, pytest.mark.slow]


def test_a_small_run_prices_and_proves_and_claims_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    pytest.importorskip("model2vec")
    from tests.learners.tinymodel import tiny_folder

    from dataworth.formats import open_pool
    from reproductions import lima_proof

    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}  # the attention to 512 bytes is what takes time
    model = tiny_folder(tmp_path / "model", layers=2, max_position_embeddings=512, **heads)
    monkeypatch.setattr(lima_proof, "PARTS", {"steer": 4, "tune": 5, "judge": 20})
    monkeypatch.setattr("dataworth.proving.rates.FACTORS", (1.0, 2.0))
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    sizes = "--keep 8 --alpaca-rows 40 --dolly-rows 12 --lima-rows 8 --seeds 3 --epochs 1 --arc-rows 8 --wiki-rows 8"
    places = ["--model", str(model), "--work", "work", "--state", "state", "--out", "out.json", "--lora-layers", "1"]
    command = [*places, *sizes.split(), "--device", "cpu", "--workers", "0", "--json"]
    lima_proof.main([*command, "--price"])
    price = json.loads(capsys.readouterr().out)
    assert price["recipe"]["tau"] == 0.7 and 0 < price["recipe"]["among_the_longest"] <= 8
    assert price["epochs"]["tokens"] > price["tokens"]["tokens"] > 0
    lima_proof.main(command)
    found = json.loads(Path("out.json").read_text())
    assert found["verdict"].startswith("not reproduced: below the stated sizes")
    for protocol in ("epochs", "tokens"):
        asked = {(v["subject"], v["comparator"]) for v in found[protocol]["verdicts"]}
        assert asked == {(s, c) for s in ("recipe", "longest", "lima") for c in ("random", "full")}
        assert {k["skill"] for k in found[protocol]["protected"]} == {"wikitext", "arc_easy"}
    lima = set(open_pool("work/lima.jsonl").ids)
    for name in ("recipe", "longest"):
        kept = pq.read_table(f"work/runs/tau-0.7/{name}/weights.parquet")["id"].to_pylist()
        assert len(kept) == 8 and not lima & set(kept)
    rows = [json.loads(line) for name in ("alpaca", "dolly") for line in Path(f"work/{name}.jsonl").open()]
    longest = sorted((r["response_characters"] for r in rows), reverse=True)[:8]
    ids = open_pool(["work/alpaca.jsonl", "work/dolly.jsonl"]).ids
    at = np.isin(ids, pq.read_table("work/runs/tau-0.7/longest/weights.parquet")["id"].to_pylist())
    assert sorted((r["response_characters"] for r, kept in zip(rows, at, strict=True) if kept), reverse=True) == longest
