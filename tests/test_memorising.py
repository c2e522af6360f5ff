"""Losses of rows under learners that did and didn't train on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dataworth as dw
from dataworth.errors import RequestError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "cache"))


def pool(folder: Path, n: int = 240) -> tuple[Path, np.ndarray]:
    """Rows of three classes in many dimensions, of which every eighth has another's label; copies of the first five."""
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, 3, n)
    x_ND = (2.5 * np.eye(3, 60)[label_N] + rng.normal(size=(n, 60))).astype(np.float32)
    wrong_N = np.arange(n) % 8 == 7
    given_N = np.where(wrong_N, (label_N + 1) % 3, label_N)
    x_ND, given_N = np.concatenate([x_ND, x_ND[:5]]), np.concatenate([given_N, given_N[:5]])
    np.savez(folder / "pool.npz", x=x_ND, y=given_N)
    return folder / "pool.npz", np.concatenate([wrong_N, wrong_N[:5]])


def test_wrong_labels_are_learnt_by_heart(tmp_path: Path) -> None:
    file, wrong_N = pool(tmp_path)
    (tmp_path / "recipe.yaml").write_text("epochs: 40\nbatch_size: 16\nlr: 0.05\ndtype: fp32\nwidth: 8\n")
    told = {"model": "mlp", "recipe": str(tmp_path / "recipe.yaml"), "workers": 0, "device": "cpu"}
    found = dw.score(str(file), method="memorised", run=str(tmp_path / "run"), **told)
    bits_N = found.scores["memorised"].values_N
    assert np.isfinite(bits_N).all() and (bits_N >= 0).all()
    assert bits_N[wrong_N].mean() > 5 * bits_N[~wrong_N].mean()
    np.testing.assert_array_equal(bits_N[:5], bits_N[240:])  # copies are in one half
    again = dw.score(str(file), method="memorised", run=str(tmp_path / "again"), **told)
    np.testing.assert_array_equal(again.scores["memorised"].values_N, bits_N)


def test_too_few_rows_to_halve(tmp_path: Path) -> None:
    np.savez(tmp_path / "pool.npz", x=np.eye(6, dtype=np.float32), y=np.arange(6) % 2)
    with pytest.raises(RequestError, match="expected at least 8 in each"):
        dw.score(str(tmp_path / "pool.npz"), method="memorised", model="mlp", run=str(tmp_path / "run"), workers=0)
