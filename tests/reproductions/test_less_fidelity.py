"""The reproduction on a tiny Llama: every part runs, resumes, and says that it is below the stated sizes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lm, pytest.mark.data, pytest.mark.slow]


def test_a_small_run_finishes_resumes_and_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    from reproductions import flan, less_fidelity

    model = tiny_folder(tmp_path / "model", layers=1, max_position_embeddings=512)
    monkeypatch.setattr(less_fidelity, "FORMS", {k: less_fidelity.FORMS[k] for k in ("less", "bm25", "length")})
    monkeypatch.setattr(less_fidelity, "JUDGED", ("less", "bm25", "length"))
    monkeypatch.setattr(flan, "PARTS", {"steer": 4, "tune": 5, "judge": 6})
    ledger = tmp_path / "ledger.jsonl"
    sizes = "--per-source 8 --subsets 6 --subset-rows 8 --seeds 2 --twin-rows 20 --twin-seeds 2".split()
    places = ["--model", str(model), "--work", str(tmp_path / "work"), "--ledger", str(ledger)]
    command = [*places, "--device", "cpu", "--workers", "0", *sizes, "--json"]
    monkeypatch.chdir(tmp_path)
    assert os.environ["DATAWORTH_DATA"]
    less_fidelity.main(command)
    found = json.loads(ledger.with_suffix(".json").read_text())
    assert found["verdict"].startswith("not reproduced: below the stated sizes")
    cells = found["group_retraining"]["correlations"]
    assert set(cells) == {
        f"{g} {s} {k}" for g in less_fidelity.GOALS for s in ("tune", "judge") for k in ("uniform", "weighted")
    }
    assert all(-1 <= c["less"]["low"] <= c["less"]["high"] <= 1 for c in cells.values())
    assert all(0 <= c["ceiling"] <= 1 for c in cells.values())
    assert len(found["group_retraining"]["losses"]) == 6
    beside = found["group_retraining"]["against default"]
    tuned = [cells[f"{g} tune {k}"] for g in less_fidelity.GOALS for k in ("uniform", "weighted")]
    mean = {form: sum(c[form]["value"] for c in tuned) / 4 for form in less_fidelity.FORMS}
    assert beside["less"]["value"] == pytest.approx(mean["less"])
    assert beside["bm25"]["value"] == pytest.approx(mean["bm25"] - mean["less"])
    assert beside["bm25"]["low"] <= beside["bm25"]["high"]
    assert all(0 <= v["mean"]["value"] <= 1 for v in found["recovery"].values())
    before = ledger.read_bytes()
    ledger.write_bytes(before[: len(before) - 25])
    less_fidelity.main(command)
    assert json.loads(ledger.with_suffix(".json").read_text()) == found, "a torn last line is done again, alike"
