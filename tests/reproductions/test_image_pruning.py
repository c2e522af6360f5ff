"""The pruning of images at a tiny size: arms, trials, resumption, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from reproductions import image_pruning

pytestmark = [pytest.mark.lm, pytest.mark.data]
TINY = ["--rows", "120", "--epochs", "2", "--width", "2", "--seeds", "3", "--workers", "0", "--device", "cpu"]


@pytest.mark.parametrize("data", ["cifar10", "fashion_mnist"])
def test_every_arm_is_trained_judged_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    whole = image_pruning.images
    monkeypatch.setattr(image_pruning, "images", lambda data, rows: _few(whole(data, rows)))
    given = ["--data", data, *TINY, "--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    image_pruning.main(given)
    told = capsys.readouterr().out
    assert told.startswith("not reproduced: below the stated sizes (rows, epochs, width, seeds)")
    found = json.loads((tmp_path / "results" / f"{data}.json").read_text())
    arms = {a["arm"]: a for a in found["arms"]}
    cells = image_pruning.ARMS[data]
    assert list(arms) == [f"{name} {share:g}" for share, names in cells for name in names]
    lines = [json.loads(line) for line in (tmp_path / "results" / f"{data}.jsonl").read_text().splitlines()]
    assert len(lines) == 3 * (1 + sum(len(names) for _, names in cells))
    kept = {line["key"]: line["value"] for line in lines}
    assert kept["el2n 0.5 0"]["rows"] == 60 and kept["el2n 0.5 0"]["seen"] == pytest.approx(240, abs=64)
    assert kept["random 0.5 0"] != kept["random 0.5 1"]
    assert {v["verdict"] for a in arms.values() for v in a["verdicts"]} <= {
        "better",
        "worse",
        "as good as",
        "no difference shown",
        "cannot tell",
    }
    monkeypatch.setattr(image_pruning, "train", None)  # everything is there
    image_pruning.main(given)
    assert capsys.readouterr().out == told


def _few(found: tuple[list, list]) -> tuple[list, list]:
    return found[0], found[1][:200]
