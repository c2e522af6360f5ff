"""Proofs on the same judge rows are counted, each once, and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataworth.errors import FormatError
from dataworth.proving.registrations import opened_by, said


def test_another_proof_on_the_same_rows_is_counted_once(tmp_path: Path) -> None:
    judged = [["maths", "loss", "goal/judge.jsonl"]]
    first, second = {"arms": {"a": 1}, "judged": judged}, {"arms": {"b": 1}, "judged": judged}
    assert opened_by(tmp_path, ["x", "y"], first, Path("runs/one")) == []
    assert opened_by(tmp_path, ["y", "x"], first, Path("runs/again")) == []
    assert opened_by(tmp_path, ["y", "x"], second, Path("runs/two")) == [{"run": "runs/one"}]
    assert opened_by(tmp_path, ["x", "y"], first, Path("runs/one")) == [{"run": "runs/two"}]
    assert opened_by(tmp_path, ["x"], second, Path("runs/two")) == [], "other rows"
    assert opened_by(tmp_path, ["x"], second | {"judged": [["maths", "loss", "moved.jsonl"]]}, Path("runs/two")) == []
    other = second | {"judged": [["maths", "choice", "goal/judge.jsonl"]]}
    assert opened_by(tmp_path, ["z"], second, Path("runs/two")) == []
    assert opened_by(tmp_path, ["z"], other, Path("runs/choice")) == [{"run": "runs/two"}], (
        "another judge is another proof"
    )
    next(tmp_path.rglob("*.json")).with_name(".tmp-1-a.json").write_text("{")  # a killed writer's
    third = opened_by(tmp_path, ["x", "y"], first | {"arms": {}}, Path("runs/three"))
    assert [note["run"] for note in third] == ["runs/one", "runs/two"]


def test_what_is_said_names_the_proofs() -> None:
    assert said([]) == []
    assert "1 other registered proof (runs/one)" in said([{"run": "runs/one"}])[0]
    (only,) = said([{"run": name} for name in "abcd"])
    assert "4 other registered proofs (b, c, d)" in only
    assert "3 other registered proofs (a, b)" in said([{"run": name} for name in "aba"])[0], "a folder is named once"


def test_the_same_proof_at_another_margin_is_told(tmp_path: Path) -> None:
    proof = {"arms": {"a": 1}, "judged": []}
    opened_by(tmp_path, ["x"], proof | {"margin": 0.01}, Path("runs/strict"))
    opened_by(tmp_path, ["x"], proof | {"margin": None}, Path("runs/none"))
    opened_by(tmp_path, ["x"], {"arms": {"b": 1}, "judged": [], "margin": 0.01}, Path("runs/other"))
    told = said(opened_by(tmp_path, ["x"], proof | {"margin": 0.05}, Path("runs/lax")))
    assert [line for line in told if "registered with the margin 0.01 before (runs/strict)" in line]
    assert [line for line in told if "registered without a margin before (runs/none)" in line]
    resumed = said(opened_by(tmp_path, ["x"], proof | {"margin": 0.01}, Path("runs/strict")))
    assert len(resumed) == 1, "what was registered later accuses nobody"
    assert len(told) == 3 and not any("very proof" in line and "runs/other" in line for line in told)


def test_a_damaged_note_is_one_line(tmp_path: Path) -> None:
    opened_by(tmp_path, ["x"], {"a": 1, "judged": []}, Path("runs/one"))
    next(tmp_path.rglob("*.json")).write_text("{")
    with pytest.raises(FormatError, match="delete it"):
        opened_by(tmp_path, ["x"], {"b": 1, "judged": []}, Path("runs/two"))
