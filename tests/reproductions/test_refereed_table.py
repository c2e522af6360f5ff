"""The README's table is made from committed results, and says neither more nor less than they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reproductions import refereed_table

ROOT = Path(__file__).parents[2]


def proof(verdict: str = "at the stated sizes") -> dict[str, Any]:
    def said(comparator: str, word: str, cost: list[str]) -> dict[str, Any]:
        gain = {"value": 0.03, "low": -0.001, "high": 0.061}
        about = {"subject": "gsm8k-less", "comparator": comparator, "verdict": word}
        return {**about, "gain": gain, "at_the_cost_of": cost}

    arms = [{"name": "gsm8k-less", "role": "subject", "rows": 140.0}, {"name": "random", "role": "random", "rows": 140}]
    worth = {"value": 300.0, "spans": [[210.0, None]], "measured": [88.0, 1400.0], "level": 0.9}
    verdicts = [said("random", "no difference shown", []), said("full", "better", ["wikitext"])]
    return {
        "verdict": verdict,
        "goal": "gsm8k",
        "epochs": {"arms": arms, "verdicts": verdicts, "worth": {"gsm8k-less": worth}},
        "tokens": {"verdicts": [said("random", "worse", [])]},
    }


def test_a_row_says_what_the_proof_said(tmp_path: Path) -> None:
    (tmp_path / "flan_proof").mkdir()
    (tmp_path / "flan_proof" / "gsm8k.json").write_text(json.dumps(proof()))
    (tmp_path / "flan_proof" / "arc_easy.json").write_text(json.dumps(proof("not reproduced: below the stated sizes")))
    lines = refereed_table.table(tmp_path).splitlines()
    assert len(lines) == 3
    cells = [c.strip() for c in lines[2].strip("|").split("|")]
    assert cells == [
        "1,400 rows of flan_cot, goal gsm8k",
        "less (140)",
        "300 [at least 210]",
        "no difference shown (+0.030 [-0.001 .. +0.061])",
        "worse (+0.030 [-0.001 .. +0.061])",
        "better at the cost of wikitext (+0.030 [-0.001 .. +0.061])",
    ]


def test_a_proof_that_is_to_come_is_no_comparison_that_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "flan_proof").mkdir()
    told = proof("at the stated sizes; so far without tokens and random draws")
    del told["tokens"]
    (tmp_path / "flan_proof" / "gsm8k.json").write_text(json.dumps(told))
    assert "| to come | better at the cost of" in refereed_table.table(tmp_path).splitlines()[2]
    (tmp_path / "flan_proof" / "gsm8k.json").write_text(json.dumps({**told, "verdict": "at the stated sizes"}))
    assert "| not compared | better at the cost of" in refereed_table.table(tmp_path).splitlines()[2]


def test_a_page_keeps_what_stands_around_the_table() -> None:
    page = f"before\n{refereed_table.BEGIN}\nold\n{refereed_table.END}\nafter\n"
    once = refereed_table.written(page, "| new |")
    assert once == f"before\n{refereed_table.BEGIN}\n\n| new |\n\n{refereed_table.END}\nafter\n"
    assert refereed_table.written(once, "| new |") == once
    with pytest.raises(SystemExit, match="expected"):
        refereed_table.written("a page", "| new |")


def test_the_readme_holds_the_table_of_the_committed_results() -> None:
    page = (ROOT / "README.md").read_text()
    if refereed_table.BEGIN not in page:
        pytest.skip("no proof has been run at its stated sizes yet")
    assert refereed_table.written(page, refereed_table.table(ROOT / "reproductions" / "results")) == page
