"""A report as Markdown: claims first, the verb's own sections, and nothing of the data that breaks out of it."""

from __future__ import annotations

from pathlib import Path

from tests.made_proofs import proof_run

import dataworth as dw
from dataworth.views.markdown import card


def test_a_card_says_what_was_found_and_what_it_rests_on(tmp_path: Path) -> None:
    run = proof_run(tmp_path, subjects=("a|b <script>alert(1)</script>",), failed={"random, trial 3": "loss is nan"})
    report = dw.view(run)
    text = card(report)
    lines = text.splitlines()
    assert lines[2].startswith("- **a\\|b &lt;script&gt;alert(1)&lt;/script&gt;: better than random, at the cost of")
    assert "<" not in text
    assert [line for line in lines if line.startswith("## ")] == [
        "## Arms",
        "## Worth in random rows",
        "## Protected skills",
        "## Notes",
        "## What it rests on",
    ]
    assert report.values["record"]["pool"]["fingerprint"] in text
    assert "random, trial 3 failed and is left out: loss is nan" in text
    widths = {line.count("|") - line.count("\\|") for line in lines if line.startswith("| ")}
    assert min(widths) >= 3
    arms = [line for line in lines if "| untouched model |" in line]
    assert len(arms) == 1
