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
    assert opened_by(tmp_path, ["y", "x"], second, Path("runs/two")) == ["runs/one"]
    assert opened_by(tmp_path, ["x", "y"], first, Path("runs/one")) == ["runs/two"]
    assert opened_by(tmp_path, ["x"], second, Path("runs/two")) == [], "other rows"
    assert opened_by(tmp_path, ["x"], second | {"judged": [["maths", "loss", "moved.jsonl"]]}, Path("runs/two")) == []
    other = second | {"judged": [["maths", "choice", "goal/judge.jsonl"]]}
    assert opened_by(tmp_path, ["z"], second, Path("runs/two")) == []
    assert opened_by(tmp_path, ["z"], other, Path("runs/choice")) == ["runs/two"], "another judge is another proof"
    next(tmp_path.rglob("*.json")).with_name(".tmp-1-a.json").write_text("{")  # a killed writer's
    assert opened_by(tmp_path, ["x", "y"], first | {"arms": {}}, Path("runs/three")) == ["runs/one", "runs/two"]


def test_what_is_said_names_the_proofs() -> None:
    assert said([]) == []
    assert "1 other registered proof (runs/one)" in said(["runs/one"])[0]
    assert "4 other registered proofs (b, c, d)" in said(["a", "b", "c", "d"])[0]


def test_a_damaged_note_is_one_line(tmp_path: Path) -> None:
    opened_by(tmp_path, ["x"], {"a": 1, "judged": []}, Path("runs/one"))
    next(tmp_path.rglob("*.json")).write_text("{")
    with pytest.raises(FormatError, match="delete it"):
        opened_by(tmp_path, ["x"], {"b": 1, "judged": []}, Path("runs/two"))
