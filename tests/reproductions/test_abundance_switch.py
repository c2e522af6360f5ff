import json

import pytest

from reproductions import abundance_switch

pytest.importorskip("torch")
pytestmark = pytest.mark.lm
TINY = ["--width", "30", "--draws", "2", "--epochs", "30", "--goal-rows", "600"]


def test_a_tiny_run_says_that_it_is_none_and_resumes(tmp_path, capsys, monkeypatch):
    ledger = tmp_path / "switch.jsonl"
    abundance_switch.main([*TINY, "--ledger", str(ledger)])
    told = capsys.readouterr().out
    assert told.startswith("not reproduced: below the stated sizes (width, draws, epochs, goal_rows)")
    lines = ledger.read_text()
    monkeypatch.setattr(abundance_switch, "draw", None)
    abundance_switch.main([*TINY, "--ledger", str(ledger)])
    assert capsys.readouterr().out == told and ledger.read_text() == lines
    result = json.loads(ledger.with_suffix(".json").read_text())
    assert [(p["alpha"], p["side"]) for p in result["switch"]] == [(1.0, "easy"), (16.0, "hard")]
    for line in lines.splitlines():
        found = json.loads(line)["value"]
        assert found["kept"] == max(("easy", "hard"), key=lambda end: found[end])
