"""Published selections of Alpaca at a tiny size, and the figures by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reproductions import alpaca_checks


@pytest.mark.lm
@pytest.mark.data
def test_both_checks_on_a_tiny_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from tests.learners.tinymodel import tiny_folder

    monkeypatch.setattr(alpaca_checks, "DRAWS", 20)
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "cache"))
    model = tiny_folder(tmp_path / "model", layers=1, max_position_embeddings=512)
    where = ["--work", str(tmp_path / "w"), "--out", str(tmp_path / "o.json")]
    given = ["--model", str(model), "--device", "cpu", "--workers", "0", "--rows", "150", *where]
    alpaca_checks.main(given)
    told = capsys.readouterr().out
    assert told.startswith("not reproduced: below the stated sizes (rows)")
    found = json.loads((tmp_path / "o.json").read_text())
    measures = {name: m["found"] for name, m in found["length"]["measures"].items()}
    assert found["length"]["flagged"] == 189 and list(measures) == list(alpaca_checks.LENGTHS)
    assert measures["length"] == pytest.approx(0.815, abs=1e-3)
    assert measures["column:response_characters"] == pytest.approx(0.862, abs=1e-3)
    assert measures["response_length"] > 0.99
    assert found["ifd"]["rows"] == 150 and set(found["ifd"]["scores"]) == {
        "response characters",
        "ifd, ppl",
        "ifd, loss",
    }
    alpaca_checks.main([*given, "--json"])
    assert json.loads(capsys.readouterr().out) == found


def test_figures_by_hand() -> None:
    flag_N = np.array([True, False, True, False])
    assert alpaca_checks.auroc(np.array([2.0, 1.0, 1.0, 0.0]), flag_N) == pytest.approx(3.5 / 4)
    bins = np.array([0, 0, 1, 1])
    values = alpaca_checks._figures(np.array([5.0, 6.0, 1.0, 0.0]), flag_N, bins)
    assert values == pytest.approx([1 / 2, 1 / 2, 1 / 2, 1.0])
