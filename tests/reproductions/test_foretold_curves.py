"""Curves foretold and scored, at tiny sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dataworth.proof.budget import TrialRates
from reproductions import foretold_curves

pytest.importorskip("torch")
pytestmark = pytest.mark.lm


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The image case on vectors, and nothing timed."""
    rng = np.random.default_rng(0)
    for name, n in (("train", 600), ("test", 700)):
        y = rng.integers(0, 3, n)
        np.savez(tmp_path / f"{name}.npz", x=(1.2 * np.eye(3, 6)[y] + rng.normal(size=(n, 6))).astype(np.float32), y=y)
    files = ([str(tmp_path / "train.npz")], str(tmp_path / "test.npz"))
    monkeypatch.setattr(foretold_curves, "images", lambda case, folder: files)
    rates = TrialRates(1e-4, 1e-6, opening=0.01)
    monkeypatch.setattr("dataworth.api.training_rates", lambda session: rates)
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "cache"))
    recipe = {"epochs": 12, "width": 4, "batch_size": 8, "lr": 0.05, "dtype": "fp32"}
    monkeypatch.setattr(foretold_curves, "RECIPES", {"images": recipe})
    asked = foretold_curves.request

    def of_vectors(case, args):
        return {**asked(case, args), "model": "mlp"}

    monkeypatch.setattr(foretold_curves, "request", of_vectors)
    told = {"work": "work", "foretold": "foretold", "out": "scores.json"}
    paths = [word for flag, name in told.items() for word in (f"--{flag}", str(tmp_path / name))]
    return [*paths, "--cases", "cifar10", "--largest-images", "64", "--chains", "2", "--workers", "0", "--json"]


def test_predictions_come_first_and_are_held_against_what_came(small, tmp_path, capsys):
    foretold_curves.main(["--foretell", *small])
    told = json.loads(capsys.readouterr().out)
    assert told["sizes"] == [4, 8, 16, 32, 64] and [b["rows"] for b in told["whatever_speaks_against_it"]] == [
        128,
        256,
        512,
    ]
    assert told == json.loads((tmp_path / "foretold" / "cifar10.json").read_text())
    with pytest.raises(SystemExit, match="isn't committed"):
        foretold_curves.main(["--score", *small])
    foretold_curves.main(["--score", *small, "--uncommitted"])
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"].startswith("not reproduced: below the stated sizes (largest_images, chains, uncommitted)")
    assert found["predictions"] == 3
    (case,) = found["cases"]
    for score, band in zip(case["scores"], told["whatever_speaks_against_it"], strict=True):
        assert score["band"] == [band["low"], band["high"]]
        assert score["band_covered"] == (band["low"] <= score["measured"]["value"] <= band["high"])
        assert score["spoke"] == (not told["predictions"][case["scores"].index(score)]["refusal"])
